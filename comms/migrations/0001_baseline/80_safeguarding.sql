-- Safeguarding: what the models say of calls and messages, alerts with their evidence, whom they are about, reviews.

-- analyses: what the models say of a call -----------------------------------------------------------------------------
create table analyses (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    recording_id uuid not null,
    transcription_id uuid not null,
    risk_level text not null check (risk_level in ('none', 'low', 'medium', 'high', 'critical')),
    risk_score double precision not null check (risk_score between 0 and 1),
    confidence_level double precision not null check (confidence_level between 0 and 1),
    document jsonb not null,
    models jsonb not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, transcription_id),
    foreign key (tenant_id, recording_id) references recordings (tenant_id, id),
    foreign key (tenant_id, transcription_id) references transcriptions (tenant_id, id)
);
create index analyses_recording on analyses (tenant_id, recording_id);
alter table analyses enable row level security;
alter table analyses force row level security;
-- The safeguarding team and the data-protection officer see analyses, because they hold allegations.
create policy safeguarding_team on analyses for select to wcc_app
    using (tenant_id = (select app.tenant_for('{safeguarding_lead, reviewer, data_protection_officer, service}')));
-- Nobody sees the analysis of a recording that is withheld from them.
create policy not_about_oneself on analyses as restrictive to wcc_app
    using (recording_id <> all ((select app.recordings_withheld())::uuid[]));
-- Whoever may not hear the recording does not see its analysis.
create policy need_to_know on analyses as restrictive for select to wcc_app
    using ((select app.answers_for_safeguarding()) or app.may_hear(recording_id));
-- The worker writes analyses in the tenant that it acts for.
create policy own_tenant on analyses to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
grant select on analyses to wcc_app;
grant select, insert on analyses to wcc_worker;

-- alerts --------------------------------------------------------------------------------------------------------------
create table alerts (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    session_id uuid,
    recording_id uuid,
    analysis_id uuid,
    state text not null default 'new'
        check (state in ('new', 'claimed', 'confirmed', 'dismissed', 'escalated', 'referred')),
    severity text not null check (severity in ('low', 'medium', 'high', 'critical')),
    -- 0 critical … 3 low: the order of the queue, stored so that the index serves it
    rank integer not null generated always as (
        case severity when 'critical' then 0 when 'high' then 1 when 'medium' then 2 else 3 end) stored,
    categories text[] not null check (cardinality(categories) > 0),
    probability double precision not null check (probability between 0 and 1),
    models jsonb not null,
    claimed_by uuid,
    claimed_at timestamptz,
    version integer not null default 1,
    created_at timestamptz not null default now(),
    conversation_id uuid,
    primary key (tenant_id, id),
    unique (tenant_id, analysis_id),
    -- An alert is about either a recording, with its session and analysis, or a conversation.
    constraint alerts_rest_on_one
        check (num_nonnulls(session_id, recording_id, analysis_id)
            = case when conversation_id is null then 3 else 0 end),
    foreign key (tenant_id, session_id) references communication_sessions (tenant_id, id),
    foreign key (tenant_id, recording_id) references recordings (tenant_id, id),
    foreign key (tenant_id, analysis_id) references analyses (tenant_id, id),
    foreign key (tenant_id, claimed_by) references users (tenant_id, id),
    foreign key (tenant_id, conversation_id) references conversations (tenant_id, id)
);
create index alerts_queue on alerts (tenant_id, rank, id) where state in ('new', 'claimed', 'escalated');
create index alerts_session on alerts (tenant_id, session_id);
create index alerts_recording on alerts (tenant_id, recording_id);
create index alerts_claimer on alerts (tenant_id, claimed_by);
create index alerts_conversation on alerts (tenant_id, conversation_id, id);
alter table alerts enable row level security;
alter table alerts force row level security;
-- The safeguarding team and the data-protection officer see alerts; whoever used break-glass for an alert sees that
-- one. One policy, because no index serves the `or` of two.
create policy seen on alerts for select to wcc_app
    using (tenant_id = (select app.tenant())
        and ((select app.tenant_for('{safeguarding_lead, reviewer, data_protection_officer, service}')) is not null
            or id = any ((select app.alerts_opened())::uuid[])));
-- The safeguarding team and the data-protection officer change alerts, as far as the API's permission table allows.
create policy changed_by_team on alerts for update to wcc_app
    using (tenant_id = (select app.tenant_for('{safeguarding_lead, reviewer, data_protection_officer, service}')))
    with check (tenant_id = (select app.tenant()));
-- Nobody sees an alert about themselves, whatever their role.
create policy not_about_oneself on alerts as restrictive to wcc_app
    using (id <> all ((select app.alerts_withheld())::uuid[]));
-- The worker writes alerts in the tenant that it acts for; a further concern changes the open alert.
create policy own_tenant on alerts to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- Functions that run as the owner see, in the tenant that acts, what alerts are about.
create policy asked_by_rules on alerts for select to wcc_owner using (tenant_id = (select app.tenant()));
grant select, update on alerts to wcc_app;
grant select, insert, update (severity, categories, probability, models, version) on alerts to wcc_worker;

-- evidence ------------------------------------------------------------------------------------------------------------
create table alert_evidence (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    alert_id uuid not null,
    utterance_id uuid,
    category text not null,
    severity text not null check (severity in ('low', 'medium', 'high', 'critical')),
    probability double precision not null check (probability between 0 and 1),
    threshold double precision not null check (threshold between 0 and 1),
    model text not null,
    model_version text not null,
    -- Which characters moved the model: [{"utterance": position, "start": …, "end": …, "weight": …}], or of a message
    -- [{"message_id": …, "version": …, "start": …, "end": …, "weight": …}]. It holds no words, so whoever deletes the
    -- words deletes all of them.
    spans jsonb not null default '[]',
    message_id uuid,
    message_version integer,
    -- The spans of a message are found later; until then the whole message is the evidence. Null: they were looked for.
    -- The time is a lease: a worker that takes it moves it on, and what it does not finish comes due again, ever later.
    spans_due_at timestamptz,
    spans_tries integer not null default 0,
    primary key (tenant_id, id),
    unique (tenant_id, alert_id, utterance_id, category),
    -- Evidence is either an utterance, or a version of a message.
    constraint alert_evidence_cites_one
        check (num_nonnulls(utterance_id, message_id) = 1 and (message_id is null) = (message_version is null)),
    constraint alert_evidence_spans_of_messages check (spans_due_at is null or message_id is not null),
    foreign key (tenant_id, alert_id) references alerts (tenant_id, id),
    foreign key (tenant_id, utterance_id) references utterances (tenant_id, id),
    foreign key (tenant_id, message_id) references messages (tenant_id, id) on delete cascade
);
create index alert_evidence_utterance on alert_evidence (tenant_id, utterance_id);
create unique index alert_evidence_message
    on alert_evidence (tenant_id, message_id, message_version, alert_id, category);
create index alert_evidence_spans_due on alert_evidence (tenant_id, spans_due_at) where spans_due_at is not null;
alter table alert_evidence enable row level security;
alter table alert_evidence force row level security;
-- Evidence is seen as alerts are: by the team and the officer, and of an alert by whoever used break-glass for it.
create policy seen on alert_evidence for select to wcc_app
    using (tenant_id = (select app.tenant())
        and ((select app.tenant_for('{safeguarding_lead, reviewer, data_protection_officer, service}')) is not null
            or alert_id = any ((select app.alerts_opened())::uuid[])));
-- Nobody sees the evidence of an alert about themselves.
create policy not_about_oneself on alert_evidence as restrictive to wcc_app
    using (alert_id <> all ((select app.alerts_withheld())::uuid[]));
-- The worker writes evidence in the tenant that it acts for.
create policy own_tenant on alert_evidence to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- Functions that run as the owner see, in the tenant that acts, which messages an alert cites.
create policy asked_by_rules on alert_evidence for select to wcc_owner using (tenant_id = (select app.tenant()));
-- `app.tenants_with_unexplained_evidence` sees the evidence of all tenants that waits for its spans.
create policy waiting_asked_by_rules on alert_evidence for select to wcc_owner using (spans_due_at is not null);
grant select on alert_evidence to wcc_app;
grant select, insert, update (spans, spans_due_at, spans_tries) on alert_evidence to wcc_worker;
-- The tenants in which evidence waits for its spans: all that the worker learns across tenants.
create function app.tenants_with_unexplained_evidence() returns setof uuid language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        -- one step in the index per tenant, however many rows wait in each
        with recursive waiting as (
            (select e.tenant_id from alert_evidence e where e.spans_due_at <= now() order by e.tenant_id limit 1)
            union all
            select (select e.tenant_id from alert_evidence e where e.spans_due_at <= now()
                    and e.tenant_id > w.tenant_id order by e.tenant_id limit 1)
            from waiting w where w.tenant_id is not null)
        select w.tenant_id from waiting w where w.tenant_id is not null;
    end;
revoke all on function app.tenants_with_unexplained_evidence() from public;
grant execute on function app.tenants_with_unexplained_evidence() to wcc_worker;

-- The messages that an alert cites, with three before and three after each: enough to see a denial or a joke. It
-- returns ids and runs as the owner, because the policy of messages cannot read messages.
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
-- Those messages of the alert that this transaction opened, if the actor sees the alert; else none. It asks `alerts`
-- under its own policies, so that roles, break-glass and "not about oneself" stand in one place.
create or replace function app.messages_opened() returns uuid[] language sql stable
    begin atomic
        select case when app.alert_id() is not null and exists (
                select from alerts a where a.tenant_id = app.tenant() and a.id = app.alert_id())
            then app.messages_around(app.alert_id()) else '{}' end;
    end;

-- whom an alert is about ----------------------------------------------------------------------------------------------
-- A proposal to name somebody that needs a second person. Until then it withholds nothing.
create table alert_subject_proposals (
    tenant_id uuid not null,
    alert_id uuid not null,
    user_id uuid not null,
    proposed_by uuid,                       -- null: presumed, because they spoke or wrote words that the alert cites
    proposed_at timestamptz not null default now(),
    primary key (tenant_id, alert_id, user_id),
    foreign key (tenant_id, alert_id) references alerts (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id),
    foreign key (tenant_id, proposed_by) references users (tenant_id, id)
);
create index alert_subject_proposals_user on alert_subject_proposals (tenant_id, user_id);
create index alert_subject_proposals_proposer on alert_subject_proposals (tenant_id, proposed_by);
alter table alert_subject_proposals enable row level security;
alter table alert_subject_proposals force row level security;
-- Those who see the alert see who is proposed; nobody sees that they are proposed themselves.
create policy seen_by_others on alert_subject_proposals for select to wcc_app
    using (tenant_id = (select app.tenant_for('{safeguarding_lead, reviewer, data_protection_officer, service}'))
        and alert_id <> all ((select app.alerts_withheld())::uuid[])
        and app.person_of(user_id) <> (select app.own_person()));
-- Those who decide alerts propose in their own name.
create policy proposed_by_team on alert_subject_proposals for insert to wcc_app
    with check (tenant_id = (select app.tenant_for('{safeguarding_lead, reviewer}'))
        and proposed_by = (select app.actor()));
-- The team and the data-protection officer end a proposal: a second person confirms it, or one of them declines it.
create policy ended_by_others on alert_subject_proposals for delete to wcc_app
    using (tenant_id = (select app.tenant_for('{safeguarding_lead, reviewer, data_protection_officer}')));
-- The functions below see, in the tenant that acts, who is proposed.
create policy asked_by_rules on alert_subject_proposals for select to wcc_owner
    using (tenant_id = (select app.tenant()));
-- `app.guard_naming` adds a proposal in place of what the worker presumed.
create policy presumed_by_rule on alert_subject_proposals for insert to wcc_owner
    with check (tenant_id = (select app.tenant()) and proposed_by is null);
grant select, insert, delete on alert_subject_proposals to wcc_app;

create table alert_subjects (
    tenant_id uuid not null,
    alert_id uuid not null,
    user_id uuid not null,
    standing text not null check (standing in ('named', 'presumed', 'cleared')),
    decided_by uuid,                        -- null: presumed, because they spoke or wrote words that the alert cites
    decided_at timestamptz not null default now(),
    primary key (tenant_id, alert_id, user_id),
    foreign key (tenant_id, alert_id) references alerts (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id),
    foreign key (tenant_id, decided_by) references users (tenant_id, id)
);
create index alert_subjects_user on alert_subjects (tenant_id, user_id);
create index alert_subjects_decider on alert_subjects (tenant_id, decided_by);
alter table alert_subjects enable row level security;
alter table alert_subjects force row level security;
-- Those who see alerts see whom they are about; those who decide alerts name people in their own name.
create policy safeguarding_team on alert_subjects to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('safeguarding_lead', 'reviewer', 'data_protection_officer', 'service'))
    with check (tenant_id = (select app.tenant()) and decided_by = (select app.actor())
        and (select app.actor_role()) in ('safeguarding_lead', 'reviewer'));
-- Nobody sees that an alert is about them.
create policy not_about_oneself on alert_subjects as restrictive to wcc_app
    using (alert_id <> all ((select app.alerts_withheld())::uuid[]));
-- The data-protection officer confirms what somebody proposed, where no other member of the team can be the second
-- person, and names nobody without a proposal.
create policy confirmed_by_officer on alert_subjects for insert to wcc_app
    with check (tenant_id = (select app.tenant_for('{data_protection_officer}')) and standing = 'named'
        and decided_by = (select app.actor()) and exists (select from alert_subject_proposals p
            where p.tenant_id = alert_subjects.tenant_id and p.alert_id = alert_subjects.alert_id
                and p.user_id = alert_subjects.user_id and p.proposed_by is not null));
-- The data-protection officer also confirms a proposal about somebody who was presumed or cleared before.
create policy reconfirmed_by_officer on alert_subjects for update to wcc_app
    using (tenant_id = (select app.tenant_for('{data_protection_officer}')))
    with check (tenant_id = (select app.tenant_for('{data_protection_officer}')) and standing = 'named'
        and decided_by = (select app.actor()) and exists (select from alert_subject_proposals p
            where p.tenant_id = alert_subjects.tenant_id and p.alert_id = alert_subjects.alert_id
                and p.user_id = alert_subjects.user_id and p.proposed_by is not null));
-- The worker adds, with the alert, who is presumed.
create policy presumed_by_worker on alert_subjects for insert to wcc_worker
    with check (tenant_id = (select app.tenant()) and standing = 'presumed');
-- Functions that run as the owner see, in the tenant that acts, whom alerts are about: the person who asks must not.
create policy asked_by_rules on alert_subjects for select to wcc_owner using (tenant_id = (select app.tenant()));
grant select, insert, update on alert_subjects to wcc_app;
grant insert on alert_subjects to wcc_worker;

-- The people who can read an alert: active accounts of the roles that read alerts, except whom it is about.
create function app.able_readers(alert uuid) returns table (person uuid, role text) language sql stable
    begin atomic
        select distinct app.person_of(u.id), u.role from users u
        where u.tenant_id = app.tenant() and u.active
            and u.role in ('safeguarding_lead', 'reviewer', 'data_protection_officer')
            and not exists (select from alert_subjects s where s.tenant_id = u.tenant_id and s.alert_id = alert
                and s.standing <> 'cleared' and app.person_of(s.user_id) = app.person_of(u.id));
    end;
-- The people who had a part in naming, in this alert, a person who reads alerts, from any of their accounts.
create function app.namers_of_readers(alert uuid) returns uuid[] language sql stable
    begin atomic
        select coalesce(array_agg(app.person_of(n.namer)), '{}') from (
            select s.decided_by, s.user_id from alert_subjects s
                where s.tenant_id = app.tenant() and s.alert_id = alert and s.standing = 'named'
            union all
            select p.proposed_by, p.user_id from alert_subject_proposals p
                where p.tenant_id = app.tenant() and p.alert_id = alert) as n (namer, named)
        where n.namer is not null and exists (select from users u where u.tenant_id = app.tenant()
            and u.person_id = app.person_of(n.named)
            and u.role in ('safeguarding_lead', 'reviewer', 'data_protection_officer'));
    end;
-- What is needed before an alert is withheld from somebody, if the actor names them:
--   nothing         the actor suffices: the person reads no alerts, or it is withheld from them already, or they step
--                   back themselves, or two able readers remain besides them and the actor
--   second_person   somebody else has to propose the same
--   overseer        nobody would remain who watches over the alert: an officer, or a lead who had no part in naming
create function app.naming_needs(alert uuid, account uuid) returns text language plpgsql stable security definer
    set search_path = public, pg_temp as $$
declare
    named uuid := app.person_of(account);
    namer uuid := app.own_person();
begin
    if not exists (select from app.able_readers(alert) r where r.person = named) then
        return 'nothing';
    end if;
    if not exists (select from app.able_readers(alert) r where r.person <> named
        and (r.role = 'data_protection_officer' or r.role = 'safeguarding_lead' and r.person <> namer
            and r.person <> all (app.namers_of_readers(alert))))
    then
        return 'overseer';
    end if;
    if named = namer
        or 2 <= (select count(distinct r.person) from app.able_readers(alert) r where r.person not in (named, namer))
        or exists (select from alert_subject_proposals p where p.tenant_id = app.tenant() and p.alert_id = alert
            and app.person_of(p.user_id) = named and app.person_of(p.proposed_by) <> namer)
    then
        return 'nothing';
    end if;
    return 'second_person';
end $$;
revoke all on function app.able_readers(uuid), app.namers_of_readers(uuid), app.naming_needs(uuid, uuid) from public;
grant execute on function app.naming_needs(uuid, uuid) to wcc_app;
-- Enforces that rule for every row. Namings of one alert are decided one after the other. What the worker presumes and
-- the rule refuses becomes a proposal, which a person decides.
create function app.guard_naming() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
declare
    needs text;
begin
    perform pg_advisory_xact_lock(hashtextextended('naming/' || new.alert_id, 0));
    needs := app.naming_needs(new.alert_id, new.user_id);
    if new.decided_by is null and needs = 'overseer' then
        insert into alert_subject_proposals (tenant_id, alert_id, user_id)
            values (new.tenant_id, new.alert_id, new.user_id) on conflict do nothing;
        return null;
    end if;
    if new.decided_by is not null and needs <> 'nothing' then
        raise exception 'withholding this alert needs %', needs using errcode = 'insufficient_privilege';
    end if;
    return new;
end $$;
create trigger alert_subjects_guarded before insert or update on alert_subjects
    for each row when (new.standing <> 'cleared') execute function app.guard_naming();

-- The accounts that an event is withheld from, because its alert is about their person.
create function app.withheld_from(told jsonb) returns uuid[] language sql stable
    begin atomic
        select coalesce(array_agg(distinct x.id), '{}') from alert_subjects s
        join users u on u.tenant_id = s.tenant_id and u.id = s.user_id
        join users x on x.tenant_id = u.tenant_id
            and (x.person_id = u.person_id or x.made_alone_by = u.person_id)
        where s.tenant_id = app.tenant() and s.alert_id = (told ->> 'alert_id')::uuid and s.standing <> 'cleared';
    end;
-- All accounts that an event is kept from: those, the accounts of the person whom an event about naming names, and the
-- people who are named in an alert about its recording. Those who send events on ask it.
create function app.kept_from(type text, told jsonb) returns uuid[] language sql stable
    begin atomic
        select app.withheld_from(told)
            || case when type = 'alert.subject.changed' then array(select u.id from users u
                where u.tenant_id = app.tenant()
                    and app.person_of(u.id) = app.person_of((told ->> 'user_id')::uuid)) else '{}' end
            || case when told ? 'recording_id' then array(select s.user_id from alerts a
                join alert_subjects s on s.tenant_id = a.tenant_id and s.alert_id = a.id
                where a.tenant_id = app.tenant() and a.recording_id = (told ->> 'recording_id')::uuid
                    and s.standing = 'named') else '{}' end;
    end;

-- reviews: a person's decision about an alert -------------------------------------------------------------------------
create table reviews (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    alert_id uuid not null,
    decision text not null check (decision in ('confirm', 'dismiss', 'escalate', 'refer')),
    reason text not null check (length(reason) between 1 and 4000),
    reviewer_id uuid not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, alert_id) references alerts (tenant_id, id),
    foreign key (tenant_id, reviewer_id) references users (tenant_id, id)
);
create index reviews_alert on reviews (tenant_id, alert_id);
create index reviews_reviewer on reviews (tenant_id, reviewer_id);
alter table reviews enable row level security;
alter table reviews force row level security;
-- The safeguarding team and the officer read decisions; whoever used break-glass for an alert reads those on that one.
create policy seen on reviews for select to wcc_app
    using (tenant_id = (select app.tenant())
        and ((select app.tenant_for('{safeguarding_lead, reviewer, data_protection_officer}')) is not null
            or alert_id = any ((select app.alerts_opened())::uuid[])));
-- The safeguarding team adds decisions in its own name.
create policy added_by_team on reviews for insert to wcc_app
    with check (tenant_id = (select app.tenant_for('{safeguarding_lead, reviewer}'))
        and reviewer_id = (select app.actor()));
-- Nobody sees the reviews of an alert about themselves.
create policy not_about_oneself on reviews as restrictive to wcc_app
    using (alert_id <> all ((select app.alerts_withheld())::uuid[]));
grant select, insert on reviews to wcc_app;
create trigger reviews_immutable before update or delete on reviews
    for each row execute function app.refuse_change();

-- messages that wait to be assessed -----------------------------------------------------------------------------------
-- A trigger adds a row for each version of a message, in its transaction, so that a late commit is not missed, as it
-- would be by `id > last`. The worker deletes the row with the assessment. There is no foreign key, so that sending a
-- message does not have to check this table.
create table message_readings_due (
    tenant_id uuid not null,
    message_id uuid not null,
    version integer not null check (version >= 1),
    sender_id uuid not null,
    -- A lease: a worker that takes the row moves it on, and what it does not finish comes due again. 'infinity': the
    -- sender does not permit it.
    due_at timestamptz not null default now(),
    tries integer not null default 0,
    waits_for text check (waits_for ~ '^[a-z][a-z-]{0,62}$'),   -- a code: why it is not to be assessed now
    since timestamptz not null default now(),   -- when it was added; a try does not change it
    primary key (tenant_id, message_id, version),
    check ((waits_for is not null) = (due_at = 'infinity'))
);
create index message_readings_due_order on message_readings_due (tenant_id, due_at, message_id, version);
create index message_readings_due_withheld on message_readings_due (tenant_id, sender_id)
    where due_at = 'infinity'::timestamptz;
create index message_readings_due_since on message_readings_due (since) where due_at <> 'infinity'::timestamptz;
alter table message_readings_due enable row level security;
alter table message_readings_due force row level security;
-- The worker sees, postpones and deletes what waits in the tenant that it acts for.
create policy read_by_worker on message_readings_due to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- `app.queue_for_reading` adds rows in the tenant that acts.
create policy written_by_trigger on message_readings_due for insert to wcc_owner
    with check (tenant_id = (select app.tenant()));
-- `app.tenants_with_unread_messages` and `app.reading_lag` see what waits in all tenants.
create policy asked_by_rules on message_readings_due for select to wcc_owner using (true);
-- `app.take_due_readings` deletes rows in the tenant that acts.
create policy taken_with_message on message_readings_due for delete to wcc_owner
    using (tenant_id = (select app.tenant()));
grant select, update (due_at, tries, waits_for), delete on message_readings_due to wcc_worker;
-- Adds a message when it is sent and when its words change; system messages have no sender and are not assessed.
create function app.queue_for_reading() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    insert into message_readings_due (tenant_id, message_id, version, sender_id)
        values (new.tenant_id, new.id, new.version, new.sender_id);
    return null;
end $$;
create trigger messages_sent_for_reading after insert on messages
    for each row when (new.content is not null and new.sender_id is not null) execute function app.queue_for_reading();
create trigger messages_edited_for_reading after update of content on messages
    for each row when (new.content is not null and new.content is distinct from old.content
        and new.sender_id is not null) execute function app.queue_for_reading();
-- Deletes what waits when its message is deleted for good.
create function app.take_due_readings() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    delete from message_readings_due where tenant_id = old.tenant_id and message_id = old.id;
    return null;
end $$;
create trigger messages_gone after delete on messages for each row execute function app.take_due_readings();
-- The tenants in which something waits: all that the worker learns across tenants.
create function app.tenants_with_unread_messages() returns setof uuid language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        -- one step in the index per tenant, however many rows wait in each
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
-- How many messages of all tenants wait and for how long the oldest has, for metrics; without those that the sender
-- does not permit.
create function app.reading_lag(out unread bigint, out seconds double precision) language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select count(*), coalesce(extract(epoch from now() - min(d.since)), 0)::double precision
        from message_readings_due d where d.due_at <> 'infinity';
    end;
revoke all on function app.reading_lag() from public;
grant execute on function app.reading_lag() to wcc_app;

-- assessments: what the models say of a message -----------------------------------------------------------------------
create table message_readings (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    conversation_id uuid not null,
    message_id uuid not null,
    version integer not null check (version >= 1),
    probability double precision not null check (probability between 0 and 1),  -- of any concern
    -- those that reached their threshold: [{"category", "severity", "probability", "threshold", "spans"}], no words
    concerns jsonb not null default '[]',
    sentiment text not null check (sentiment in ('negative', 'neutral', 'positive')),
    models jsonb not null,
    created_at timestamptz not null default now(),
    turns_before integer check (turns_before >= 0), -- how many messages the models saw before it …
    turns_after integer check (turns_after >= 0),   -- … and after it
    again boolean not null default false,           -- false: the first assessment; true: after others had come
    unread_language text check (unread_language ~ '^[a-z]{2,3}$'),  -- ISO 639-1, of a text that the models cannot read
    primary key (tenant_id, id),
    foreign key (tenant_id, conversation_id) references conversations (tenant_id, id),
    foreign key (tenant_id, message_id) references messages (tenant_id, id) on delete cascade
);
create index message_readings_conversation on message_readings (tenant_id, conversation_id, id);
create unique index message_readings_first on message_readings (tenant_id, message_id, version) where not again;
create index message_readings_message on message_readings (tenant_id, message_id, version);
create index message_readings_unread on message_readings (tenant_id, created_at) where unread_language is not null;
alter table message_readings enable row level security;
alter table message_readings force row level security;
-- The safeguarding team and the data-protection officer see assessments, because they may hold an allegation.
create policy safeguarding_team on message_readings for select to wcc_app
    using (tenant_id = (select app.tenant_for('{safeguarding_lead, reviewer, data_protection_officer, service}')));
-- Nobody sees the assessments of a conversation in which an alert arose that is about them.
create policy not_about_oneself on message_readings as restrictive to wcc_app
    using (conversation_id <> all ((select app.conversations_withheld())::uuid[]));
-- The worker writes assessments in the tenant that it acts for.
create policy own_tenant on message_readings to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
grant select on message_readings to wcc_app;
grant select, insert on message_readings to wcc_worker;
