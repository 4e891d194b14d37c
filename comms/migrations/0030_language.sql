-- In which language people spoke and wrote, and what of it nobody could read: a person must see that.

-- [{"start_seconds", "end_seconds", "reason"}]: speech of which the words are not known. Times and codes, no words. Who
-- sees a transcript sees these.
alter table transcriptions add column not_understood jsonb not null default '[]';

-- The language of a message that the readers do not know (ISO 639-1, und: not told); null: English, as far as is known.
alter table message_readings add column unread_language text check (unread_language ~ '^[a-z]{2,3}$');
-- What waits for a person to read it is asked for by time.
create index message_readings_unread on message_readings (tenant_id, created_at) where unread_language is not null;
