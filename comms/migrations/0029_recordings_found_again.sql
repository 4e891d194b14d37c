-- A recording that is there already is found again when its files are sent once more; and how far the worker has come.

alter table recordings
    -- Of the session, and of each track with its participant: equal files of two sessions have nothing in common here.
    -- Forgotten with the recording. Null: taken in before this migration, or without tracks.
    add column content_digest bytea check (length(content_digest) = 32),
    -- What the worker does with it now, and since when; null before it began and after it ended.
    add column stage text check (stage in ('decoding', 'transcribing', 'reading')),
    add column stage_since timestamptz,
    add check ((stage is null) = (stage_since is null));
create index recordings_content on recordings (tenant_id, session_id, content_digest) where content_digest is not null;
