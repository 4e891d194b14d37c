-- Scale: what only grows lies in months, and what has had its time is erased, a tenant and a category at a time.

-- months --------------------------------------------------------------------------------------------------------------
-- Every partitioned table of ours is partitioned by range of its UUIDv7 ids, a UTC month each, in the schema
-- `partitions` (0011 says how that is shielded). So the catalogue is the list of them: a new one is picked up by itself.

-- Where the months of a table end that are made; of one without any, the start of the month before this one, whose ids
-- a clock that lags may still make.
create function app.months_made_until(parent regclass) returns timestamptz language sql stable
    set search_path = pg_catalog, pg_temp set timezone = 'UTC'
    begin atomic
        select coalesce(
            to_timestamp(('x' || left(replace(max(substring(pg_get_expr(c.relpartbound, c.oid)
                from $bound$TO \('([0-9a-f-]+)'\)$bound$)), '-', ''), 12))::bit(48)::bigint / 1000.0),
            date_trunc('month', now()) - interval '1 month')
        from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = parent;
    end;

-- Makes a month of a table where it is missing; says whether it was. Made like a month that is there already, so that
-- what stands on partitions alone goes on: a unique key that lacks the id, which no partitioned table can have.
create function app.make_month(parent regclass, month timestamptz) returns boolean language plpgsql security definer
    set search_path = public, pg_temp set timezone = 'UTC' as $$
declare
    name text := (select relname from pg_class where oid = parent) || to_char(month, '_YYYY_MM');
    made text := format('partitions.%I', name);
    kept text;
begin
    perform pg_advisory_xact_lock(hashtextextended('partitions.' || parent, 0));
    if to_regclass(made) is not null then
        return false;
    end if;
    execute format('create table %s (like %s including all)', made, coalesce(
        (select inhrelid::regclass from pg_inherits where inhparent = parent order by inhrelid limit 1), parent));
    execute format('alter table %s enable row level security', made);
    execute format('alter table %s force row level security', made);
    execute format('alter table %s attach partition %s for values from (%L) to (%L)', parent, made,
        app.first_id(month), app.first_id(month + interval '1 month'));
    -- Triggers on rows come with the table; those that keep it from being emptied stand on each month.
    for kept in select pg_get_triggerdef(t.oid) from pg_trigger t
        where t.tgrelid = parent and not t.tgisinternal and t.tgtype & 32 <> 0  -- before truncate
    loop
        execute replace(kept, format(' ON public.%I ', (select relname from pg_class where oid = parent)),
            format(' ON %s ', made));
    end loop;
    return true;
end $$;
revoke all on function app.make_month(regclass, timestamptz) from public;

-- Makes the months of every such table up to `ahead` months from now, where they are missing; returns how many. There is
-- no default partition: rows in it would keep their own month from being made. Who must wait for a lock gives up, and
-- the next sweep tries again: months are made long before they are needed.
create function app.make_partitions(ahead integer default 3) returns integer language plpgsql security definer
    set search_path = public, pg_temp set lock_timeout = '2s' set timezone = 'UTC' as $$
declare
    parent regclass;
    month timestamptz;
    made integer := 0;
begin
    for parent in select oid from pg_class
        where relkind = 'p' and relnamespace = 'public'::regnamespace order by relname
    loop
        for month in select generate_series(app.months_made_until(parent),
            date_trunc('month', now()) + make_interval(months => ahead), interval '1 month')
        loop
            made := made + app.make_month(parent, month)::integer;
        end loop;
    end loop;
    return made;
end $$;
revoke all on function app.make_partitions(integer) from public;
grant usage on schema app to wcc_keeper;
grant execute on function app.make_partitions(integer) to wcc_keeper;
drop function app.make_message_partitions(integer);

-- Drops the months that lie wholly before the last one and hold no row; returns how many. Looked at under a lock that
-- nobody writes through, and with security off for that moment: once it is forced even the owner sees no row, and every
-- month would look empty.
create function app.drop_empty_months() returns integer language plpgsql security definer
    set search_path = public, pg_temp set lock_timeout = '2s' set timezone = 'UTC' as $$
declare
    part record;
    filled boolean;
    dropped integer := 0;
begin
    for part in select i.inhparent::regclass as parent, i.inhrelid::regclass as month
        from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent
        where p.relkind = 'p' and p.relnamespace = 'public'::regnamespace
            and substring(pg_get_expr(c.relpartbound, c.oid) from $bound$TO \('([0-9a-f-]+)'\)$bound$)::uuid
                <= app.first_id(date_trunc('month', now()) - interval '1 month')
    loop
        execute format('lock table %s in access exclusive mode', part.month);
        execute format('alter table %s no force row level security', part.month);
        execute format('select exists (select from %s)', part.month) into filled;
        if filled then
            execute format('alter table %s force row level security', part.month);
        else
            execute format('alter table %s detach partition %s', part.parent, part.month);
            execute format('drop table %s', part.month);
            dropped := dropped + 1;
        end if;
    end loop;
    return dropped;
end $$;
revoke all on function app.drop_empty_months() from public;
grant execute on function app.drop_empty_months() to wcc_keeper;

-- Utterances, the log of acts and events become such tables. No row is copied: what is there becomes their first
-- partition, `…_before`, up to the end of this month; indexes, keys, grants, policies and triggers are said again as
-- they stand, on the new table. Nothing that points at the old one may be left behind: then this fails as a whole.
create function app.lay_in_months(name text) returns void language plpgsql
    set search_path = public, pg_temp set timezone = 'UTC' as $$
declare
    old oid := format('public.%I', name)::regclass;
    before text := format('partitions.%I', name || '_before');
    own text[];         -- what stands on the table
    others text[];      -- what points at it
    statement text;
begin
    -- Unique keys that lack the id stay on the partitions: see make_month.
    select array_agg(said order by step, said) into own from (
        select 1, format('alter table public.%I add constraint %I %s', name, conname, pg_get_constraintdef(oid))
            from pg_constraint where conrelid = old and contype in ('p', 'f') and conparentid = 0
        union all select 2, pg_get_indexdef(indexrelid) from pg_index where indrelid = old and not indisunique
        union all select 3, format('grant %s on public.%I to %I', a.privilege_type, name, a.grantee::regrole)
            from pg_class c, aclexplode(c.relacl) a where c.oid = old and a.grantee <> c.relowner
        union all select 3, format('grant %s (%I) on public.%I to %I', a.privilege_type, attname, name,
                a.grantee::regrole)
            from pg_attribute, aclexplode(attacl) a where attrelid = old
        union all select 4, format('create policy %I on public.%I as %s for %s to %s', policyname, name, permissive,
                cmd, array_to_string(roles, ', '))
                || coalesce(' using (' || qual || ')', '') || coalesce(' with check (' || with_check || ')', '')
            from pg_policies where schemaname = 'public' and tablename = name
        union all select 5, pg_get_triggerdef(oid) from pg_trigger where tgrelid = old and not tgisinternal
    ) as standing (step, said);
    select array_agg(said order by said) into others from (
        select format('alter table %s add constraint %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
            from pg_constraint where confrelid = old and contype = 'f' and conparentid = 0
        union select pg_get_functiondef(objid) from pg_depend
            where refobjid = old and refclassid = 'pg_class'::regclass and classid = 'pg_proc'::regclass
        union select format('alter policy %I on %s', polname, polrelid::regclass)
                || coalesce(' using (' || pg_get_expr(polqual, polrelid) || ')', '')
                || coalesce(' with check (' || pg_get_expr(polwithcheck, polrelid) || ')', '')
            from pg_policy p join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
            where d.refobjid = old and d.refclassid = 'pg_class'::regclass and p.polrelid <> old
    ) as pointing (said);

    for statement in
        select format('alter table %s drop constraint %I', conrelid::regclass, conname)
            from pg_constraint where confrelid = old and contype = 'f' and conparentid = 0
        union all select format('drop policy %I on public.%I', polname, name) from pg_policy where polrelid = old
        union all select format('drop trigger %I on public.%I', tgname, name)
            from pg_trigger where tgrelid = old and not tgisinternal and tgtype & 32 = 0
        union all select distinct format('revoke all on public.%I from %I', name, a.grantee::regrole)
            from pg_class c, aclexplode(c.relacl) a where c.oid = old and a.grantee <> c.relowner
        union all select distinct format('revoke all (%I) on public.%I from %I', attname, name, a.grantee::regrole)
            from pg_attribute, aclexplode(attacl) a where attrelid = old
        union all select format('alter table public.%I rename to %I', name, name || '_before')
        union all select format('alter table public.%I set schema partitions', name || '_before')
        union all select format('create table public.%I (like %s including defaults including constraints '
            'including generated including storage) partition by range (id)', name, before)
        union all select format('alter table public.%I enable row level security', name)
        union all select format('alter table public.%I force row level security', name)
    loop
        execute statement;
    end loop;
    foreach statement in array own loop
        execute statement;
    end loop;
    execute format('alter table public.%I attach partition %s for values from (minvalue) to (%L)', name, before,
        app.first_id(date_trunc('month', now()) + interval '1 month'));
    foreach statement in array coalesce(others, '{}') loop
        execute statement;
    end loop;
    if exists (select from pg_depend where refobjid = old and refclassid = 'pg_class'::regclass
            and classid in ('pg_proc'::regclass, 'pg_policy'::regclass, 'pg_rewrite'::regclass)) then
        raise exception 'something still points at the rows of % from before', name;
    end if;
end $$;
select app.lay_in_months(name) from unnest('{utterances, audit_log, events}'::text[]) name;
drop function app.lay_in_months(text);
select app.make_partitions();

-- what belongs to a message -------------------------------------------------------------------------------------------
-- Whether whoever acts sees a message: `messages` is asked under its own policies, so that the rule stands in one place.
-- A function whose plan is kept, where `exists (…)` in a policy has every statement planned anew over every month of
-- messages, once for each table that it reads: twenty milliseconds for one message (docs/decisions/0023).
create function app.sees_message(message uuid) returns boolean language plpgsql stable
    set plan_cache_mode = 'force_generic_plan' as $$
begin
    return exists (select from public.messages m where m.tenant_id = app.tenant() and m.id = message);
end $$;
-- Whether they see what it was before, too: 0012 says who does.
create function app.sees_versions(message uuid) returns boolean language plpgsql stable
    set plan_cache_mode = 'force_generic_plan' as $$
begin
    return exists (select from public.messages m where m.tenant_id = app.tenant() and m.id = message
        and (m.deleted_at is null
            or m.tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}'))
            or m.id = any ((select app.messages_opened())::uuid[])));
end $$;
revoke all on function app.sees_message(uuid), app.sees_versions(uuid) from public;
grant execute on function app.sees_message(uuid), app.sees_versions(uuid) to wcc_app;
-- Who sees a message sees what it was, until it is deleted; from then on the data-protection officer and the
-- safeguarding lead do, and whoever has an alert open that cites it.
alter policy as_the_message on message_versions
    using (tenant_id = (select app.tenant()) and app.sees_versions(message_id));
-- Who sees a message sees whom it mentions.
alter policy as_the_message on message_mentions
    using (tenant_id = (select app.tenant()) and app.sees_message(message_id));
-- Who sees a message and is in its conversation sees the reactions.
alter policy as_the_message on message_reactions
    using (tenant_id = (select app.tenant()) and conversation_id = any ((select app.own_conversations())::uuid[])
        and app.sees_message(message_id));
-- Who sees a message sees what it came with, until it is deleted, as its versions; before it is sent, whoever uploaded
-- it alone does.
alter policy as_the_message on message_attachments
    using (tenant_id = (select app.tenant()) and case when message_id is null
        then uploaded_by = (select app.actor()) else app.sees_versions(message_id) end);

-- retention -----------------------------------------------------------------------------------------------------------
-- How long a tenant keeps what lies in a category; without a row, what `app.days_kept` says.
create table retention_rules (
    tenant_id uuid not null references tenants (id),
    category text not null check (category in ('messages', 'events', 'webhook_deliveries', 'sign_ins')),
    days integer not null check (days between 30 and 36500),
    decided_by uuid not null,
    version integer not null default 1,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, category),
    foreign key (tenant_id, decided_by) references users (tenant_id, id)
);
create index retention_rules_decider on retention_rules (tenant_id, decided_by);
alter table retention_rules enable row level security;
alter table retention_rules force row level security;
grant select, insert, update on retention_rules to wcc_app;
-- The data-protection officer decides how long things are kept; the safeguarding lead sees it.
create policy decided_by_officer on retention_rules to wcc_app
    using (tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}')))
    with check (tenant_id = (select app.tenant_for('{data_protection_officer}'))
        and decided_by = (select app.actor()));
-- The erasing functions below, which run as the owner, see the rules of the tenant that they erase for.
create policy asked_by_rules on retention_rules for select to wcc_owner using (tenant_id = (select app.tenant()));

-- What must not be erased, however old: a message, or a conversation whole.
create table retention_holds (
    tenant_id uuid not null,
    id uuid not null default uuidv7(),
    conversation_id uuid not null,
    message_id uuid,                        -- null: the whole; no foreign key: a released hold outlives its message
    reference text not null check (reference ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$'),  -- of a case: a code, no words
    placed_by uuid not null,
    created_at timestamptz not null default now(),
    released_by uuid,
    released_at timestamptz,
    primary key (tenant_id, id),
    check (num_nulls(released_by, released_at) in (0, 2)),
    foreign key (tenant_id, conversation_id) references conversations (tenant_id, id),
    foreign key (tenant_id, placed_by) references users (tenant_id, id),
    foreign key (tenant_id, released_by) references users (tenant_id, id)
);
create index retention_holds_conversation on retention_holds (tenant_id, conversation_id);
create index retention_holds_placer on retention_holds (tenant_id, placed_by);
create index retention_holds_releaser on retention_holds (tenant_id, released_by);
alter table retention_holds enable row level security;
alter table retention_holds force row level security;
grant select, insert, update (released_by, released_at) on retention_holds to wcc_app;
-- The officer and the safeguarding lead see holds and place them, in their own name.
create policy seen_by_officers on retention_holds for select to wcc_app
    using (tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}')));
create policy placed_by_officers on retention_holds for insert to wcc_app
    with check (tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}'))
        and placed_by = (select app.actor()) and released_at is null);
-- They release them, once; what was released stays as it is.
create policy released_once on retention_holds for update to wcc_app
    using (tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}')) and released_at is null)
    with check (tenant_id = (select app.tenant()) and released_by = (select app.actor()));
create policy asked_by_rules on retention_holds for select to wcc_owner using (tenant_id = (select app.tenant()));

-- The days for which the tenant that acts keeps a category, and the moment before which it keeps it no more.
create function app.days_kept(wanted text) returns integer language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select coalesce(
            (select r.days from retention_rules r where r.tenant_id = app.tenant() and r.category = wanted),
            case wanted when 'messages' then 2922   -- eight years: adult social care's records
                when 'sign_ins' then 365 when 'events' then 90 when 'webhook_deliveries' then 90 end);
    end;
create function app.kept_since(wanted text) returns timestamptz language sql stable
    -- no earlier than the first id there can be: before it ids would come out last, and everything would have had its time
    return greatest(now() - make_interval(days => app.days_kept(wanted)), timestamptz 'epoch');

-- Messages: whether an alert or a hold keeps one that is old enough to go. An alert that was dismissed keeps nothing.
create function app.message_is_held(message uuid, conversation uuid) returns boolean language sql stable
    begin atomic
        select exists (select from retention_holds h
            where h.tenant_id = app.tenant() and h.conversation_id = conversation and h.released_at is null
                and (h.message_id is null or h.message_id = message))
            or exists (select from alert_evidence e join alerts a on a.tenant_id = e.tenant_id and a.id = e.alert_id
                where e.tenant_id = app.tenant() and e.message_id = message and a.state <> 'dismissed');
    end;
-- The owner erases what the rule lets go and nothing holds, in the tenant that acts, and nothing else: the policy is
-- the rule, whatever the function below forgets. No login has the right.
create policy erased_by_rule on messages for delete to wcc_owner
    using (tenant_id = (select app.tenant()) and id < (select app.first_id(app.kept_since('messages')))
        and not app.message_is_held(id, conversation_id));
-- What belongs to a message goes with it; an answer to it stays, and answers nothing.
do $$
declare
    key record;
begin
    for key in select conrelid::regclass as child, conrelid, conname, pg_get_constraintdef(oid) as said
        from pg_constraint where confrelid = 'messages'::regclass and contype = 'f' and conparentid = 0
            and confdeltype = 'a'
    loop
        execute format('alter table %s drop constraint %I', key.child, key.conname);
        execute format('alter table %s add constraint %I %s on delete %s', key.child, key.conname, key.said,
            case key.conrelid when 'messages'::regclass then 'set null (reply_to)' else 'cascade' end);
    end loop;
end $$;
-- The versions of a message go when it has gone itself, and never else: nobody takes the history of one that stands.
create function app.keep_versions() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    if tg_op = 'DELETE' and not exists (select from messages m
        where m.tenant_id = old.tenant_id and m.id = old.message_id)
    then
        return old;
    end if;
    raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;
drop trigger message_versions_immutable on message_versions;
create trigger message_versions_immutable before update or delete on message_versions
    for each row execute function app.keep_versions();
-- What waits to be read goes with the message that it waits with (0012 has no foreign key there, on purpose).
create policy taken_with_message on message_readings_due for delete to wcc_owner
    using (tenant_id = (select app.tenant()));
create function app.take_due_readings() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    delete from message_readings_due where tenant_id = old.tenant_id and message_id = old.id;
    return null;
end $$;
create trigger messages_gone after delete on messages for each row execute function app.take_due_readings();
-- Erases the oldest of what may go, no more than `most`; returns how many. A batch is a transaction: whoever is killed
-- has erased it whole or not at all.
create function app.erase_messages(most integer) returns bigint language sql security definer
    set search_path = public, pg_temp
    begin atomic
        with erased as (
            delete from messages where tenant_id = app.tenant() and id = any (array(
                select m.id from messages m
                where m.tenant_id = app.tenant() and m.id < app.first_id(app.kept_since('messages'))
                    and not app.message_is_held(m.id, m.conversation_id)
                order by m.id limit most)) returning 1)
        select count(*) from erased;
    end;
-- How many are old enough to go and are kept all the same.
create function app.count_held_messages() returns bigint language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select count(*) from messages m
        where m.tenant_id = app.tenant() and m.id < app.first_id(app.kept_since('messages'))
            and app.message_is_held(m.id, m.conversation_id);
    end;

-- Deliveries to webhooks that have ended, and events that were sent and that no delivery names any more.
create policy erased_by_rule on webhook_deliveries to wcc_owner
    using (tenant_id = (select app.tenant()) and state <> 'waiting'
        and ended_at < (select app.kept_since('webhook_deliveries'))) with check (false);
create function app.erase_webhook_deliveries(most integer) returns bigint language sql security definer
    set search_path = public, pg_temp
    begin atomic
        with erased as (
            delete from webhook_deliveries where tenant_id = app.tenant() and id = any (array(
                select d.id from webhook_deliveries d
                where d.tenant_id = app.tenant() and d.id < app.first_id(app.kept_since('webhook_deliveries'))
                    and d.state <> 'waiting' and d.ended_at < app.kept_since('webhook_deliveries')
                order by d.id limit most)) returning 1)
        select count(*) from erased;
    end;
create policy erased_by_rule on events to wcc_owner
    using (tenant_id = (select app.tenant()) and position is not null
        and sent_at < (select app.kept_since('events'))) with check (false);
-- Whether an event is still on its way to a webhook, or on record as having been: asked by the owner alone.
create policy asked_by_rules on webhook_deliveries for select to wcc_owner using (tenant_id = (select app.tenant()));
create function app.erase_events(most integer) returns bigint language sql security definer
    set search_path = public, pg_temp
    begin atomic
        with erased as (
            delete from events where tenant_id = app.tenant() and id = any (array(
                select e.id from events e
                where e.tenant_id = app.tenant() and e.id < app.first_id(app.kept_since('events'))
                    and not exists (select from webhook_deliveries d
                        where d.tenant_id = e.tenant_id and d.event_id = e.id)
                order by e.id limit most)) returning 1)
        select count(*) from erased;
    end;

-- Sign-ins that are over, with what kept them alive.
alter table refresh_tokens drop constraint refresh_tokens_tenant_id_sign_in_id_fkey,
    add foreign key (tenant_id, sign_in_id) references sign_ins (tenant_id, id) on delete cascade;
alter table ws_tickets drop constraint ws_tickets_tenant_id_sign_in_id_fkey,
    add foreign key (tenant_id, sign_in_id) references sign_ins (tenant_id, id) on delete cascade;
create policy erased_by_rule on sign_ins to wcc_owner
    using (tenant_id = (select app.tenant())
        and least(ended_at, expires_at) < (select app.kept_since('sign_ins'))) with check (false);
create function app.erase_sign_ins(most integer) returns bigint language sql security definer
    set search_path = public, pg_temp
    begin atomic
        with erased as (
            delete from sign_ins where tenant_id = app.tenant() and id = any (array(
                select s.id from sign_ins s
                where s.tenant_id = app.tenant() and s.id < app.first_id(app.kept_since('sign_ins'))
                order by s.id limit most)) returning 1)
        select count(*) from erased;
    end;

-- The keeper, who makes months ahead and has things erased, may call these and can reach no row by itself.
revoke all on function app.erase_messages(integer), app.count_held_messages(), app.erase_webhook_deliveries(integer),
    app.erase_events(integer), app.erase_sign_ins(integer), app.days_kept(text), app.kept_since(text),
    app.message_is_held(uuid, uuid) from public;
grant execute on function app.erase_messages(integer), app.count_held_messages(), app.erase_webhook_deliveries(integer),
    app.erase_events(integer), app.erase_sign_ins(integer) to wcc_keeper;
grant execute on function app.days_kept(text) to wcc_app;
-- It knows tenants by their id, and writes into the log that it had something erased.
grant select (id) on tenants to wcc_keeper;
create policy read_by_keeper on tenants for select to wcc_keeper using (true);
grant insert on audit_log to wcc_keeper;
create policy written_by_keeper on audit_log for insert to wcc_keeper
    with check (tenant_id = (select app.tenant()) and actor_id = (select app.actor()) and action = 'retention.swept');
