-- Every message is read for safeguarding: what waits to be read, what was read, alerts that rest on a conversation, and
-- the one line by which those who answer for safeguarding see the messages that an alert cites.

-- versions that wait to be read ---------------------------------------------------------------------------------------
-- Written with each version of a message in its own transaction and taken away with its reading: one that commits late
-- is there when it commits, where an `id > last` would pass over it. No foreign key: what waits outlives nothing, and
-- a message must be sent without asking this table.
create table message_readings_due (
    tenant_id uuid not null,
    message_id uuid not null,
    version integer not null check (version >= 1),
    sender_id uuid not null,
    -- The models work on it until then at most; what was not kept by then comes due again. 'infinity': not to be read
    -- before its sender permits it.
    due_at timestamptz not null default now(),
    tries integer not null default 0,
    waits_for text check (waits_for ~ '^[a-z][a-z-]{0,62}$'),   -- a code: why it is not to be read now
    primary key (tenant_id, message_id, version),
    check ((waits_for is not null) = (due_at = 'infinity'))
);
create index message_readings_due_order on message_readings_due (tenant_id, due_at, message_id, version);
create index message_readings_due_withheld on message_readings_due (tenant_id, sender_id)
    where due_at = 'infinity'::timestamptz;
-- What was written before there were readings, former words too.
alter table message_versions no force row level security;
insert into message_readings_due (tenant_id, message_id, version, sender_id)
    select tenant_id, id, version, sender_id from messages where content is not null and sender_id is not null
    union all
    select tenant_id, message_id, version, written_by from message_versions
        where standing = 'former' and written_by is not null;
alter table message_versions force row level security;
alter table message_readings_due enable row level security;
alter table message_readings_due force row level security;
grant select, update (due_at, tries, waits_for), delete on message_readings_due to wcc_worker;
-- The worker sees what waits in the tenant that it acts for, puts it off and takes it away.
create policy read_by_worker on message_readings_due to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- Only the trigger below writes, for the tenant that acts.
create policy written_by_trigger on message_readings_due for insert to wcc_owner
    with check (tenant_id = (select app.tenant()));

create function app.queue_for_reading() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    insert into message_readings_due (tenant_id, message_id, version, sender_id)
        values (new.tenant_id, new.id, new.version, new.sender_id);
    return null;
end $$;
-- What the house itself says is nobody's words.
create trigger messages_sent_for_reading after insert on messages
    for each row when (new.content is not null and new.sender_id is not null) execute function app.queue_for_reading();
create trigger messages_edited_for_reading after update of content on messages
    for each row when (new.content is not null and new.content is distinct from old.content
        and new.sender_id is not null) execute function app.queue_for_reading();

-- The tenants in which something waits: that something does is all that the worker learns across tenants.
create policy asked_by_rules on message_readings_due for select to wcc_owner using (true);
create function app.tenants_with_unread_messages() returns setof uuid language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        -- a step of the index a tenant, however much waits in each
        with recursive waiting as (
            (select d.tenant_id from message_readings_due d order by d.tenant_id limit 1)
            union all
            select (select d.tenant_id from message_readings_due d where d.tenant_id > w.tenant_id
                    order by d.tenant_id limit 1)
            from waiting w where w.tenant_id is not null)
        select w.tenant_id from waiting w where w.tenant_id is not null;
    end;
revoke all on function app.tenants_with_unread_messages() from public;
grant execute on function app.tenants_with_unread_messages() to wcc_worker;

-- alerts may rest on a conversation -----------------------------------------------------------------------------------
alter table alerts alter column session_id drop not null;
alter table alerts alter column recording_id drop not null;
alter table alerts alter column analysis_id drop not null;
alter table alerts add column conversation_id uuid;
alter table alerts add foreign key (tenant_id, conversation_id) references conversations (tenant_id, id);
-- Exactly one: a recording with its session and analysis, or a conversation.
alter table alerts add constraint alerts_rest_on_one
    check (num_nonnulls(session_id, recording_id, analysis_id) = case when conversation_id is null then 3 else 0 end);
create index alerts_conversation on alerts (tenant_id, conversation_id, id);
-- A further concern joins the alert that is open.
grant update (severity, categories, probability, models, version) on alerts to wcc_worker;

alter table alert_evidence alter column utterance_id drop not null;
alter table alert_evidence add column message_id uuid;
alter table alert_evidence add column message_version integer;
alter table alert_evidence add foreign key (tenant_id, message_id) references messages (tenant_id, id);
-- Exactly one: an utterance, or a message as it was at a version. Of a message, `spans` is
-- [{"message_id": …, "version": …, "start": …, "end": …, "weight": …}]: characters, as for utterances.
alter table alert_evidence add constraint alert_evidence_cites_one
    check (num_nonnulls(utterance_id, message_id) = 1 and (message_id is null) = (message_version is null));
create unique index alert_evidence_message
    on alert_evidence (tenant_id, message_id, message_version, alert_id, category);
-- The rule below sees which messages an alert of the tenant that asks cites.
create policy asked_by_rules on alert_evidence for select to wcc_owner using (tenant_id = (select app.tenant()));

-- As before, without the alerts that rest on no recording: a null in the list would hide every recording.
create or replace function app.recordings_withheld() returns uuid[] language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select coalesce(array_agg(distinct a.recording_id), '{}') from alert_subjects s
        join alerts a on a.tenant_id = s.tenant_id and a.id = s.alert_id
        where s.tenant_id = app.tenant() and s.user_id = app.actor() and a.recording_id is not null
            and (s.standing = 'named' or s.standing = 'presumed' and app.actor_role() in
                ('safeguarding_lead', 'reviewer', 'data_protection_officer'));
    end;
-- The conversations in which an alert arose that is about whoever acts: what models say of them is not for that person.
create function app.conversations_withheld() returns uuid[] language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select coalesce(array_agg(distinct a.conversation_id), '{}') from alert_subjects s
        join alerts a on a.tenant_id = s.tenant_id and a.id = s.alert_id
        where s.tenant_id = app.tenant() and s.user_id = app.actor() and a.conversation_id is not null
            and s.standing <> 'cleared';
    end;

-- what the models say of a message ----------------------------------------------------------------------------------
create table message_readings (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    conversation_id uuid not null,
    message_id uuid not null,
    version integer not null check (version >= 1),
    probability double precision not null check (probability between 0 and 1),  -- that it voices any concern
    -- those that reached their thresholds: [{"category", "severity", "probability", "threshold", "spans"}], no words
    concerns jsonb not null default '[]',
    sentiment text not null check (sentiment in ('negative', 'neutral', 'positive')),
    models jsonb not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, message_id, version),
    foreign key (tenant_id, conversation_id) references conversations (tenant_id, id),
    foreign key (tenant_id, message_id) references messages (tenant_id, id)
);
create index message_readings_conversation on message_readings (tenant_id, conversation_id, id);
alter table message_readings enable row level security;
alter table message_readings force row level security;
grant select on message_readings to wcc_app;
grant select, insert on message_readings to wcc_worker;
-- The safeguarding team and the data-protection officer: a reading may hold an allegation.
create policy safeguarding_team on message_readings for select to wcc_app
    using (tenant_id = (select app.tenant_for('{safeguarding_lead, reviewer, data_protection_officer, service}')));
-- Whatever the role: what is about a person is not for that person.
create policy not_about_oneself on message_readings as restrictive to wcc_app
    using (conversation_id <> all ((select app.conversations_withheld())::uuid[]));
-- The worker keeps what it read, within the tenant it acts for.
create policy own_tenant on message_readings to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));

-- the line by which an alert leads to messages ------------------------------------------------------------------------
-- The alert that this transaction opened, and logged that it did; null for every other.
create function app.alert_id() returns uuid language sql stable
    return nullif(current_setting('app.alert_id', true), '')::uuid;
-- The messages that an alert of the tenant cites, with three before and three after each: enough to see a denial or a
-- joke. Ids alone; it runs as the owner, since the rule on messages cannot ask messages.
create function app.messages_around(alert uuid) returns uuid[] language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select coalesce(array_agg(distinct near.id), '{}') from alert_evidence e
        join messages m on m.tenant_id = e.tenant_id and m.id = e.message_id
        cross join lateral (
            (select b.id from messages b where b.tenant_id = m.tenant_id and b.conversation_id = m.conversation_id
                and b.id <= m.id order by b.id desc limit 4)
            union all
            (select a.id from messages a where a.tenant_id = m.tenant_id and a.conversation_id = m.conversation_id
                and a.id > m.id order by a.id limit 3)) near
        where e.tenant_id = app.tenant() and e.alert_id = alert;
    end;
revoke all on function app.messages_around(uuid) from public;
grant execute on function app.messages_around(uuid) to wcc_app;
-- None unless an alert is open in this transaction that whoever acts may see: `alerts` is asked under its own policies,
-- so that the roles, the broken glass and 'not about oneself' stand in one place.
create function app.messages_opened() returns uuid[] language sql stable
    begin atomic
        select case when app.alert_id() is not null and exists (
                select from alerts a where a.tenant_id = app.tenant() and a.id = app.alert_id())
            then app.messages_around(app.alert_id()) else '{}' end;
    end;
-- Members see what was sent after they joined (or all of it, where they were given the history) and until they left;
-- what changed after they left they see no more. No role stands in for membership: who may see an alert sees, while
-- they have it open, the messages that it cites and the few around them. That a message was deleted (it holds no words
-- any more) the officer and the lead see, to reach what was there.
-- Still one policy, so that tenant and conversation lead into the index (0011).
alter policy need_to_know on messages
    using (tenant_id = (select app.tenant()) and (
        exists (select from conversation_members m
            where m.tenant_id = messages.tenant_id and m.conversation_id = messages.conversation_id
                and m.user_id = (select app.actor()) and messages.id > m.after_id
                and (m.until_id is null or messages.changed_id <= m.until_id))
        or deleted_at is not null
            and tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}'))
        or id = any ((select app.messages_opened())::uuid[])));
-- Who sees a message sees what it was, until it is deleted; from then on the data-protection officer and the
-- safeguarding lead do, and whoever has an alert open that cites it: what was said stays evidence. All of it logged.
alter policy as_the_message on message_versions
    using (tenant_id = (select app.tenant()) and exists (select from messages m
        where m.tenant_id = message_versions.tenant_id and m.id = message_versions.message_id
            and (m.deleted_at is null
                or m.tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}'))
                or m.id = any ((select app.messages_opened())::uuid[]))));
