-- Meaning: messages and what was said in calls, found by what they mean as well as by the words they use.

-- vectors of messages -------------------------------------------------------------------------------------------------
-- Half precision: 772 bytes a message instead of 1,540, and the same ten are found (docs/decisions/0022 has the figures).
create table message_vectors (
    tenant_id uuid not null,
    message_id uuid not null,
    conversation_id uuid not null,              -- the message's: searches are narrowed by it
    embedding halfvec(384) not null,
    model text not null,                        -- vectors of one model are compared with each other alone
    made_at timestamptz not null default now(),
    primary key (tenant_id, message_id),
    foreign key (tenant_id, message_id) references messages (tenant_id, id) on delete cascade
) partition by range (message_id);
create index message_vectors_conversation on message_vectors (tenant_id, conversation_id, message_id);
create index message_vectors_meaning on message_vectors using hnsw (embedding halfvec_cosine_ops);
alter table message_vectors enable row level security;
alter table message_vectors force row level security;
grant select on message_vectors to wcc_app;
grant select, insert, update (embedding, model, made_at) on message_vectors to wcc_worker;
-- Who sees a message sees where its meaning lies.
create policy as_the_message on message_vectors for select to wcc_app
    using (tenant_id = (select app.tenant()) and exists (select from messages m
        where m.tenant_id = message_vectors.tenant_id and m.id = message_vectors.message_id
            and m.deleted_at is null));
-- The worker lays them, within the tenant it acts for.
create policy laid_by_worker on message_vectors to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- The worker may lock a message while it lays its vector, never change it (the check fails for any new row).
grant update (version) on messages to wcc_worker;
create policy locked_for_vectors on messages for update to wcc_worker
    using (tenant_id = (select app.tenant())) with check (false);

-- A vector goes with the words that it was made of: an edited message has none until it is read again.
create policy taken_by_trigger on message_vectors for all to wcc_owner
    using (tenant_id = (select app.tenant())) with check (false);
create function app.take_vector() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    delete from message_vectors where tenant_id = old.tenant_id and message_id = old.id;
    return null;
end $$;
create trigger messages_vector after update on messages
    for each row when (old.content is distinct from new.content) execute function app.take_vector();

-- Months, as those of messages: a vector lies in the month of its message's id. Whoever makes months makes both.
create or replace function app.make_message_partitions(ahead integer default 3) returns integer language plpgsql
    security definer set search_path = public, pg_temp set lock_timeout = '2s' set timezone = 'UTC' as $$
declare
    month timestamptz;
    parent text;
    name text;
    made integer := 0;
begin
    foreach parent in array '{messages, message_vectors}'::text[] loop
        for month in select generate_series(date_trunc('month', now()) - interval '1 month',
            date_trunc('month', now()) + make_interval(months => ahead), interval '1 month')
        loop
            name := parent || to_char(month, '_YYYY_MM');
            continue when to_regclass('partitions.' || name) is not null;
            perform pg_advisory_xact_lock(hashtextextended('partitions.' || parent, 0));
            continue when to_regclass('partitions.' || name) is not null;
            execute format('create table partitions.%I (like %I including all)', name, parent);
            execute format('alter table partitions.%I enable row level security', name);
            execute format('alter table partitions.%I force row level security', name);
            execute format('alter table %I attach partition partitions.%I for values from (%L) to (%L)',
                           parent, name, app.first_id(month), app.first_id(month + interval '1 month'));
            made := made + 1;
        end loop;
    end loop;
    return made;
end $$;
-- Messages of earlier months may be there already: their vectors have a place too.
do $$
declare
    month record;
begin
    for month in select c.relname, pg_get_expr(c.relpartbound, c.oid) as bounds
        from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'messages'::regclass
    loop
        month.relname := replace(month.relname, 'messages_', 'message_vectors_');
        execute format('create table partitions.%I (like message_vectors including all)', month.relname);
        execute format('alter table partitions.%I enable row level security', month.relname);
        execute format('alter table partitions.%I force row level security', month.relname);
        execute format('alter table message_vectors attach partition partitions.%I %s', month.relname, month.bounds);
    end loop;
end $$;

-- what was said in calls ----------------------------------------------------------------------------------------------
alter table utterances add column words tsvector not null generated always as (to_tsvector('english', text)) stored;
create index utterances_words on utterances using gin (words);

-- search --------------------------------------------------------------------------------------------------------------
-- As app.search_messages (0011), the functions below run as the owner, or no index of words would ever be used; each
-- applies the rule of who may see what itself, and their caller reads what they name under row-level security again.
create policy searched on message_vectors for select to wcc_owner using (tenant_id = (select app.tenant()));
create policy searched on utterances for select to wcc_owner using (true);  -- true: `@@` is not leakproof
create policy searched on transcriptions for select to wcc_owner using (tenant_id = (select app.tenant()));
create policy searched on recordings for select to wcc_owner using (tenant_id = (select app.tenant()));
create policy searched on session_participants for select to wcc_owner using (tenant_id = (select app.tenant()));

-- Messages that whoever acts may see, of those that are asked for: the members' rule of the policy `need_to_know`.
-- Not a definer's, so that it is written into whichever function asks it; whoever else asks is under the policy.
create function app.messages_asked(conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz)
    returns table (id uuid, words tsvector) language sql stable
    begin atomic
        select s.id, s.words from messages s
        where s.tenant_id = app.tenant()
            and (conversation is null or s.conversation_id = conversation)
            and (sender is null or s.sender_id = sender)
            and (from_time is null or s.id >= app.first_id(from_time))
            and (to_time is null or s.id < app.first_id(to_time))
            and exists (select from conversation_members m
                where m.tenant_id = s.tenant_id and m.conversation_id = s.conversation_id and m.user_id = app.actor()
                    and s.id > m.after_id and (m.until_id is null or s.changed_id <= m.until_id));
    end;

-- Utterances that whoever acts may see, of those that are asked for: of the last transcript of a recording that is
-- there and not withheld from them, for the roles that read transcripts. They lie in no conversation.
create function app.utterances_asked(conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz)
    returns table (id uuid, words tsvector, embedding vector, embedding_model text) language sql stable
    begin atomic
        select u.id, u.words, u.embedding, u.embedding_model from utterances u
        join transcriptions t on t.tenant_id = u.tenant_id and t.id = u.transcription_id
        join recordings r on r.tenant_id = t.tenant_id and r.id = t.recording_id and r.status <> 'deleted'
        where u.tenant_id = app.tenant_for(
                '{safeguarding_lead, reviewer, data_protection_officer, care_manager, care_worker, service}')
            and conversation is null
            and (sender is null or exists (select from session_participants p
                where p.tenant_id = u.tenant_id and p.id = u.participant_id and p.user_id = sender))
            and (from_time is null or r.started_at >= from_time)
            and (to_time is null or r.started_at < to_time)
            and r.id <> all ((select app.recordings_withheld())::uuid[])
            and not exists (select from transcriptions newer where newer.tenant_id = t.tenant_id
                and newer.recording_id = t.recording_id and newer.revision > t.revision);
    end;

-- Of both, the newest whose words match, from before the id.
create function app.search_words(
    query tsquery, kinds text[], conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz,
    before uuid, most integer
) returns table (kind text, id uuid) language sql stable security definer set search_path = public, pg_temp
    set plan_cache_mode = force_custom_plan as $$
        -- materialized: the words' index finds first, or a limit would have the planner walk everything by id
        with found as materialized (
            select 'message' as kind, s.id from app.messages_asked(conversation, sender, from_time, to_time) s
            where s.words @@ query and s.id < before and 'message' = any (kinds)
            union all
            select 'utterance', u.id from app.utterances_asked(conversation, sender, from_time, to_time) u
            where u.words @@ query and u.id < before and 'utterance' = any (kinds))
        select kind, id from found order by id desc limit most;
    $$;

-- Of both, the best of those that share a word with what is asked (BM25): a word counts by how rare it is among what
-- shares any, by how often it stands there, and less in what is long.
create function app.rank_words(
    query tsquery, asked text, kinds text[], conversation uuid, sender uuid, from_time timestamptz,
    to_time timestamptz, most integer
) returns table (kind text, id uuid, score double precision) language sql stable security definer
    set search_path = public, pg_temp set plan_cache_mode = force_custom_plan as $$
        with found as materialized (
            select 'message' as kind, s.id, s.words from app.messages_asked(conversation, sender, from_time, to_time) s
            where s.words @@ query and 'message' = any (kinds)
            union all
            select 'utterance', u.id, u.words from app.utterances_asked(conversation, sender, from_time, to_time) u
            where u.words @@ query and 'utterance' = any (kinds)),
        whole as (select count(*) as n, avg(length(words)) as length from found),
        places as (
            select f.kind, f.id, length(f.words) as length, w.lexeme, cardinality(w.positions) as times
            from found f, unnest(f.words) w
            where w.lexeme = any (tsvector_to_array(to_tsvector('english', asked)))),
        rarity as (select lexeme, ln(1 + (whole.n - count(*) + 0.5) / (count(*) + 0.5)) as value
            from places, whole group by lexeme, whole.n)
        select f.kind, f.id, coalesce(p.score, 0) from found f left join (
            select kind, id, sum(rarity.value * times * 2.2
                / (times + 1.2 * (0.25 + 0.75 * places.length / whole.length)))::double precision as score
            from places join rarity using (lexeme), whole group by kind, id) p using (kind, id)
        order by 3 desc, 2 desc limit most;
    $$;

-- Of both, the nearest in meaning. The messages' index finds the nearest of a month, whoever's they are, and what may
-- not be seen is put aside until there are enough: that is quick where much of all may be seen, and slow and short of
-- some where little. So what comes into question is counted first, no further than it takes to look at each of them.
create function app.rank_meaning(
    query halfvec, of_model text, kinds text[], conversation uuid, sender uuid, from_time timestamptz,
    to_time timestamptz, most integer
) returns table (kind text, id uuid, distance double precision) language plpgsql stable security definer
    set search_path = public, pg_temp set plan_cache_mode = force_custom_plan
    set hnsw.iterative_scan = strict_order set hnsw.ef_search = 200 set hnsw.max_scan_tuples = 200000 as $$
begin
    null;
end $$;
