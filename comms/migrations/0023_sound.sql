-- How a track's file is read: what whoever sent it said of its channels (models/sound.py), and what was found in it.
alter table recording_tracks
    add column channels text not null default 'auto' check (channels in ('auto', 'mix', 'separate')),
    add column sound jsonb;  -- null: taken in before this was looked at
