-- The walk of a recording: recording, tracks, transcript, analysis, alert, review.

create table recordings (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    session_id uuid not null,
    status text not null check (status in ('recording', 'processing', 'ready', 'parked', 'deleted')),
    parked_reason text,
    duration_seconds double precision check (duration_seconds >= 0),
    started_by uuid not null,
    started_at timestamptz not null default now(),
    completed_at timestamptz,
    version integer not null default 1,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, session_id) references communication_sessions (tenant_id, id),
    foreign key (tenant_id, started_by) references users (tenant_id, id)
);
create index recordings_session on recordings (tenant_id, session_id, created_at desc);
create index recordings_starter on recordings (tenant_id, started_by);
-- A session has at most one recording running.
create unique index recordings_running on recordings (tenant_id, session_id) where status = 'recording';
alter table recordings enable row level security;
alter table recordings force row level security;
grant select, insert, update on recordings to wcc_app;
grant select, update on recordings to wcc_worker;
-- Members of the tenant see that a recording exists; the API's permission table says who may hear it.
create policy own_tenant on recordings to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));

create table recording_tracks (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    recording_id uuid not null,
    position integer not null check (position >= 0),
    participant_id uuid,             -- null: one track of everybody
    object_key text not null,
    media_type text not null,
    size_bytes bigint not null check (size_bytes > 0),
    duration_seconds double precision not null check (duration_seconds >= 0),
    wrapped_key bytea,               -- the data key of this track, wrapped by the key service; null: shredded
    key_id text not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, recording_id, position),
    unique (tenant_id, object_key),
    foreign key (tenant_id, recording_id) references recordings (tenant_id, id),
    foreign key (tenant_id, participant_id) references session_participants (tenant_id, id)
);
create index recording_tracks_participant on recording_tracks (tenant_id, participant_id);
alter table recording_tracks enable row level security;
alter table recording_tracks force row level security;
grant select, insert, update (wrapped_key) on recording_tracks to wcc_app;
grant select on recording_tracks to wcc_worker;
-- As recordings.
create policy own_tenant on recording_tracks to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));

create table transcriptions (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    recording_id uuid not null,
    revision integer not null default 1 check (revision >= 1),
    provider text not null,
    language text not null default 'en',
    confidence_score double precision check (confidence_score between 0 and 1),
    word_count integer not null check (word_count >= 0),
    duration_seconds double precision not null check (duration_seconds >= 0),
    speakers text[] not null default '{}',
    words jsonb not null,
    models jsonb not null,
    status text not null default 'completed' check (status in ('pending', 'processing', 'completed', 'failed')),
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, recording_id, revision),
    foreign key (tenant_id, recording_id) references recordings (tenant_id, id)
);
alter table transcriptions enable row level security;
alter table transcriptions force row level security;
grant select on transcriptions to wcc_app;
grant select, insert on transcriptions to wcc_worker;
-- Who works with residents' words in this tenant: care staff, the safeguarding team, the data-protection officer.
create policy care_team on transcriptions for select to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('safeguarding_lead', 'reviewer', 'data_protection_officer', 'care_manager', 'care_worker', 'service'));
-- The worker writes what it transcribed, within the tenant it acts for.
create policy own_tenant on transcriptions to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));

create table utterances (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    transcription_id uuid not null,
    position integer not null check (position >= 0),
    speaker text,
    participant_id uuid,
    start_seconds double precision not null,
    end_seconds double precision not null check (end_seconds >= start_seconds),
    text text not null,
    confidence double precision not null check (confidence between 0 and 1),
    embedding vector(384),
    embedding_model text,
    primary key (tenant_id, id),
    unique (tenant_id, transcription_id, position),
    foreign key (tenant_id, transcription_id) references transcriptions (tenant_id, id),
    foreign key (tenant_id, participant_id) references session_participants (tenant_id, id)
);
create index utterances_participant on utterances (tenant_id, participant_id);
alter table utterances enable row level security;
alter table utterances force row level security;
grant select on utterances to wcc_app;
grant select, insert, update (embedding, embedding_model) on utterances to wcc_worker;
-- As transcriptions.
create policy care_team on utterances for select to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('safeguarding_lead', 'reviewer', 'data_protection_officer', 'care_manager', 'care_worker', 'service'));
create policy own_tenant on utterances to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));

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
grant select on analyses to wcc_app;
grant select, insert on analyses to wcc_worker;
-- The safeguarding team and the data-protection officer: an analysis holds allegations.
create policy safeguarding_team on analyses for select to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('safeguarding_lead', 'reviewer', 'data_protection_officer', 'service'));
create policy own_tenant on analyses to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));

create table alerts (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    session_id uuid not null,
    recording_id uuid not null,
    analysis_id uuid not null,
    state text not null default 'new'
        check (state in ('new', 'claimed', 'confirmed', 'dismissed', 'escalated', 'referred')),
    severity text not null check (severity in ('low', 'medium', 'high', 'critical')),
    -- 0 critical … 3 low: the queue's order, kept beside the word so that the index serves it
    rank integer not null generated always as (
        case severity when 'critical' then 0 when 'high' then 1 when 'medium' then 2 else 3 end) stored,
    categories text[] not null check (cardinality(categories) > 0),
    probability double precision not null check (probability between 0 and 1),
    models jsonb not null,
    claimed_by uuid,
    claimed_at timestamptz,
    version integer not null default 1,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, analysis_id),
    foreign key (tenant_id, session_id) references communication_sessions (tenant_id, id),
    foreign key (tenant_id, recording_id) references recordings (tenant_id, id),
    foreign key (tenant_id, analysis_id) references analyses (tenant_id, id),
    foreign key (tenant_id, claimed_by) references users (tenant_id, id)
);
create index alerts_queue on alerts (tenant_id, rank, id) where state in ('new', 'claimed', 'escalated');
create index alerts_session on alerts (tenant_id, session_id);
create index alerts_recording on alerts (tenant_id, recording_id);
create index alerts_claimer on alerts (tenant_id, claimed_by);
alter table alerts enable row level security;
alter table alerts force row level security;
grant select, update on alerts to wcc_app;
grant select, insert on alerts to wcc_worker;
-- The safeguarding team and the data-protection officer; nobody else, whatever the API asks.
create policy safeguarding_team on alerts to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('safeguarding_lead', 'reviewer', 'data_protection_officer', 'service'))
    with check (tenant_id = (select app.tenant()));
create policy own_tenant on alerts to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));

create table alert_evidence (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    alert_id uuid not null,
    utterance_id uuid not null,
    category text not null,
    severity text not null check (severity in ('low', 'medium', 'high', 'critical')),
    probability double precision not null check (probability between 0 and 1),
    threshold double precision not null check (threshold between 0 and 1),
    model text not null,
    model_version text not null,
    -- [{"utterance": position, "start": …, "end": …, "weight": …}]: characters, not words, so that erasing the
    -- utterance erases the words everywhere
    spans jsonb not null default '[]',
    primary key (tenant_id, id),
    unique (tenant_id, alert_id, utterance_id, category),
    foreign key (tenant_id, alert_id) references alerts (tenant_id, id),
    foreign key (tenant_id, utterance_id) references utterances (tenant_id, id)
);
create index alert_evidence_utterance on alert_evidence (tenant_id, utterance_id);
alter table alert_evidence enable row level security;
alter table alert_evidence force row level security;
grant select on alert_evidence to wcc_app;
grant select, insert on alert_evidence to wcc_worker;
-- As alerts.
create policy safeguarding_team on alert_evidence for select to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('safeguarding_lead', 'reviewer', 'data_protection_officer', 'service'));
create policy own_tenant on alert_evidence to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));

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
grant select, insert on reviews to wcc_app;
-- The safeguarding team reads and adds decisions; the officer reads; nobody changes one.
create policy safeguarding_team on reviews to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('safeguarding_lead', 'reviewer', 'data_protection_officer'))
    with check (tenant_id = (select app.tenant()) and reviewer_id = (select app.actor())
        and (select app.actor_role()) in ('safeguarding_lead', 'reviewer'));
create trigger reviews_immutable before update or delete on reviews
    for each row execute function app.refuse_change();
