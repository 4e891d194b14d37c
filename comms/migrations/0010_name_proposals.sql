-- Whom the voices of a single-track recording may belong to, by what is said: proposed to a person, never taken as read.
-- Ids, utterances' positions and probabilities alone; rows from before have none. Who sees a transcript sees these.
alter table transcriptions add column name_proposals jsonb not null default '[]';
