-- The baseline: the schema of the first release, as one migration. The files of this folder run in the order of their
-- names, in one transaction. Each file holds the tables of one package of comms. The order follows the foreign keys.
--
-- A table comes with its indexes, row-level security, policies, grants and triggers. The sentence over a policy says
-- who may see or change the row. Five things hold in every file:
-- * Policies read the transaction's settings through (select …), so that PostgreSQL evaluates them once per query and
--   not once per row.
-- * Row-level security is forced, so it also binds `wcc_owner`, the owner of all tables. Functions with `security
--   definer` run as the owner. They see a row only under a policy `to wcc_owner`.
-- * A restrictive policy narrows what the other policies of its table allow.
-- * The role `door` is the platform itself before it knows who sends a request. No token can carry it.
-- * Columns named `data`, `details` and `about` hold ids and codes, never words or names.

create schema app;
grant usage on schema app to wcc_app, wcc_worker, wcc_relay, wcc_sender, wcc_keeper;
-- Holds the partitions. No login has access to it, so rows are reached only through the parent table and its policies.
create schema partitions;

-- settings of the transaction, which the connection pool writes -------------------------------------------------------
-- The tenant, the person and the role that the transaction acts for.
create function app.tenant() returns uuid language sql stable
    return nullif(current_setting('app.tenant_id', true), '')::uuid;
create function app.actor() returns uuid language sql stable
    return nullif(current_setting('app.user_id', true), '')::uuid;
create function app.actor_role() returns text language sql stable
    return nullif(current_setting('app.role', true), '');
-- The tenant if the actor has one of the roles, else null. A policy that compares with it has one condition. With
-- `tenant_id = … and role in (…)` it would have two, one of them a text comparison for every row (`./writecare bench
-- rls`).
create function app.tenant_for(roles text[]) returns uuid language sql stable
    return case when current_setting('app.role', true) = any (roles)
        then nullif(current_setting('app.tenant_id', true), '')::uuid end;
-- The only session that a guest's sign-in may use; null for everybody else.
create function app.session_id() returns uuid language sql stable
    return nullif(current_setting('app.session_id', true), '')::uuid;
-- The alert that this transaction opened and logged; null otherwise.
create function app.alert_id() returns uuid language sql stable
    return nullif(current_setting('app.alert_id', true), '')::uuid;
-- The request, the client's address and the reason, for the audit log.
create function app.request_id() returns uuid language sql stable
    return nullif(current_setting('app.request_id', true), '')::uuid;
create function app.address() returns inet language sql stable
    return nullif(current_setting('app.address', true), '')::inet;
create function app.reason() returns text language sql stable
    return nullif(current_setting('app.reason', true), '');

-- append-only tables --------------------------------------------------------------------------------------------------
-- A trigger with this function refuses every change, also by the owner of the table.
create function app.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;

-- partitions by month -------------------------------------------------------------------------------------------------
-- Every partitioned table is partitioned by range of its UUIDv7 ids, one partition per UTC month, in the schema
-- `partitions`. The functions read the catalogue, so they also serve a table that a later migration adds.

-- The smallest UUIDv7 of a time: the bound of a partition, or of a search by time.
create function app.first_id(at timestamptz) returns uuid language sql immutable
    return (lpad(to_hex(floor(extract(epoch from at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
-- The end of the last partition of a table. Without any partition it is the start of last month, because a clock that
-- is slow can still make ids of last month.
create function app.months_made_until(parent regclass) returns timestamptz language sql stable
    set search_path = pg_catalog, pg_temp set timezone = 'UTC'
    begin atomic
        select coalesce(
            to_timestamp(('x' || left(replace(max(substring(pg_get_expr(c.relpartbound, c.oid)
                from $bound$TO \('([0-9a-f-]+)'\)$bound$)), '-', ''), 12))::bit(48)::bigint / 1000.0),
            date_trunc('month', now()) - interval '1 month')
        from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = parent;
    end;
-- Makes the partition of a month and returns true, or returns false if it exists. It copies the oldest partition,
-- because some unique keys exist only on partitions: a key of the parent table would have to contain `id`.
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
-- Makes the missing partitions of all partitioned tables up to `ahead` months from now and returns how many. There is
-- no default partition, because rows in it would block the partition of their own month. If another transaction holds a
-- lock, the function fails after two seconds and the next sweep tries again: there are months of time for that.
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
grant execute on function app.make_partitions(integer) to wcc_keeper;
-- Drops the partitions that end before last month and are empty, and returns how many. It locks a partition against
-- writers and takes off `force row level security` while it looks: with it the owner sees no row, and every partition
-- would look empty.
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
-- Attaches partitions.<table>_before, which holds every id up to the end of this month, and gives it the triggers that
-- refuse `truncate`. Only the baseline uses this function; 99_partitions.sql drops it.
create function app.attach_first_partition(parent regclass) returns void language plpgsql
    set search_path = public, pg_temp set timezone = 'UTC' as $$
declare
    name text := (select relname from pg_class where oid = parent);
    kept text;
begin
    execute format('alter table partitions.%I enable row level security', name || '_before');
    execute format('alter table partitions.%I force row level security', name || '_before');
    execute format('alter table %s attach partition partitions.%I for values from (minvalue) to (%L)', parent,
        name || '_before', app.first_id(date_trunc('month', now()) + interval '1 month'));
    for kept in select pg_get_triggerdef(t.oid) from pg_trigger t
        where t.tgrelid = parent and not t.tgisinternal and t.tgtype & 32 <> 0  -- before truncate
    loop
        execute replace(kept, format(' ON public.%I ', name), format(' ON partitions.%I ', name || '_before'));
    end loop;
end $$;

-- text that is searched -----------------------------------------------------------------------------------------------
-- Makes letters small and removes accents, marks and invisible characters, in whatever form they were typed (composed,
-- decomposed, full width). Each character is folded by itself, so a position in the result is a position in the text.
-- The Python code that marks search hits folds in the same way, and a test compares the two.
create function app.folded(written text) returns text language sql immutable parallel safe strict
    return case when octet_length(written) = length(written) then lower(written collate pg_c_utf8)
        else regexp_replace(lower(normalize(
                translate(written, 'øØđĐðÐłŁħĦıŧŦ', 'oOdDdDlLhHitT'), nfkd) collate pg_c_utf8),
            '[\u00AD\u0300-\u036F\u0483-\u0489\u0591-\u05BD\u05BF\u05C1\u05C2\u05C4\u05C5\u05C7\u0610-\u061A'
            '\u064B-\u065F\u0670\u1AB0-\u1AFF\u1DC0-\u1DFF\u200B-\u200F\u202A-\u202E\u2060-\u2064\u2066-\u206F'
            '\u20D0-\u20FF\uFE00-\uFE0F\uFE20-\uFE2F\uFEFF]', '', 'g') end;
-- Keeps letters and digits and makes everything else a space, so that AB-1234/56, a path and an address become parts.
create function app.search_letters(written text) returns text language sql immutable parallel safe strict
    return regexp_replace(app.folded(written) collate pg_c_utf8, '[^[:alnum:]]', ' ', 'g');
create function app.search_words(written text) returns tsvector language sql immutable parallel safe
    return to_tsvector('pg_catalog.english'::regconfig, left(app.search_letters(coalesce(written, '')), 200000));

-- functions that policies ask before their tables exist ---------------------------------------------------------------
-- A policy needs its function when it is created, and these functions read tables that come in later files. So they are
-- declared here and return null. 80_safeguarding.sql replaces the first, 90_governance.sql the others.
create function app.messages_opened() returns uuid[] language sql stable return null::uuid[];
create function app.alerts_opened() returns uuid[] language sql stable return null::uuid[];
create function app.is_near_session(wanted uuid) returns boolean language sql stable return null::boolean;
create function app.may_hear(recording uuid) returns boolean language sql stable return null::boolean;
create function app.message_is_held(message uuid, conversation uuid) returns boolean language sql stable
    return null::boolean;
create function app.days_kept(wanted text) returns integer language sql stable return null::integer;
-- The time before which the tenant no longer keeps rows of a category.
create function app.kept_since(wanted text) returns timestamptz language sql stable
    -- Never before 1970: ids are unsigned, so an earlier time would give the largest ids and release everything.
    return greatest(now() - make_interval(days => app.days_kept(wanted)), timestamptz 'epoch');
revoke all on function app.kept_since(text) from public;

-- tenants -------------------------------------------------------------------------------------------------------------
create table tenants (
    id uuid primary key default uuidv7(),
    slug text not null unique check (slug ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name text not null,
    created_at timestamptz not null default now()
);
-- Whether the actor runs the installation: the platform administrator of the operator's tenant, or the command line,
-- which acts for no tenant. Provisioning writes the slug of that tenant into the login `wcc_app`.
create function app.runs_installation() returns boolean language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select app.actor_role() = 'platform_admin' and (app.tenant() = '00000000-0000-0000-0000-000000000000'
            or exists (select from tenants t
                where t.id = app.tenant() and t.slug = current_setting('app.operator_tenant', true)));
    end;
revoke all on function app.runs_installation() from public;
grant execute on function app.runs_installation() to wcc_app, wcc_worker;
alter table tenants enable row level security;
alter table tenants force row level security;
-- A tenant sees itself; whoever runs the installation sees all tenants.
create policy own_tenant on tenants for select to wcc_app, wcc_worker
    using (id = (select app.tenant()) or (select app.runs_installation()));
-- The system actor finds a tenant by its slug before anybody has signed in.
create policy found_by_door on tenants for select to wcc_app using ((select app.actor_role()) = 'door');
-- Whoever runs the installation adds tenants.
create policy made_by_platform on tenants for insert to wcc_app with check ((select app.runs_installation()));
-- The sealer sees the id and the slug of all tenants, whose audit entries it seals.
create policy read_by_sealer on tenants for select to wcc_sealer using (true);
-- The keeper sees the ids of all tenants, whose old rows it deletes.
create policy read_by_keeper on tenants for select to wcc_keeper using (true);
-- `app.runs_installation` sees the tenant that acts.
create policy asked_by_rule on tenants for select to wcc_owner using (id = (select app.tenant()));
grant select, insert on tenants to wcc_app;
grant select on tenants to wcc_worker;
grant select (id, slug) on tenants to wcc_sealer;
grant select (id) on tenants to wcc_keeper;

-- homes ---------------------------------------------------------------------------------------------------------------
create table homes (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    name text not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, name)
);
alter table homes enable row level security;
alter table homes force row level security;
-- Everybody in the tenant sees and changes its homes, as far as the API's permission table allows.
create policy own_tenant on homes to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
grant select, insert, update on homes to wcc_app;
grant select on homes to wcc_worker;

-- users: everybody who takes part, signed in or not (a guest is a user with the role `external`) ----------------------
create table users (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    slug text not null check (slug ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    display_name text not null,
    email text,
    role text not null check (role in (
        'platform_admin', 'data_protection_officer', 'safeguarding_lead', 'reviewer', 'care_manager',
        'care_worker', 'resident', 'external', 'data_scientist', 'service')),
    home_id uuid,
    active boolean not null default true,
    created_at timestamptz not null default now(),
    -- Accounts with the same person_id belong to the same person. A program has the person_id of the person who made
    -- it, because that person has seen its key.
    person_id uuid not null default uuidv7(),
    -- The person_id of the one person who made the account, or last reset its password, without a second person. Null
    -- if two people did it, or whoever runs the machine.
    made_alone_by uuid,
    primary key (tenant_id, id),
    unique (tenant_id, slug),
    foreign key (tenant_id, home_id) references homes (tenant_id, id)
);
create index users_home on users (tenant_id, home_id);
create index users_person on users (tenant_id, person_id);
create index users_made_alone on users (tenant_id, made_alone_by);
alter table users enable row level security;
alter table users force row level security;
-- Everybody in the tenant sees who belongs to it.
create policy own_tenant on users to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- Functions that run as the owner see, within the tenant that acts, which accounts belong to the same person.
create policy asked_by_rules on users for select to wcc_owner using (tenant_id = (select app.tenant()));
-- The search, which runs as the owner, sees within the tenant that acts who manages which home.
create policy asked_by_need_to_know on users for select to wcc_owner using (tenant_id = (select app.tenant()));
grant select, insert, update on users to wcc_app;
grant select on users to wcc_worker;

-- persons -------------------------------------------------------------------------------------------------------------
-- The person that an account belongs to, and the person who acts. Rules compare persons, not accounts.
create function app.person_of(account uuid) returns uuid language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    return coalesce((select u.person_id from users u where u.tenant_id = app.tenant() and u.id = account), account);
end $$;
create function app.own_person() returns uuid language sql stable return app.person_of(app.actor());
-- The accounts whose alerts are withheld from this account: the account itself, the other accounts of the same person,
-- and the accounts of a person who made it alone.
create function app.accounts_of(account uuid) returns uuid[] language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    return array[account] || array(select u.id from users me join users u on u.tenant_id = me.tenant_id
        and (u.person_id = me.person_id or u.person_id = me.made_alone_by)
        where me.tenant_id = app.tenant() and me.id = account and u.id <> account);
end $$;
-- The accounts of the person who acts, without those of whoever made them.
create function app.own_accounts() returns uuid[] language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    return array(select u.id from users me join users u on u.tenant_id = me.tenant_id and u.person_id = me.person_id
        where me.tenant_id = app.tenant() and me.id = app.actor());
end $$;

-- what is withheld from the person whom it is about -------------------------------------------------------------------
-- Nearly every statement asks these functions, and for nearly everybody nothing is withheld. So each one first asks, in
-- one statement, whether any alert is about the person. PL/pgSQL keeps the plan (docs/decisions/0029).

-- The alerts that are about the person who acts: the team named them, or they are presumed and the team has not cleared
-- them.
create function app.alerts_withheld() returns uuid[] language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    return array(select distinct s.alert_id from users me
        join users u on u.tenant_id = me.tenant_id and u.person_id = any (array[me.person_id, me.made_alone_by])
        join alert_subjects s on s.tenant_id = u.tenant_id and s.user_id = u.id
        where me.tenant_id = app.tenant() and me.id = app.actor() and s.standing <> 'cleared');
end $$;
-- The recordings of those alerts. A person who is only presumed keeps the call in which they spoke, unless their role
-- could see, decide or delete what came of it.
create function app.recordings_withheld() returns uuid[] language plpgsql stable security definer
    set search_path = public, pg_temp as $$
declare
    own uuid[];
begin
    if not exists (select from users me
        join users u on u.tenant_id = me.tenant_id and u.person_id = any (array[me.person_id, me.made_alone_by])
        join alert_subjects s on s.tenant_id = u.tenant_id and s.user_id = u.id
        where me.tenant_id = app.tenant() and me.id = app.actor()) then
        return '{}';
    end if;
    own := app.accounts_of(app.actor());
    return array(select distinct a.recording_id from alert_subjects s
        join alerts a on a.tenant_id = s.tenant_id and a.id = s.alert_id
        where s.tenant_id = app.tenant() and s.user_id = any (own) and a.recording_id is not null
            and (s.standing = 'named' or s.standing = 'presumed' and app.actor_role() in
                ('safeguarding_lead', 'reviewer', 'data_protection_officer')));
end $$;
-- The conversations in which an alert arose that is about the person who acts.
create function app.conversations_withheld() returns uuid[] language plpgsql stable security definer
    set search_path = public, pg_temp as $$
declare
    own uuid[];
begin
    if not exists (select from users me
        join users u on u.tenant_id = me.tenant_id and u.person_id = any (array[me.person_id, me.made_alone_by])
        join alert_subjects s on s.tenant_id = u.tenant_id and s.user_id = u.id
        where me.tenant_id = app.tenant() and me.id = app.actor()) then
        return '{}';
    end if;
    own := app.accounts_of(app.actor());
    return array(select distinct a.conversation_id from alert_subjects s
        join alerts a on a.tenant_id = s.tenant_id and a.id = s.alert_id
        where s.tenant_id = app.tenant() and s.user_id = any (own) and a.conversation_id is not null
            and s.standing <> 'cleared');
end $$;
-- The alerts and the recordings together.
create function app.objects_withheld() returns uuid[] language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    if not exists (select from users me
        join users u on u.tenant_id = me.tenant_id and u.person_id = any (array[me.person_id, me.made_alone_by])
        join alert_subjects s on s.tenant_id = u.tenant_id and s.user_id = u.id
        where me.tenant_id = app.tenant() and me.id = app.actor()) then
        return '{}';
    end if;
    return app.alerts_withheld() || app.recordings_withheld();
end $$;
-- The ids of everything that is withheld.
create function app.ids_withheld() returns uuid[] language sql stable
    return app.alerts_withheld() || app.recordings_withheld() || app.conversations_withheld();
-- Whether a document names one of the ids, at any depth.
create function app.names_any(document jsonb, ids uuid[]) returns boolean language sql immutable
    return cardinality(ids) > 0 and document <> '{}'
        and exists (select from unnest(ids) as withheld (id) where strpos(document::text, withheld.id::text) > 0);
-- Whether an open alert is about the person of an account. A named person stays in it after the alert was confirmed or
-- referred; a dismissed alert is about nobody.
create function app.in_open_alert(account uuid) returns boolean language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    return exists (select from alert_subjects s join alerts a on a.tenant_id = s.tenant_id and a.id = s.alert_id
        where s.tenant_id = app.tenant() and s.user_id = any (app.accounts_of(account)) and (
            s.standing = 'named' and a.state <> 'dismissed'
            or s.standing = 'presumed' and a.state not in ('confirmed', 'dismissed', 'referred')));
end $$;
create function app.is_in_open_alert() returns boolean language sql stable return app.in_open_alert(app.actor());

-- Whether the actor's role may see every care context. `app.needs_care_context` has the same list.
create function app.answers_for_safeguarding() returns boolean language sql stable
    return app.actor_role() in ('safeguarding_lead', 'reviewer', 'data_protection_officer', 'service', 'door');
