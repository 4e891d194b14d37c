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
create index message_vectors_meaning on message_vectors using hnsw (embedding halfvec_cosine_ops)
    with (m = 24, ef_construction = 128);
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
-- As 0011 says, row-level security lets `@@` look into no index. So the functions that find run as the owner and apply
-- the rule of who may see what themselves: it stands in the three `…_asked` below and in rank_meaning. Their caller
-- reads what they name under row-level security again.
create policy searched on message_vectors for select to wcc_owner using (tenant_id = (select app.tenant()));
create policy searched on utterances for select to wcc_owner using (true);          -- true, because of `@@`
create policy searched_words on message_attachments for select to wcc_owner using (true);  -- likewise
create policy searched on transcriptions for select to wcc_owner using (tenant_id = (select app.tenant()));
create policy searched on recordings for select to wcc_owner using (tenant_id = (select app.tenant()));
create policy searched on session_participants for select to wcc_owner using (tenant_id = (select app.tenant()));

-- Of the messages that are asked for, those that whoever acts may see: the members' rule, as `need_to_know` has it.
-- Not a definer's, so that it is written into whichever function asks; whoever else asks is under the policy.
create function app.messages_asked(
    conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz, attached boolean
) returns table (id uuid, words tsvector) language sql stable
    begin atomic
        select s.id, s.words from messages s
        where s.tenant_id = app.tenant() and s.deleted_at is null
            and (conversation is null or s.conversation_id = conversation)
            and (sender is null or s.sender_id = sender)
            and (from_time is null or s.id >= app.first_id(from_time))
            and (to_time is null or s.id < app.first_id(to_time))
            and (attached is null or attached = exists (select from message_attachments a
                where a.tenant_id = s.tenant_id and a.message_id = s.id))
            and exists (select from conversation_members m
                where m.tenant_id = s.tenant_id and m.conversation_id = s.conversation_id and m.user_id = app.actor()
                    and s.id > m.after_id and (m.until_id is null or s.changed_id <= m.until_id));
    end;
-- Attachments are seen as the message that they came with.
create function app.attachments_asked(
    conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz, attached boolean
) returns table (id uuid, words tsvector) language sql stable
    begin atomic
        select a.id, a.words from message_attachments a
        join app.messages_asked(conversation, sender, from_time, to_time, attached) s on s.id = a.message_id
        where a.tenant_id = app.tenant();
    end;
-- Utterances of the last transcript of a recording that is there and not withheld from whoever acts, for the roles that
-- read transcripts. They lie in no conversation and come with nothing; who sent them is who is known to have spoken.
create function app.utterances_asked(
    conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz, attached boolean
) returns table (id uuid, words tsvector, embedding vector, embedding_model text) language sql stable
    begin atomic
        select u.id, u.words, u.embedding, u.embedding_model from utterances u
        join transcriptions t on t.tenant_id = u.tenant_id and t.id = u.transcription_id
        join recordings r on r.tenant_id = t.tenant_id and r.id = t.recording_id
        where u.tenant_id = app.tenant_for(
                '{safeguarding_lead, reviewer, data_protection_officer, care_manager, care_worker, service}')
            and conversation is null and attached is not true and r.status <> 'deleted'
            and (sender is null or exists (select from session_participants p
                where p.tenant_id = u.tenant_id and p.id = u.participant_id and p.user_id = sender))
            and (from_time is null or r.started_at >= from_time)
            and (to_time is null or r.started_at < to_time)
            and r.id <> all ((select app.recordings_withheld())::uuid[])
            and not exists (select from transcriptions newer where newer.tenant_id = t.tenant_id
                and newer.recording_id = t.recording_id and newer.revision > t.revision);
    end;

-- The newest that match, from before the id. Materialized: the words' index finds first, or a limit would have the
-- planner walk everything by id. Generic: planned for every call anew, these take four times as long.
drop function app.search_messages(tsquery, uuid, uuid, timestamptz, timestamptz, uuid, integer);
create function app.search_messages(
    query tsquery, conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz, attached boolean,
    before uuid, most integer
) returns setof uuid language sql stable security definer set search_path = public, pg_temp
    set plan_cache_mode = force_generic_plan
    begin atomic
        with found as materialized (
            select s.id from app.messages_asked(conversation, sender, from_time, to_time, attached) s
            where s.words @@ query and s.id < before)
        select id from found order by id desc limit most;
    end;
create function app.search_attachments(
    query tsquery, conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz, attached boolean,
    before uuid, most integer
) returns setof uuid language sql stable security definer set search_path = public, pg_temp
    set plan_cache_mode = force_generic_plan
    begin atomic
        with found as materialized (
            select a.id from app.attachments_asked(conversation, sender, from_time, to_time, attached) a
            where a.words @@ query and a.id < before)
        select id from found order by id desc limit most;
    end;
create function app.search_utterances(
    query tsquery, conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz, attached boolean,
    before uuid, most integer
) returns setof uuid language sql stable security definer set search_path = public, pg_temp
    set plan_cache_mode = force_generic_plan
    begin atomic
        with found as materialized (
            select u.id from app.utterances_asked(conversation, sender, from_time, to_time, attached) u
            where u.words @@ query and u.id < before)
        select id from found order by id desc limit most;
    end;

-- What is asked, as a question: any of its words will do. Who says exactly what they look for ("quoted", or, -not) gets
-- that alone.
create function app.any_word(asked text) returns tsquery language sql immutable
    return case when asked ~* '"|(^|\s)-|\sor\s' then websearch_to_tsquery('english', asked)
        else replace(websearch_to_tsquery('english', asked)::text, ' & ', ' | ')::tsquery end;

-- The best of all that matches such a question (BM25): a word counts by how rare it is among what was found and how often
-- it stands there, and less in what is long.
create function app.rank_words(
    asked text, kinds text[], conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz,
    attached boolean, most integer
) returns table (kind text, id uuid, score double precision) language sql stable security definer
    set search_path = public, pg_temp set plan_cache_mode = force_generic_plan
    begin atomic
        with found as materialized (
            select 'message' as kind, s.id, s.words
            from app.messages_asked(conversation, sender, from_time, to_time, attached) s
            where s.words @@ app.any_word(asked) and 'message' = any (kinds)
            union all
            select 'attachment', a.id, a.words
            from app.attachments_asked(conversation, sender, from_time, to_time, attached) a
            where a.words @@ app.any_word(asked) and 'attachment' = any (kinds)
            union all
            select 'utterance', u.id, u.words
            from app.utterances_asked(conversation, sender, from_time, to_time, attached) u
            where u.words @@ app.any_word(asked) and 'utterance' = any (kinds)),
        whole as (select count(*) as size, avg(length(words)) as words from found),
        places as (
            select f.kind, f.id, w.lexeme, cardinality(w.positions) as times, length(f.words) / whole.words as length
            from found f, whole, unnest(f.words) w
            where w.lexeme = any (tsvector_to_array(to_tsvector('english', asked)))),
        rarity as (
            select lexeme, ln(1 + (whole.size - count(*) + 0.5) / (count(*) + 0.5)) as value
            from places, whole group by lexeme, whole.size)
        select p.kind, p.id, sum(r.value * p.times * 2.2 / (p.times + 1.2 * (0.25 + 0.75 * p.length)))::double precision
        from places p join rarity r using (lexeme) group by p.kind, p.id order by 3 desc, 2 desc limit most;
    end;

-- Vectors of the messages that are asked for and seen by whoever acts: the members' rule once more, on what a vector
-- knows of its message; the message itself is asked where that is not enough. `own`: the conversations in question.
create function app.vectors_asked(
    of_model text, own uuid[], sender uuid, from_time timestamptz, to_time timestamptz, attached boolean
) returns table (id uuid, embedding halfvec) language sql stable
    begin atomic
        select v.message_id, v.embedding from message_vectors v
        where v.tenant_id = app.tenant() and v.conversation_id = any (own) and v.model = of_model
            and (sender is null or sender = (select s.sender_id from messages s
                where s.tenant_id = v.tenant_id and s.id = v.message_id))
            and (from_time is null or v.message_id >= app.first_id(from_time))
            and (to_time is null or v.message_id < app.first_id(to_time))
            and (attached is null or attached = exists (select from message_attachments a
                where a.tenant_id = v.tenant_id and a.message_id = v.message_id))
            and exists (select from conversation_members m
                where m.tenant_id = v.tenant_id and m.conversation_id = v.conversation_id and m.user_id = app.actor()
                    and v.message_id > m.after_id
                    and (m.until_id is null or m.until_id >= (select s.changed_id from messages s
                        where s.tenant_id = v.tenant_id and s.id = v.message_id)));
    end;
-- The nearest messages. The index names the nearest of all, whoever's they are, and what may not be seen is put aside
-- until enough is left: good where much of all may be seen; slow, and short of some, where little. So what comes into
-- question is counted first, as far as it pays to look at each: an exact look takes as long as their number, the index
-- as long as the number of all over theirs, and the two meet at a root (docs/decisions/0022 has the figures).
create function app.nearest_messages(
    query halfvec, of_model text, conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz,
    attached boolean, most integer
) returns table (id uuid, distance double precision) language plpgsql stable security definer
    set search_path = public, pg_temp set plan_cache_mode = force_custom_plan
    set enable_seqscan = off set enable_sort = off  -- the index where it is asked for; the exact look has no choice
    set hnsw.iterative_scan = strict_order set hnsw.ef_search = 400 set hnsw.max_scan_tuples = 100000 as $$
declare
    own uuid[] := array(select distinct m.conversation_id from conversation_members m
        where m.tenant_id = app.tenant() and m.user_id = app.actor()
            and (conversation is null or m.conversation_id = conversation));
    pays integer := sqrt(1000.0 * (select sum(greatest(c.reltuples, 1)) from pg_inherits i
        join pg_class c on c.oid = i.inhrelid where i.inhparent = 'message_vectors'::regclass));
begin
    if pays >= (select count(*) from (select from message_vectors v
        where v.tenant_id = app.tenant() and v.conversation_id = any (own)
            and (from_time is null or v.message_id >= app.first_id(from_time))
            and (to_time is null or v.message_id < app.first_id(to_time)) limit pays + 1) counted)
    then
        return query select v.id, v.embedding <=> query
            from app.vectors_asked(of_model, own, sender, from_time, to_time, attached) v
            order by (v.embedding <=> query) + 0 limit most;  -- + 0: no index is ordered by that
    else
        return query select v.id, v.embedding <=> query
            from app.vectors_asked(of_model, own, sender, from_time, to_time, attached) v
            order by v.embedding <=> query limit most;
    end if;
end $$;

-- The nearest in meaning of both: of what was said in calls, each that may be seen is looked at.
create function app.rank_meaning(
    query halfvec, of_model text, kinds text[], conversation uuid, sender uuid, from_time timestamptz,
    to_time timestamptz, attached boolean, most integer
) returns table (kind text, id uuid, distance double precision) language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select 'message', n.id, n.distance
        from app.nearest_messages(query, of_model, conversation, sender, from_time, to_time, attached, most) n
        where 'message' = any (kinds)
        union all
        select * from (
            select 'utterance', u.id, u.embedding <=> query::vector
            from app.utterances_asked(conversation, sender, from_time, to_time, attached) u
            where 'utterance' = any (kinds) and u.embedding_model = of_model order by 3 limit most) u
        order by 3, 2 limit most;
    end;

revoke all on function app.search_messages(tsquery, uuid, uuid, timestamptz, timestamptz, boolean, uuid, integer),
    app.search_attachments(tsquery, uuid, uuid, timestamptz, timestamptz, boolean, uuid, integer),
    app.search_utterances(tsquery, uuid, uuid, timestamptz, timestamptz, boolean, uuid, integer),
    app.rank_words(text, text[], uuid, uuid, timestamptz, timestamptz, boolean, integer),
    app.nearest_messages(halfvec, text, uuid, uuid, timestamptz, timestamptz, boolean, integer),
    app.rank_meaning(halfvec, text, text[], uuid, uuid, timestamptz, timestamptz, boolean, integer) from public;
grant execute on function
    app.search_messages(tsquery, uuid, uuid, timestamptz, timestamptz, boolean, uuid, integer),
    app.search_attachments(tsquery, uuid, uuid, timestamptz, timestamptz, boolean, uuid, integer),
    app.search_utterances(tsquery, uuid, uuid, timestamptz, timestamptz, boolean, uuid, integer),
    app.rank_words(text, text[], uuid, uuid, timestamptz, timestamptz, boolean, integer),
    app.nearest_messages(halfvec, text, uuid, uuid, timestamptz, timestamptz, boolean, integer),
    app.rank_meaning(halfvec, text, text[], uuid, uuid, timestamptz, timestamptz, boolean, integer) to wcc_app;
