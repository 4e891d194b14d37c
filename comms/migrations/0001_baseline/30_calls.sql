-- Calls: sessions and who takes part, what they are about, guests, recordings and transcripts.

-- sessions ------------------------------------------------------------------------------------------------------------
create table communication_sessions (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    session_type text not null check (session_type in ('video_call', 'audio_call', 'meeting', 'handover', 'imported')),
    title text not null check (length(title) between 1 and 255),
    scheduled_start_time timestamptz,
    actual_start_time timestamptz,
    end_time timestamptz,
    status text not null default 'scheduled' check (status in ('scheduled', 'active', 'ended', 'cancelled')),
    recording_enabled boolean not null default false,
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
-- Members of the tenant see its sessions; the API's permission table says which roles may list or change them.
create policy own_tenant on communication_sessions to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- A guest sees only the session of their invitation.
create policy guests_own on communication_sessions as restrictive to wcc_app
    using (id = coalesce((select app.session_id()), id));
-- The search, which runs as the owner, sees the sessions of the tenant that acts.
create policy asked_by_need_to_know on communication_sessions for select to wcc_owner
    using (tenant_id = (select app.tenant()));
grant select, insert, update on communication_sessions to wcc_app;
grant select on communication_sessions to wcc_worker;

-- participants --------------------------------------------------------------------------------------------------------
-- The rule of the care context, written only here. Those may see what a session is about: participants, now or earlier,
-- its creator, the manager of its home, whoever used break-glass for it (`app.is_near_session`), and the roles below.
-- It contains no query of its own, so PostgreSQL inlines it, and for these roles it reads no row.
create function app.needs_care_context(wanted uuid) returns boolean language sql stable
    begin atomic
        select app.actor_role() in ('safeguarding_lead', 'reviewer', 'data_protection_officer', 'service', 'door')
            or app.is_near_session(wanted);
    end;
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
    removed_at timestamptz,                 -- another person removed them: they cannot join again by themselves
    primary key (tenant_id, id),
    unique (tenant_id, session_id, user_id),
    foreign key (tenant_id, session_id) references communication_sessions (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index session_participants_user on session_participants (tenant_id, user_id);
alter table session_participants enable row level security;
alter table session_participants force row level security;
-- Members of the tenant see who takes part in its sessions.
create policy own_tenant on session_participants to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- A guest sees only the participants of the session of their invitation.
create policy guests_own on session_participants as restrictive to wcc_app
    using (session_id = coalesce((select app.session_id()), session_id));
-- A participant may see the care context, so only those who may see it add one: else everybody could add themselves.
create policy added_by_those_who_know on session_participants as restrictive for insert to wcc_app
    with check (app.needs_care_context(session_id));
-- The search, which runs as the owner, sees the participants of the tenant that acts.
create policy searched on session_participants for select to wcc_owner using (tenant_id = (select app.tenant()));
grant select, insert, update on session_participants to wcc_app;
grant select on session_participants to wcc_worker;

-- care contexts: what a session is about ------------------------------------------------------------------------------
create table care_contexts (
    tenant_id uuid not null,
    session_id uuid not null,
    description text,
    incidents text[] not null default '{}', -- references of incidents: codes, no words
    earlier jsonb,                          -- a context without a shape, as first clients wrote it; no longer written
    primary key (tenant_id, session_id),
    foreign key (tenant_id, session_id) references communication_sessions (tenant_id, id)
);
alter table care_contexts enable row level security;
alter table care_contexts force row level security;
-- Only those who need to know see the care context and write it.
create policy need_to_know on care_contexts to wcc_app
    using (tenant_id = (select app.tenant()) and app.needs_care_context(session_id))
    with check (tenant_id = (select app.tenant()) and app.needs_care_context(session_id));
grant select, insert, update on care_contexts to wcc_app;

create table care_context_residents (
    tenant_id uuid not null,
    session_id uuid not null,
    user_id uuid not null,
    primary key (tenant_id, session_id, user_id),
    foreign key (tenant_id, session_id) references care_contexts (tenant_id, session_id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index care_context_residents_user on care_context_residents (tenant_id, user_id);
alter table care_context_residents enable row level security;
alter table care_context_residents force row level security;
-- Only those who need to know see whom the session is about and write it.
create policy need_to_know on care_context_residents to wcc_app
    using (tenant_id = (select app.tenant()) and app.needs_care_context(session_id))
    with check (tenant_id = (select app.tenant()) and app.needs_care_context(session_id));
grant select, insert, delete on care_context_residents to wcc_app;

-- guests --------------------------------------------------------------------------------------------------------------
create table session_invitations (
    tenant_id uuid not null,
    id uuid not null,                       -- the `jti` of the signed link; the guest's id as a user once they enter
    session_id uuid not null,
    display_name text not null check (length(display_name) between 1 and 255),
    participant_type text not null check (participant_type in ('family', 'professional', 'guest')),
    email text,
    invited_by uuid not null,
    expires_at timestamptz not null,
    entered_at timestamptz,                 -- the first time
    revoked_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, session_id) references communication_sessions (tenant_id, id),
    foreign key (tenant_id, invited_by) references users (tenant_id, id)
);
create index session_invitations_session on session_invitations (tenant_id, session_id, id);
create index session_invitations_inviter on session_invitations (tenant_id, invited_by);
alter table session_invitations enable row level security;
alter table session_invitations force row level security;
-- Those who may change sessions invite guests and revoke invitations; the system actor reads one when a guest comes.
create policy inviters_and_door on session_invitations to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('door', 'care_manager', 'care_worker', 'safeguarding_lead', 'service'))
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('door', 'care_manager', 'care_worker', 'safeguarding_lead', 'service'));
grant select, insert, update (entered_at, revoked_at) on session_invitations to wcc_app;

-- recordings ----------------------------------------------------------------------------------------------------------
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
    -- Of the session and of each track with its participant, so that the same files in two sessions differ. It finds a
    -- recording again when its files are sent once more. Null: deleted, or without tracks.
    content_digest bytea check (length(content_digest) = 32),
    -- What the worker does with it now, and since when; null before it starts and after it ends.
    stage text check (stage in ('decoding', 'transcribing', 'reading')),
    stage_since timestamptz,
    primary key (tenant_id, id),
    check ((stage is null) = (stage_since is null)),
    foreign key (tenant_id, session_id) references communication_sessions (tenant_id, id),
    foreign key (tenant_id, started_by) references users (tenant_id, id)
);
create index recordings_session on recordings (tenant_id, session_id, created_at desc);
create index recordings_starter on recordings (tenant_id, started_by);
create index recordings_content on recordings (tenant_id, session_id, content_digest) where content_digest is not null;
-- A session has at most one running recording.
create unique index recordings_running on recordings (tenant_id, session_id) where status = 'recording';
alter table recordings enable row level security;
alter table recordings force row level security;
-- Members of the tenant see that a recording exists; the API's permission table says who may hear it.
create policy own_tenant on recordings to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- Nobody sees a recording that is withheld from them.
create policy not_about_oneself on recordings as restrictive to wcc_app
    using (id <> all ((select app.recordings_withheld())::uuid[]));
-- The search, which runs as the owner, sees the recordings of the tenant that acts.
create policy searched on recordings for select to wcc_owner using (tenant_id = (select app.tenant()));
grant select, insert, update on recordings to wcc_app;
grant select, update on recordings to wcc_worker;

create table recording_tracks (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    recording_id uuid not null,
    position integer not null check (position >= 0),
    participant_id uuid,                -- null: one track of everybody
    object_key text not null,
    media_type text not null,
    size_bytes bigint not null check (size_bytes > 0),
    duration_seconds double precision not null check (duration_seconds >= 0),
    wrapped_key bytea,                  -- the data key of the track, encrypted by the key service; null: destroyed
    key_id text not null,
    created_at timestamptz not null default now(),
    channels text not null default 'auto' check (channels in ('auto', 'mix', 'separate')),  -- as the client said
    sound jsonb,                        -- what the decoder found in the file
    primary key (tenant_id, id),
    unique (tenant_id, recording_id, position),
    unique (tenant_id, object_key),
    foreign key (tenant_id, recording_id) references recordings (tenant_id, id),
    foreign key (tenant_id, participant_id) references session_participants (tenant_id, id)
);
create index recording_tracks_participant on recording_tracks (tenant_id, participant_id);
alter table recording_tracks enable row level security;
alter table recording_tracks force row level security;
-- Members of the tenant see the tracks of its recordings.
create policy own_tenant on recording_tracks to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- Nobody sees a track of a recording that is withheld from them.
create policy not_about_oneself on recording_tracks as restrictive to wcc_app
    using (recording_id <> all ((select app.recordings_withheld())::uuid[]));
-- Whoever may not see the care context of the session sees no sound of it.
create policy need_to_know on recording_tracks as restrictive for select to wcc_app
    using ((select app.answers_for_safeguarding()) or app.may_hear(recording_id));
grant select, insert, update (wrapped_key) on recording_tracks to wcc_app;
grant select on recording_tracks to wcc_worker;

-- transcripts ---------------------------------------------------------------------------------------------------------
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
    -- Which participants the voices of a single-track recording may belong to, judged by what is said: a proposal for a
    -- person. Ids, positions of utterances and probabilities.
    name_proposals jsonb not null default '[]',
    -- [{"start_seconds", "end_seconds", "reason"}]: speech whose words are not known. Times and codes, no words.
    not_understood jsonb not null default '[]',
    primary key (tenant_id, id),
    unique (tenant_id, recording_id, revision),
    foreign key (tenant_id, recording_id) references recordings (tenant_id, id)
);
alter table transcriptions enable row level security;
alter table transcriptions force row level security;
-- Care staff, the safeguarding team and the data-protection officer read transcripts of their tenant.
create policy care_team on transcriptions for select to wcc_app
    using (tenant_id = (select app.tenant_for(
        '{safeguarding_lead, reviewer, data_protection_officer, care_manager, care_worker, service}')));
-- Nobody sees the transcript of a recording that is withheld from them.
create policy not_about_oneself on transcriptions as restrictive to wcc_app
    using (recording_id <> all ((select app.recordings_withheld())::uuid[]));
-- Whoever may not see the care context of the session sees no words of it.
create policy need_to_know on transcriptions as restrictive for select to wcc_app
    using ((select app.answers_for_safeguarding()) or app.may_hear(recording_id));
-- The worker writes transcripts in the tenant that it acts for.
create policy own_tenant on transcriptions to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- The search, which runs as the owner, sees the transcripts of the tenant that acts.
create policy searched on transcriptions for select to wcc_owner using (tenant_id = (select app.tenant()));
grant select on transcriptions to wcc_app;
grant select, insert on transcriptions to wcc_worker;

-- Whether the actor sees the transcript: it asks `transcriptions` under its own policies.
create function app.may_read_transcription(transcription uuid) returns boolean language sql stable
    begin atomic
        select exists (select from transcriptions t where t.tenant_id = app.tenant() and t.id = transcription);
    end;
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
    words tsvector not null generated always as (app.search_words(text)) stored,
    primary key (tenant_id, id),
    foreign key (tenant_id, transcription_id) references transcriptions (tenant_id, id),
    foreign key (tenant_id, participant_id) references session_participants (tenant_id, id)
) partition by range (id);
create index utterances_participant on utterances (tenant_id, participant_id);
create index utterances_words on utterances using gin (words);
create index utterances_meaning on utterances using hnsw ((embedding::halfvec(384)) halfvec_cosine_ops)
    with (m = 24, ef_construction = 128);
alter table utterances enable row level security;
alter table utterances force row level security;
-- Care staff, the safeguarding team and the data-protection officer read the utterances of their tenant.
create policy care_team on utterances for select to wcc_app
    using (tenant_id = (select app.tenant_for(
        '{safeguarding_lead, reviewer, data_protection_officer, care_manager, care_worker, service}')));
-- Nobody sees an utterance of a recording that is withheld from them.
create policy not_about_oneself on utterances as restrictive to wcc_app
    using (cardinality((select app.recordings_withheld())) = 0 or exists (select from transcriptions t
        where t.tenant_id = utterances.tenant_id and t.id = utterances.transcription_id));
-- Whoever does not see the transcript does not see its utterances.
create policy need_to_know on utterances as restrictive for select to wcc_app
    using ((select app.answers_for_safeguarding()) or app.may_read_transcription(transcription_id));
-- The worker writes utterances in the tenant that it acts for.
create policy own_tenant on utterances to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- The search, which runs as the owner, sees all utterances and applies the rules itself (60_messaging.sql says why).
create policy searched on utterances for select to wcc_owner using (true);
grant select on utterances to wcc_app;
grant select, insert, update (embedding, embedding_model) on utterances to wcc_worker;
-- Each partition holds one utterance per position of a transcript.
create table partitions.utterances_before (like utterances including all,
    unique (tenant_id, transcription_id, position));
select app.attach_first_partition('utterances');

-- timings: how long each stage of processing took, for operators and metrics ------------------------------------------
create table stage_timings (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    recording_id uuid not null,
    stage text not null,
    audio_seconds double precision not null check (audio_seconds >= 0),
    wall_seconds double precision not null check (wall_seconds >= 0),
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, recording_id) references recordings (tenant_id, id)
);
create index stage_timings_recording on stage_timings (tenant_id, recording_id, id);
alter table stage_timings enable row level security;
alter table stage_timings force row level security;
-- Members of the tenant see how long its recordings took; the worker writes it.
create policy own_tenant on stage_timings to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- Nobody sees the timings of a recording that is withheld from them.
create policy not_about_oneself on stage_timings as restrictive to wcc_app
    using (recording_id <> all ((select app.recordings_withheld())::uuid[]));
grant select on stage_timings to wcc_app;
grant select, insert on stage_timings to wcc_worker;
