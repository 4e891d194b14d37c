-- Governance: lawful grounds and consent, break-glass, retention, the audit log.

-- lawful grounds ------------------------------------------------------------------------------------------------------
create table data_processing_activities (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    activity_type text not null check (activity_type in ('record', 'transcribe', 'analyse', 'train', 'voiceprint')),
    purpose text not null,
    legal_basis text not null check (legal_basis in (
        'consent', 'contract', 'legal_obligation', 'vital_interests', 'public_task', 'legitimate_interests',
        'recognised_legitimate_interest')),
    special_category_condition text,
    data_categories text[] not null default '{}',
    retention_period_days integer check (retention_period_days > 0),
    description text,
    decided_by uuid not null,
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    primary key (tenant_id, id),
    foreign key (tenant_id, decided_by) references users (tenant_id, id)
);
-- One activity per purpose is in force at a time, so that permits() has one answer.
create unique index data_processing_activities_current on data_processing_activities (tenant_id, activity_type)
    where ended_at is null;
create index data_processing_activities_decider on data_processing_activities (tenant_id, decided_by);
alter table data_processing_activities enable row level security;
alter table data_processing_activities force row level security;
-- Members of the tenant see on what ground their data are processed; the API's permission table says who decides it.
create policy own_tenant on data_processing_activities to wcc_app
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- The worker sees the activities of the tenant that it acts for.
create policy read_by_worker on data_processing_activities for select to wcc_worker
    using (tenant_id = (select app.tenant()));
-- The worker may lock the activity on which a stage rests, but cannot change it: the check fails for every new row.
create policy locked_by_worker on data_processing_activities for update to wcc_worker
    using (tenant_id = (select app.tenant())) with check (false);
grant select, insert, update on data_processing_activities to wcc_app;
grant select, update (description) on data_processing_activities to wcc_worker;

-- consent -------------------------------------------------------------------------------------------------------------
create table consent_records (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    data_subject_id uuid not null,
    data_processing_activity_id uuid not null,
    consent_status text not null
        check (consent_status in ('requested', 'granted', 'refused', 'withdrawn', 'expired')),
    legal_basis text not null,
    consent_method text check (length(consent_method) <= 100),
    consent_evidence jsonb not null default '{}',
    granted_at timestamptz,
    withdrawn_at timestamptz,
    expiry_date timestamptz,
    changed_by uuid not null,
    reason text,
    ip_address inet,
    user_agent text,
    version integer not null default 1,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, data_subject_id, data_processing_activity_id),
    foreign key (tenant_id, data_subject_id) references users (tenant_id, id),
    foreign key (tenant_id, changed_by) references users (tenant_id, id),
    foreign key (tenant_id, data_processing_activity_id) references data_processing_activities (tenant_id, id)
);
create index consent_records_activity on consent_records (tenant_id, data_processing_activity_id);
create index consent_records_changer on consent_records (tenant_id, changed_by);
alter table consent_records enable row level security;
alter table consent_records force row level security;
-- Members of the tenant see and record consent; the API shows a person their own, and officers all.
create policy own_tenant on consent_records to wcc_app
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- The worker sees the consent of the tenant that it acts for.
create policy read_by_worker on consent_records for select to wcc_worker using (tenant_id = (select app.tenant()));
-- The worker may lock the consent that permits a stage, but cannot change it: the check fails for every new row.
create policy locked_by_worker on consent_records for update to wcc_worker
    using (tenant_id = (select app.tenant())) with check (false);
grant select, insert, update on consent_records to wcc_app;
grant select, update (version) on consent_records to wcc_worker;

create table consent_audit_trail (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    consent_record_id uuid not null,
    action text not null,
    previous_status text,
    new_status text not null,
    reason text,
    performed_by uuid not null,
    ip_address inet,
    user_agent text,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, consent_record_id) references consent_records (tenant_id, id),
    foreign key (tenant_id, performed_by) references users (tenant_id, id)
);
create index consent_audit_trail_record on consent_audit_trail (tenant_id, consent_record_id);
create index consent_audit_trail_performer on consent_audit_trail (tenant_id, performed_by);
alter table consent_audit_trail enable row level security;
alter table consent_audit_trail force row level security;
-- Members of the tenant read the history of consent.
create policy own_tenant on consent_audit_trail for select to wcc_app using (tenant_id = (select app.tenant()));
-- `app.keep_consent_history` writes it in the tenant that acts; nobody changes it.
create policy written_by_trigger on consent_audit_trail for insert to wcc_owner
    with check (tenant_id = (select app.tenant()));
grant select on consent_audit_trail to wcc_app;
create trigger consent_audit_trail_immutable before update or delete on consent_audit_trail
    for each row execute function app.refuse_change();
create trigger consent_audit_trail_kept before truncate on consent_audit_trail
    for each statement execute function app.refuse_change();
-- Every change of consent writes its history.
create function app.keep_consent_history() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    insert into consent_audit_trail (tenant_id, consent_record_id, action, previous_status, new_status, reason,
                                     performed_by, ip_address, user_agent)
    values (new.tenant_id, new.id, new.consent_status,
            case when tg_op = 'UPDATE' then old.consent_status end, new.consent_status, new.reason,
            new.changed_by, new.ip_address, new.user_agent);
    return null;
end $$;
create trigger consent_history after insert or update on consent_records
    for each row execute function app.keep_consent_history();

-- break-glass ---------------------------------------------------------------------------------------------------------
create table broken_glass (
    tenant_id uuid not null,
    id uuid not null default uuidv7(),
    user_id uuid not null,
    session_id uuid,                        -- whose care context was opened
    alert_id uuid,
    reason text not null check (length(reason) between 1 and 2000),     -- free text: only here, never in the audit log
    expires_at timestamptz not null,
    acknowledged_by uuid,
    acknowledged_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    check (num_nonnulls(session_id, alert_id) = 1),
    check (expires_at <= created_at + interval '1 hour'),
    check (num_nulls(acknowledged_by, acknowledged_at) in (0, 2)),
    foreign key (tenant_id, user_id) references users (tenant_id, id),
    foreign key (tenant_id, session_id) references communication_sessions (tenant_id, id),
    foreign key (tenant_id, alert_id) references alerts (tenant_id, id),
    foreign key (tenant_id, acknowledged_by) references users (tenant_id, id)
);
create index broken_glass_user on broken_glass (tenant_id, user_id, expires_at);
create index broken_glass_session on broken_glass (tenant_id, session_id);
create index broken_glass_alert on broken_glass (tenant_id, alert_id);
create index broken_glass_acknowledger on broken_glass (tenant_id, acknowledged_by);
create index broken_glass_waiting on broken_glass (tenant_id, id) where acknowledged_at is null;
alter table broken_glass enable row level security;
alter table broken_glass force row level security;
-- The data-protection officer and the safeguarding lead see every use of break-glass, everybody their own.
create policy loud on broken_glass for select to wcc_app
    using (tenant_id = (select app.tenant()) and (user_id = (select app.actor())
        or (select app.actor_role()) in ('data_protection_officer', 'safeguarding_lead')));
-- Staff use break-glass for themselves.
create policy broken_by_staff on broken_glass for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and user_id = (select app.actor()) and acknowledged_at is null
        and (select app.actor_role()) in
            ('care_manager', 'care_worker', 'safeguarding_lead', 'reviewer', 'data_protection_officer'));
-- The officer and the lead acknowledge it, once, and never a use by the same person.
create policy acknowledged_by_another on broken_glass for update to wcc_app
    using (tenant_id = (select app.tenant()) and user_id <> all ((select app.own_accounts())::uuid[])
        and acknowledged_at is null
        and (select app.actor_role()) in ('data_protection_officer', 'safeguarding_lead'))
    with check (tenant_id = (select app.tenant()) and acknowledged_by = (select app.actor()));
-- Nobody uses break-glass for an alert about themselves, nor sees that somebody did.
create policy not_about_oneself on broken_glass as restrictive to wcc_app
    using (alert_id is null or alert_id <> all ((select app.alerts_withheld())::uuid[]));
-- The search, which runs as the owner, sees the uses in the tenant that acts.
create policy asked_by_need_to_know on broken_glass for select to wcc_owner using (tenant_id = (select app.tenant()));
grant select, insert, update (acknowledged_by, acknowledged_at) on broken_glass to wcc_app;
-- The alerts that the actor has opened and may still see.
create or replace function app.alerts_opened() returns uuid[] language sql stable
    begin atomic
        select coalesce(array_agg(g.alert_id), '{}') from broken_glass g
        where g.tenant_id = app.tenant() and g.user_id = app.actor() and g.alert_id is not null
            and g.expires_at > now();
    end;
-- Whether a role outside safeguarding may see what a session is about: a participant, now or earlier, its creator, the
-- manager of its home, and for a while whoever used break-glass.
create or replace function app.is_near_session(wanted uuid) returns boolean language sql stable
    begin atomic
        select exists (select from session_participants p
                where p.tenant_id = app.tenant() and p.session_id = wanted and p.user_id = app.actor())
            or exists (select from communication_sessions s
                where s.tenant_id = app.tenant() and s.id = wanted and (s.created_by = app.actor()
                    or app.actor_role() = 'care_manager' and s.home_id = (select u.home_id from users u
                        where u.tenant_id = app.tenant() and u.id = app.actor())))
            or exists (select from broken_glass g
                where g.tenant_id = app.tenant() and g.user_id = app.actor() and g.session_id = wanted
                    and g.expires_at > now());
    end;
-- Whether such a role may hear a recording: those near its session, and for a while whoever used break-glass for an
-- alert about it.
create or replace function app.may_hear(recording uuid) returns boolean language sql stable
    begin atomic
        select exists (select from recordings r
                where r.tenant_id = app.tenant() and r.id = recording and app.is_near_session(r.session_id))
            or exists (select from broken_glass g join alerts a on a.tenant_id = g.tenant_id and a.id = g.alert_id
                where g.tenant_id = app.tenant() and g.user_id = app.actor() and g.expires_at > now()
                    and a.recording_id = recording);
    end;

-- retention -----------------------------------------------------------------------------------------------------------
-- How long a tenant keeps the rows of a category. Without a row: the default in `app.days_kept`.
create table retention_rules (
    tenant_id uuid not null references tenants (id),
    category text not null check (category in ('messages', 'events', 'webhook_deliveries', 'sign_ins')),
    days integer not null check (days between 30 and 36500),
    decided_by uuid not null,
    version integer not null default 1,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, category),
    foreign key (tenant_id, decided_by) references users (tenant_id, id)
);
create index retention_rules_decider on retention_rules (tenant_id, decided_by);
alter table retention_rules enable row level security;
alter table retention_rules force row level security;
-- The data-protection officer decides how long things are kept; the safeguarding lead sees it.
create policy decided_by_officer on retention_rules to wcc_app
    using (tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}')))
    with check (tenant_id = (select app.tenant_for('{data_protection_officer}'))
        and decided_by = (select app.actor()));
-- The functions below see the rules of the tenant that acts.
create policy asked_by_rules on retention_rules for select to wcc_owner using (tenant_id = (select app.tenant()));
grant select, insert, update on retention_rules to wcc_app;

-- What must not be deleted, however old: a message, or a whole conversation.
create table retention_holds (
    tenant_id uuid not null,
    id uuid not null default uuidv7(),
    conversation_id uuid not null,
    message_id uuid,                        -- null: the whole conversation. No foreign key: a hold may outlive it
    reference text not null check (reference ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$'),  -- of a case: a code, no words
    placed_by uuid not null,
    created_at timestamptz not null default now(),
    released_by uuid,
    released_at timestamptz,
    primary key (tenant_id, id),
    check (num_nulls(released_by, released_at) in (0, 2)),
    foreign key (tenant_id, conversation_id) references conversations (tenant_id, id),
    foreign key (tenant_id, placed_by) references users (tenant_id, id),
    foreign key (tenant_id, released_by) references users (tenant_id, id)
);
create index retention_holds_conversation on retention_holds (tenant_id, conversation_id);
create index retention_holds_placer on retention_holds (tenant_id, placed_by);
create index retention_holds_releaser on retention_holds (tenant_id, released_by);
-- Whether the person who acts sent the message.
create function app.sent_by_oneself(message uuid) returns boolean language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select exists (select from messages m where m.tenant_id = app.tenant() and m.id = message
            and app.person_of(m.sender_id) = app.own_person());
    end;
-- Whether the conversation, and the message in it if one is named, exist in the tenant that acts.
create function app.can_be_held(conversation uuid, message uuid) returns boolean language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select exists (select from conversations c where c.tenant_id = app.tenant() and c.id = conversation)
            and (message is null or exists (select from messages m
                where m.tenant_id = app.tenant() and m.id = message and m.conversation_id = conversation));
    end;
revoke all on function app.sent_by_oneself(uuid), app.can_be_held(uuid, uuid) from public;
grant execute on function app.sent_by_oneself(uuid), app.can_be_held(uuid, uuid) to wcc_app;
alter table retention_holds enable row level security;
alter table retention_holds force row level security;
-- The data-protection officer and the safeguarding lead see holds.
create policy seen_by_officers on retention_holds for select to wcc_app
    using (tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}')));
-- They place holds in their own name, on what exists in their tenant.
create policy placed_by_officers on retention_holds for insert to wcc_app
    with check (tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}'))
        and placed_by = (select app.actor()) and released_at is null
        and app.can_be_held(conversation_id, message_id));
-- They release a hold, once; a released hold stays as it is.
create policy released_once on retention_holds for update to wcc_app
    using (tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}')) and released_at is null)
    with check (tenant_id = (select app.tenant()) and released_by = (select app.actor()));
-- Nobody sees, places or releases a hold on a conversation in which an alert arose that is about them, nor another
-- person's hold on a message that they sent: it may be held because of them.
create policy not_about_oneself on retention_holds as restrictive to wcc_app
    using (conversation_id <> all ((select app.conversations_withheld())::uuid[])
        and (message_id is null or placed_by = (select app.actor()) or not app.sent_by_oneself(message_id)));
-- The functions below see the holds of the tenant that acts.
create policy asked_by_rules on retention_holds for select to wcc_owner using (tenant_id = (select app.tenant()));
grant select, insert, update (released_by, released_at) on retention_holds to wcc_app;

-- For how many days the tenant that acts keeps rows of a category.
create or replace function app.days_kept(wanted text) returns integer language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select coalesce(
            (select r.days from retention_rules r where r.tenant_id = app.tenant() and r.category = wanted),
            case wanted when 'messages' then 2922   -- eight years: adult social care's records
                when 'sign_ins' then 365 when 'events' then 90 when 'webhook_deliveries' then 90 end);
    end;
revoke all on function app.days_kept(text) from public;
grant execute on function app.days_kept(text) to wcc_app;
-- Whether a hold or an alert that was not dismissed keeps an old message.
create or replace function app.message_is_held(message uuid, conversation uuid) returns boolean language sql stable
    begin atomic
        select exists (select from retention_holds h
            where h.tenant_id = app.tenant() and h.conversation_id = conversation and h.released_at is null
                and (h.message_id is null or h.message_id = message))
            or exists (select from alert_evidence e join alerts a on a.tenant_id = e.tenant_id and a.id = e.alert_id
                where e.tenant_id = app.tenant() and e.message_id = message and a.state <> 'dismissed');
    end;
revoke all on function app.message_is_held(uuid, uuid) from public;

-- Each of these deletes, in the tenant that acts, at most `most` of the oldest rows that may go, and returns how many.
-- One batch is one transaction. Only the keeper calls them; it has no grant on the tables.
create function app.erase_messages(most integer) returns bigint language sql security definer
    set search_path = public, pg_temp
    begin atomic
        with erased as (
            delete from messages where tenant_id = app.tenant() and id = any (array(
                select m.id from messages m
                where m.tenant_id = app.tenant() and m.id < app.first_id(app.kept_since('messages'))
                    and not app.message_is_held(m.id, m.conversation_id)
                order by m.id limit most)) returning 1)
        select count(*) from erased;
    end;
create function app.erase_webhook_deliveries(most integer) returns bigint language sql security definer
    set search_path = public, pg_temp
    begin atomic
        with erased as (
            delete from webhook_deliveries where tenant_id = app.tenant() and id = any (array(
                select d.id from webhook_deliveries d
                where d.tenant_id = app.tenant() and d.id < app.first_id(app.kept_since('webhook_deliveries'))
                    and d.state <> 'waiting' and d.ended_at < app.kept_since('webhook_deliveries')
                order by d.id limit most)) returning 1)
        select count(*) from erased;
    end;
create function app.erase_events(most integer) returns bigint language sql security definer
    set search_path = public, pg_temp
    begin atomic
        with erased as (
            delete from events where tenant_id = app.tenant() and id = any (array(
                select e.id from events e
                where e.tenant_id = app.tenant() and e.id < app.first_id(app.kept_since('events'))
                    and not exists (select from webhook_deliveries d
                        where d.tenant_id = e.tenant_id and d.event_id = e.id)
                order by e.id limit most)) returning 1)
        select count(*) from erased;
    end;
create function app.erase_sign_ins(most integer) returns bigint language sql security definer
    set search_path = public, pg_temp
    begin atomic
        with erased as (
            delete from sign_ins where tenant_id = app.tenant() and id = any (array(
                select s.id from sign_ins s
                where s.tenant_id = app.tenant() and s.id < app.first_id(app.kept_since('sign_ins'))
                order by s.id limit most)) returning 1)
        select count(*) from erased;
    end;
-- How many messages are past their retention period and are held.
create function app.count_held_messages() returns bigint language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select count(*) from messages m
        where m.tenant_id = app.tenant() and m.id < app.first_id(app.kept_since('messages'))
            and app.message_is_held(m.id, m.conversation_id);
    end;
revoke all on function app.erase_messages(integer), app.count_held_messages(), app.erase_webhook_deliveries(integer),
    app.erase_events(integer), app.erase_sign_ins(integer) from public;
grant execute on function app.erase_messages(integer), app.count_held_messages(), app.erase_webhook_deliveries(integer),
    app.erase_events(integer), app.erase_sign_ins(integer) to wcc_keeper;

-- the audit log -------------------------------------------------------------------------------------------------------
create table audit_log (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    actor_id uuid not null,
    actor_role text not null,
    action text not null,
    object_type text not null,
    object_id uuid not null,
    details jsonb not null default '{}',
    created_at timestamptz not null default now(),
    -- From the transaction: which request, from which address, for which reason (a code, no words).
    request_id uuid default app.request_id(),
    address inet default app.address(),
    reason text default app.reason() check (reason ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$'),
    primary key (tenant_id, id)
) partition by range (id);
create index audit_log_object on audit_log (tenant_id, object_type, object_id);
create index audit_log_actor on audit_log (tenant_id, actor_id, id);
alter table audit_log enable row level security;
alter table audit_log force row level security;
-- Everybody's acts are written, in the name of the actor.
create policy written on audit_log for insert to wcc_app, wcc_worker
    with check (tenant_id = (select app.tenant()) and actor_id = (select app.actor()));
-- The data-protection officer and the safeguarding lead read the log.
create policy read_by_officers on audit_log for select to wcc_app
    using (tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}')));
-- Nobody sees an act on an alert or a recording that is withheld from them.
create policy not_about_oneself on audit_log as restrictive for select to wcc_app
    using (object_id <> all ((select app.objects_withheld())::uuid[]));
-- Nobody sees an act that names, anywhere, what is withheld from them, nor an act on a hold that they do not see.
create policy names_nothing_withheld on audit_log as restrictive for select to wcc_app
    using (object_id <> all ((select app.ids_withheld())::uuid[])
        and not app.names_any(details, (select app.ids_withheld())::uuid[])
        and (object_type <> 'hold' or exists (select from retention_holds h
            where h.tenant_id = audit_log.tenant_id and h.id = audit_log.object_id)));
-- Nobody sees an act that says whether an alert is about them.
create policy proposed_unseen on audit_log as restrictive for select to wcc_app
    using (action not like 'alert.subject.%'
        or app.person_of((details ->> 'user_id')::uuid) <> (select app.own_person()));
-- The sealer reads the acts of all tenants, whose chains it makes.
create policy read_by_sealer on audit_log for select to wcc_sealer using (true);
-- The sender writes one act: that it disabled a webhook.
create policy written_by_sender on audit_log for insert to wcc_sender
    with check (tenant_id = (select app.tenant()) and actor_id = (select app.actor()) and action = 'webhook.disabled');
-- The keeper writes one act: that it deleted old rows.
create policy written_by_keeper on audit_log for insert to wcc_keeper
    with check (tenant_id = (select app.tenant()) and actor_id = (select app.actor()) and action = 'retention.swept');
grant select, insert on audit_log to wcc_app;
grant insert on audit_log to wcc_worker, wcc_sender, wcc_keeper;
grant select on audit_log to wcc_sealer;
create trigger audit_log_immutable before update or delete on audit_log
    for each row execute function app.refuse_change();
create trigger audit_log_kept before truncate on audit_log
    for each statement execute function app.refuse_change();
create table partitions.audit_log_before (like audit_log including all);
select app.attach_first_partition('audit_log');

-- Acts that wait for their seal. A trigger adds a row in the transaction of the act, so that a late commit is not
-- missed, as it would be by `id > last`. There is no foreign key: a row without its act shows that an act was removed.
create table audit_unsealed (
    tenant_id uuid not null,
    audit_id uuid not null,
    primary key (tenant_id, audit_id)
);
create index audit_unsealed_oldest on audit_unsealed (audit_id);
alter table audit_unsealed enable row level security;
alter table audit_unsealed force row level security;
-- Those who read the tenant's acts see which of them wait.
create policy read_by_officers on audit_unsealed for select to wcc_app
    using (tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}')));
-- `app.queue_for_seal` adds rows in the tenant that acts.
create policy written_by_trigger on audit_unsealed for insert to wcc_owner
    with check (tenant_id = (select app.tenant()));
-- The sealer sees what waits in all tenants.
create policy read_by_sealer on audit_unsealed for select to wcc_sealer using (true);
-- The sealer deletes what it has sealed.
create policy taken_by_sealer on audit_unsealed for delete to wcc_sealer using (true);
grant select on audit_unsealed to wcc_app;
grant select, delete on audit_unsealed to wcc_sealer;
create function app.queue_for_seal() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    insert into audit_unsealed (tenant_id, audit_id) values (new.tenant_id, new.id);
    return null;
end $$;
create trigger audit_log_queued after insert on audit_log
    for each row execute function app.queue_for_seal();

-- The seals: one hash chain per tenant.
create table audit_seals (
    tenant_id uuid not null references tenants (id),
    number bigint not null check (number >= 1),
    audit_id uuid not null,
    hash bytea not null check (length(hash) = 32),   -- of the hash before it, the number and the act
    sealed_at timestamptz not null default now(),
    primary key (tenant_id, number),
    unique (tenant_id, audit_id),
    foreign key (tenant_id, audit_id) references audit_log (tenant_id, id)
);
alter table audit_seals enable row level security;
alter table audit_seals force row level security;
-- Those who read the tenant's acts see their seals.
create policy read_by_officers on audit_seals for select to wcc_app
    using (tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}')));
-- The sealer sees the seals of all tenants.
create policy read_by_sealer on audit_seals for select to wcc_sealer using (true);
-- The sealer adds seals for all tenants; nobody changes one.
create policy laid_by_sealer on audit_seals for insert to wcc_sealer with check (true);
grant select on audit_seals to wcc_app;
grant select, insert on audit_seals to wcc_sealer;
create trigger audit_seals_immutable before update or delete on audit_seals
    for each row execute function app.refuse_change();
create trigger audit_seals_kept before truncate on audit_seals
    for each statement execute function app.refuse_change();
