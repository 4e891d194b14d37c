-- Search finds what people wrote and said, by meaning through an index in calls too, and nobody reads vectors.

-- As 0014 has it, without what the house itself writes ("somebody joined"): nobody looks for that, and everybody's
-- searches would be full of it.
create or replace function app.messages_asked(
    conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz, attached boolean
) returns table (id uuid, words tsvector) language sql stable
    begin atomic
        select s.id, s.words from messages s
        where s.tenant_id = app.tenant() and s.deleted_at is null and s.sender_id is not null
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

-- A vector tells of the words that it was made of. The functions that find run as the owner: no login reads vectors.
drop policy as_the_message on message_vectors;
revoke select on message_vectors from wcc_app;

-- What was said in calls is found as messages are (0014): counted first, looked at one by one where it is little, else by
-- an index that all tenants share.
create index utterances_meaning on utterances using hnsw ((embedding::halfvec(384)) halfvec_cosine_ops)
    with (m = 24, ef_construction = 128);
create function app.nearest_utterances(
    query halfvec, of_model text, conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz,
    attached boolean, most integer
) returns table (id uuid, distance double precision) language plpgsql stable security definer
    set search_path = public, pg_temp set plan_cache_mode = force_custom_plan
    set enable_seqscan = off set enable_sort = off  -- the index where it is asked for; the exact look has no choice
    set hnsw.iterative_scan = strict_order set hnsw.ef_search = 400 set hnsw.max_scan_tuples = 100000 as $$
declare
    pays integer := sqrt(1000.0 * (select sum(greatest(c.reltuples, 1)) from pg_inherits i
        join pg_class c on c.oid = i.inhrelid where i.inhparent = 'utterances'::regclass));
begin
    if pays >= (select count(*) from (select from utterances u where u.tenant_id = app.tenant() limit pays + 1) counted)
    then
        return query select u.id, u.embedding::halfvec(384) <=> query
            from app.utterances_asked(conversation, sender, from_time, to_time, attached) u
            where u.embedding_model = of_model
            order by (u.embedding::halfvec(384) <=> query) + 0 limit most;  -- + 0: no index is ordered by that
    else
        return query select u.id, u.embedding::halfvec(384) <=> query
            from app.utterances_asked(conversation, sender, from_time, to_time, attached) u
            where u.embedding_model = of_model
            order by u.embedding::halfvec(384) <=> query limit most;
    end if;
end $$;

-- The nearest in meaning of both.
create or replace function app.rank_meaning(
    query halfvec, of_model text, kinds text[], conversation uuid, sender uuid, from_time timestamptz,
    to_time timestamptz, attached boolean, most integer
) returns table (kind text, id uuid, distance double precision) language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select 'message', n.id, n.distance
        from app.nearest_messages(query, of_model, conversation, sender, from_time, to_time, attached, most) n
        where 'message' = any (kinds)
        union all
        select 'utterance', n.id, n.distance
        from app.nearest_utterances(query, of_model, conversation, sender, from_time, to_time, attached, most) n
        where 'utterance' = any (kinds)
        order by 3, 2 limit most;
    end;

revoke all on function
    app.nearest_utterances(halfvec, text, uuid, uuid, timestamptz, timestamptz, boolean, integer) from public;
grant execute on function
    app.nearest_utterances(halfvec, text, uuid, uuid, timestamptz, timestamptz, boolean, integer) to wcc_app;
