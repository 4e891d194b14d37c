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
