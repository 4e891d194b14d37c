-- An invented tenant: nobody in it lives, nothing in it was said. Run by benchmarks/seeding.py, once a tenant, with the
-- tenant's id in the setting `seed.tenant`. Ids come from the tenant's and a number, so that rows find each other.

insert into tenants (id, slug, name) values (pg_temp.tenant(), 'seeded-' || replace(pg_temp.tenant()::text, '-',
    ''), 'Seeded');
insert into homes (tenant_id, id, name)
    select pg_temp.tenant(), pg_temp.seeded_id('home', n), 'Home ' || n
    from generate_series(1, 5) n;
insert into users (tenant_id, id, slug, display_name, role, home_id)
    select pg_temp.tenant(), pg_temp.seeded_id('user', n), 'person-' || n, 'Person ' || n, case when n = 1 then
        'safeguarding_lead' when n = 2 then 'care_manager' when n = 3 then 'data_protection_officer' when n % 3 = 0
        then 'care_worker' else 'resident' end, pg_temp.seeded_id('home', 1 + n % 5)
    from generate_series(1, 60) n;
insert into communication_sessions (tenant_id, id, session_type, title, status, home_id, created_by, created_at)
    select pg_temp.tenant(), pg_temp.seeded_id('session', n), (array['video_call', 'audio_call', 'meeting',
        'imported'])[1 + n % 4], 'Call ' || n, case when n % 20 = 0 then 'active' else 'ended' end,
        pg_temp.seeded_id('home', 1 + n % 5), pg_temp.seeded_id('user', 2), pg_temp.at(n)
    from generate_series(1, 400) n;
insert into session_participants (tenant_id, id, session_id, user_id, participant_type, joined_at)
    select pg_temp.tenant(), pg_temp.seeded_id('participant', n * 4 + p), pg_temp.seeded_id('session', n),
        pg_temp.seeded_id('user', 1 + (n * 7 + p * 13) % 60), case when p < 2 then 'staff' else 'resident' end,
        pg_temp.at(n)
    from generate_series(1, 400) n, generate_series(0, 3) p;
insert into data_processing_activities (tenant_id, id, activity_type, purpose, legal_basis, decided_by)
    select pg_temp.tenant(), pg_temp.seeded_id('ground', n), (array['record', 'transcribe', 'analyse', 'train',
        'voiceprint'])[n], 'care', 'consent', pg_temp.seeded_id('user', 3)
    from generate_series(1, 5) n;
insert into consent_records (tenant_id, id, data_subject_id, data_processing_activity_id, consent_status,
    legal_basis, changed_by, granted_at)
    select pg_temp.tenant(), pg_temp.seeded_id('consent', n * 5 + g), pg_temp.seeded_id('user', n),
        pg_temp.seeded_id('ground', g), 'granted', 'consent', pg_temp.seeded_id('user', 2), now()
    from generate_series(1, 60) n, generate_series(1, 5) g;
insert into consent_audit_trail (tenant_id, consent_record_id, action, new_status, performed_by)
    select pg_temp.tenant(), pg_temp.seeded_id('consent', n * 5 + g), 'granted', 'granted',
        pg_temp.seeded_id('user', 2)
    from generate_series(1, 60) n, generate_series(1, 5) g;
insert into recordings (tenant_id, id, session_id, status, duration_seconds, started_by, started_at, created_at)
    select pg_temp.tenant(), pg_temp.seeded_id('recording', n), pg_temp.seeded_id('session', n), 'ready', 600,
        pg_temp.seeded_id('user', 2), pg_temp.at(n), pg_temp.at(n)
    from generate_series(1, 400) n where n % 2 = 0;
insert into recording_tracks (tenant_id, id, recording_id, position, object_key, media_type, size_bytes,
    duration_seconds, wrapped_key, key_id)
    select pg_temp.tenant(), pg_temp.seeded_id('track', n), pg_temp.seeded_id('recording', n), 0, 'seeded/' || n,
        'audio/flac', 1000, 600, '\x00', 'seeded'
    from generate_series(1, 400) n where n % 2 = 0;
insert into transcriptions (tenant_id, id, recording_id, provider, word_count, duration_seconds, speakers, words,
    models)
    select pg_temp.tenant(), pg_temp.seeded_id('transcription', n), pg_temp.seeded_id('recording', n), 'seeded', 0,
        600, array['S1', 'S2'], '[]', '{}'
    from generate_series(1, 400) n where n % 2 = 0;
insert into utterances (tenant_id, id, transcription_id, position, speaker, participant_id, start_seconds,
    end_seconds, text, confidence)
    select pg_temp.tenant(), pg_temp.seeded_id('utterance', n * 1000 + t), pg_temp.seeded_id('transcription', n), t,
        'S1', pg_temp.seeded_id('participant', n * 4 + t % 2), t * 10, t * 10 + 8, 'An invented turn, number ' || t
        || ' of call ' || n, 0.9
    from generate_series(1, 400) n, generate_series(0, 29) t where n % 2 = 0;
insert into analyses (tenant_id, id, recording_id, transcription_id, risk_level, risk_score, confidence_level,
    document, models, created_at)
    select pg_temp.tenant(), pg_temp.seeded_id('analysis', n), pg_temp.seeded_id('recording', n),
        pg_temp.seeded_id('transcription', n), (array['none', 'low', 'medium', 'high'])[1 + n % 4], 0.5, 0.8,
        '{"id": "seeded", "turns": [], "risk": {"level": "low", "score": 0.5}, "summary": {"text": "", "sentences":
        []}, "actions": [], "models": {}}', '{}', pg_temp.at(n)
    from generate_series(1, 400) n where n % 2 = 0;
insert into alerts (tenant_id, id, session_id, recording_id, analysis_id, state, severity, categories, probability,
    models, created_at)
    select pg_temp.tenant(), pg_temp.seeded_id('alert', n), pg_temp.seeded_id('session', n),
        pg_temp.seeded_id('recording', n), pg_temp.seeded_id('analysis', n), (array['new', 'confirmed',
        'dismissed'])[1 + n % 3], (array['low', 'medium', 'high', 'critical'])[1 + n % 4], array['neglect'], 0.7,
        '{}', pg_temp.at(n)
    from generate_series(1, 400) n where n % 4 = 0;
insert into alert_evidence (tenant_id, alert_id, utterance_id, category, severity, probability, threshold, model,
    model_version)
    select pg_temp.tenant(), pg_temp.seeded_id('alert', n), pg_temp.seeded_id('utterance', n * 1000 + t), 'neglect',
        'high', 0.7, 0.4, 'safeguarding', '1'
    from generate_series(1, 400) n, generate_series(3, 5) t where n % 4 = 0;
insert into reviews (tenant_id, alert_id, decision, reason, reviewer_id)
    select pg_temp.tenant(), pg_temp.seeded_id('alert', n), 'confirm', 'seeded', pg_temp.seeded_id('user', 1)
    from generate_series(1, 400) n where n % 12 = 4;
insert into stage_timings (tenant_id, recording_id, stage, audio_seconds, wall_seconds)
    select pg_temp.tenant(), pg_temp.seeded_id('recording', n), 'stage ' || s, 600, 60
    from generate_series(1, 400) n, generate_series(1, 6) s where n % 2 = 0;
insert into events (tenant_id, type, aggregate_type, aggregate_id, aggregate_version, data, position, sent_at)
    select pg_temp.tenant(), 'session.created', 'session', pg_temp.seeded_id('session', n), v, '{}',
        nextval('events_position'), now()
    from generate_series(1, 400) n, generate_series(1, 5) v;
insert into audit_log (tenant_id, id, actor_id, actor_role, action, object_type, object_id, created_at)
    select pg_temp.tenant(), pg_temp.seeded_id('act', n * 10 + a), pg_temp.seeded_id('user', 1 + n % 60),
        'care_worker', 'session.changed', 'session', pg_temp.seeded_id('session', n), pg_temp.at(n)
    from generate_series(1, 400) n, generate_series(0, 5) a;
insert into audit_unsealed (tenant_id, audit_id)
    select tenant_id, id
    from audit_log where tenant_id = pg_temp.tenant();
