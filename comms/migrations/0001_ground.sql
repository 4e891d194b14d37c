-- The ground: tenants, people, sessions, lawful grounds and consent.
-- Each table stands with its index, grant and policy; the sentence over a policy says who may see the row.
-- Policies read the session settings through (select …) so that they are evaluated once a query, not once a row.

create schema if not exists app;
grant usage on schema app to wcc_app, wcc_worker, wcc_relay;

create function app.tenant() returns uuid language sql stable
    return nullif(current_setting('app.tenant_id', true), '')::uuid;
create function app.actor() returns uuid language sql stable
    return nullif(current_setting('app.user_id', true), '')::uuid;
create function app.actor_role() returns text language sql stable
    return nullif(current_setting('app.role', true), '');

create function app.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;

-- tenants -----------------------------------------------------------------------------------------------------
create table tenants (
    id uuid primary key default uuidv7(),
    slug text not null unique check (slug ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name text not null,
    created_at timestamptz not null default now()
);
alter table tenants enable row level security;
alter table tenants force row level security;
grant select, insert on tenants to wcc_app;
grant select on tenants to wcc_worker;
-- A tenant sees itself; the platform's administrator sees and makes all.
create policy own_tenant on tenants for select to wcc_app, wcc_worker
    using (id = (select app.tenant()) or (select app.actor_role()) = 'platform_admin');
create policy made_by_platform on tenants for insert to wcc_app
    with check ((select app.actor_role()) = 'platform_admin');

-- homes -------------------------------------------------------------------------------------------------------
create table homes (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    name text not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, name)
);
alter table homes enable row level security;
alter table homes force row level security;
grant select, insert, update on homes to wcc_app;
grant select on homes to wcc_worker;
-- Everyone in the tenant sees its homes.
create policy own_tenant on homes to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));

-- users: everyone who takes part, signed in or not (a guest is a user with the role 'external') -----------------------
create table users (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    slug text not null check (slug ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    display_name text not null,
    email text,
    role text not null check (role in (
        'platform_admin', 'data_protection_officer', 'safeguarding_lead', 'reviewer', 'care_manager',
        'care_worker', 'resident', 'external', 'data_scientist', 'service')),
    home_id uuid,
    active boolean not null default true,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, slug),
    foreign key (tenant_id, home_id) references homes (tenant_id, id)
);
create index users_home on users (tenant_id, home_id);
alter table users enable row level security;
alter table users force row level security;
grant select, insert, update on users to wcc_app;
grant select on users to wcc_worker;
-- Everyone in the tenant sees who belongs to it.
create policy own_tenant on users to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));

-- sessions ------------------------------------------------------------------------------------------------------
create table communication_sessions (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    session_type text not null check (session_type in ('video_call', 'audio_call', 'meeting', 'handover', 'imported')),
    title text not null check (length(title) between 1 and 255),
    description text,
    scheduled_start_time timestamptz,
    actual_start_time timestamptz,
    end_time timestamptz,
    status text not null default 'scheduled' check (status in ('scheduled', 'active', 'ended', 'cancelled')),
    recording_enabled boolean not null default false,
    care_context jsonb not null default '{}',
    home_id uuid,
    created_by uuid not null,
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, home_id) references homes (tenant_id, id),
    foreign key (tenant_id, created_by) references users (tenant_id, id)
);
create index communication_sessions_open on communication_sessions (tenant_id, status)
    where status in ('active', 'scheduled');
create index communication_sessions_home on communication_sessions (tenant_id, home_id);
create index communication_sessions_creator on communication_sessions (tenant_id, created_by);
alter table communication_sessions enable row level security;
alter table communication_sessions force row level security;
grant select, insert, update on communication_sessions to wcc_app;
grant select on communication_sessions to wcc_worker;
-- Members of the tenant see its sessions; which roles may list or change them is the API's permission table.
create policy own_tenant on communication_sessions to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));

create table session_participants (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    session_id uuid not null,
    user_id uuid not null,
    participant_type text not null
        check (participant_type in ('staff', 'resident', 'family', 'professional', 'guest')),
    permissions jsonb not null default '{}',
    joined_at timestamptz,
    left_at timestamptz,
    connection_quality_metrics jsonb,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, session_id, user_id),
    foreign key (tenant_id, session_id) references communication_sessions (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index session_participants_user on session_participants (tenant_id, user_id);
alter table session_participants enable row level security;
alter table session_participants force row level security;
grant select, insert, update on session_participants to wcc_app;
grant select on session_participants to wcc_worker;
-- Members of the tenant see who takes part in its sessions.
create policy own_tenant on session_participants to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));

-- lawful grounds and consent ---------------------------------------------------------------------------------------
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
-- One activity a purpose is in force at a time, so that permits() has one answer.
create unique index data_processing_activities_current on data_processing_activities (tenant_id, activity_type)
    where ended_at is null;
create index data_processing_activities_decider on data_processing_activities (tenant_id, decided_by);
alter table data_processing_activities enable row level security;
alter table data_processing_activities force row level security;
grant select, insert, update on data_processing_activities to wcc_app;
-- The worker may lock the activity on which a stage rests, never change it (the check fails for any new row).
grant select, update (description) on data_processing_activities to wcc_worker;
-- Members of the tenant see on what ground their data are processed.
create policy own_tenant on data_processing_activities to wcc_app
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
create policy read_by_worker on data_processing_activities for select to wcc_worker
    using (tenant_id = (select app.tenant()));
create policy locked_by_worker on data_processing_activities for update to wcc_worker
    using (tenant_id = (select app.tenant())) with check (false);

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
grant select, insert, update on consent_records to wcc_app;
-- The worker may lock the row that permits a stage, never change it (the check fails for any new row).
grant select, update (version) on consent_records to wcc_worker;
-- Members of the tenant see consent; the API lets a person see their own and officers see all.
create policy own_tenant on consent_records to wcc_app
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
create policy read_by_worker on consent_records for select to wcc_worker
    using (tenant_id = (select app.tenant()));
create policy locked_by_worker on consent_records for update to wcc_worker
    using (tenant_id = (select app.tenant())) with check (false);

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
grant select on consent_audit_trail to wcc_app;
-- Members of the tenant may read the history; only the trigger below writes it; nobody changes it.
create policy own_tenant on consent_audit_trail for select to wcc_app
    using (tenant_id = (select app.tenant()));
create policy written_by_trigger on consent_audit_trail for insert to wcc_owner
    with check (tenant_id = (select app.tenant()));
create trigger consent_audit_trail_immutable before update or delete on consent_audit_trail
    for each row execute function app.refuse_change();
create trigger consent_audit_trail_kept before truncate on consent_audit_trail
    for each statement execute function app.refuse_change();

-- The database itself keeps the history: no change of consent can be made without its row here.
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
