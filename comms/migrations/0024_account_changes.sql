-- Nobody chooses another person's password: changes to accounts that a second person approves, one-time codes, and
-- which accounts belong to the same person (docs/decisions/0034).

-- persons ---------------------------------------------------------------------------------------------------------------
-- Accounts with the same person_id belong to the same person. A program has the person_id of whoever made it, because
-- that person has seen its key.
alter table users add column person_id uuid not null default uuidv7();
-- The person_id of the one person who made the account, or last reset its password, without a second person. Null where
-- two people did it, or whoever runs the machine.
alter table users add column made_alone_by uuid;
create index users_person on users (tenant_id, person_id);
create index users_made_alone on users (tenant_id, made_alone_by);
-- Accounts of before: the same e-mail address is the same person, and a program belongs to its maker.
alter table users no force row level security;
alter table service_accounts no force row level security;
update users u set person_id = f.person_id from (
    select distinct on (tenant_id, lower(email)) tenant_id, lower(email) as email, person_id from users
    where email is not null and role not in ('external', 'service') order by tenant_id, lower(email), id) f
    where u.tenant_id = f.tenant_id and lower(u.email) = f.email and u.role not in ('external', 'service');
update users u set person_id = m.person_id from service_accounts s, users m
    where s.tenant_id = u.tenant_id and s.id = u.id and m.tenant_id = s.tenant_id and m.id = s.created_by;
alter table users force row level security;
alter table service_accounts force row level security;

-- The rules' functions see, within the tenant that asks, which accounts belong to the same person.
create policy asked_by_rules on users for select to wcc_owner using (tenant_id = (select app.tenant()));

-- The accounts whose alerts are withheld from this account: its own, those of the same person, and those of a person
-- who alone made it. Everything that asks 'is it the same person?' asks here.
create function app.accounts_of(account uuid) returns uuid[] language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    return array[account] || array(select u.id from users me join users u on u.tenant_id = me.tenant_id
        and (u.person_id = me.person_id or u.person_id = me.made_alone_by)
        where me.tenant_id = app.tenant() and me.id = account and u.id <> account);
end $$;

-- Whether an open alert is about the person of this account. Whom the team has named stays so after the alert was
-- confirmed or referred; only a dismissed alert is about nobody.
create function app.in_open_alert(account uuid) returns boolean language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    return exists (select from alert_subjects s join alerts a on a.tenant_id = s.tenant_id and a.id = s.alert_id
        where s.tenant_id = app.tenant() and s.user_id = any (app.accounts_of(account)) and (
            s.standing = 'named' and a.state <> 'dismissed'
            or s.standing = 'presumed' and a.state not in ('confirmed', 'dismissed', 'referred')));
end $$;

-- The accounts of the person who acts, for policies: theirs alone, not those of who made them.
create function app.own_accounts() returns uuid[] language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    return array(select u.id from users me join users u on u.tenant_id = me.tenant_id and u.person_id = me.person_id
        where me.tenant_id = app.tenant() and me.id = app.actor());
end $$;
-- The same of whoever acts.
create function app.is_in_open_alert() returns boolean language sql stable return app.in_open_alert(app.actor());

-- What is withheld is asked in nearly every statement, and for nearly everybody nothing is: each function first asks, in
-- one statement, whether any alert is about the person (docs/decisions/0029).
-- The alerts that are about the person who acts: named by the team, or presumed until the team says otherwise.
create or replace function app.alerts_withheld() returns uuid[] language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    return array(select distinct s.alert_id from users me
        join users u on u.tenant_id = me.tenant_id and u.person_id = any (array[me.person_id, me.made_alone_by])
        join alert_subjects s on s.tenant_id = u.tenant_id and s.user_id = u.id
        where me.tenant_id = app.tenant() and me.id = app.actor() and s.standing <> 'cleared');
end $$;
-- The recordings that hold what was said of the person who acts. Who is merely presumed keeps the call that they spoke
-- in, unless their role would otherwise see, decide or erase what it gave rise to.
create or replace function app.recordings_withheld() returns uuid[] language plpgsql stable security definer
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
create or replace function app.conversations_withheld() returns uuid[] language plpgsql stable security definer
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
-- The alerts and the recordings, for the log of acts, which names both: asked together.
create or replace function app.objects_withheld() returns uuid[] language plpgsql stable security definer
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
-- The accounts that an event is withheld from: those of every person whom the alert is about.
create or replace function app.withheld_from(told jsonb) returns uuid[] language sql stable
    begin atomic
        select coalesce(array_agg(distinct x.id), '{}') from alert_subjects s
        join users u on u.tenant_id = s.tenant_id and u.id = s.user_id
        join users x on x.tenant_id = u.tenant_id
            and (x.person_id = u.person_id or x.made_alone_by = u.person_id)
        where s.tenant_id = app.tenant() and s.alert_id = (told ->> 'alert_id')::uuid and s.standing <> 'cleared';
    end;
-- The officer and the lead acknowledge, once, and never what the same person opened from another account.
alter policy acknowledged_by_another on broken_glass
    using (tenant_id = (select app.tenant()) and user_id <> all ((select app.own_accounts())::uuid[])
        and acknowledged_at is null
        and (select app.actor_role()) in ('data_protection_officer', 'safeguarding_lead'));

-- changes to accounts -----------------------------------------------------------------------------------------------------
-- What somebody did, or asked for, to another person's account. Shown to that person and to the data-protection officer.
create table account_changes (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    user_id uuid not null,
    kind text not null check (kind in ('account', 'role', 'password', 'second_factor', 'person')),
    role text not null,                     -- that the account has, once the change is done
    same_as uuid,                           -- the other account of the same person
    state text not null check (state in ('waiting', 'done', 'refused', 'withdrawn')),
    asked_by uuid,                          -- null: whoever runs the machine or the platform, or the sign-on provider
    decided_by uuid,                        -- the second person, where one was needed
    decided_at timestamptz,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    primary key (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id),
    foreign key (tenant_id, same_as) references users (tenant_id, id),
    foreign key (tenant_id, asked_by) references users (tenant_id, id),
    foreign key (tenant_id, decided_by) references users (tenant_id, id),
    check ((kind = 'person') = (same_as is not null)),
    check (decided_by is null or decided_by is distinct from asked_by or state = 'withdrawn')
);
create index account_changes_user on account_changes (tenant_id, user_id, id);
create index account_changes_same on account_changes (tenant_id, same_as);
create index account_changes_asker on account_changes (tenant_id, asked_by);
create index account_changes_decider on account_changes (tenant_id, decided_by);
create unique index account_changes_waiting on account_changes (tenant_id, user_id, kind) where state = 'waiting';
alter table account_changes enable row level security;
alter table account_changes force row level security;
grant select, insert, update (state, decided_by, decided_at) on account_changes to wcc_app;
-- Everybody sees the changes to their own accounts and those that they asked for; the officer and those who may approve
-- see all of them, unless an open alert is about them.
create policy own_or_approvers on account_changes for select to wcc_app
    using (tenant_id = (select app.tenant()) and ((select app.actor_role()) = 'door'
        or user_id = any ((select app.own_accounts())::uuid[])
        or asked_by = any ((select app.own_accounts())::uuid[])
        or (select app.actor_role()) in ('platform_admin', 'data_protection_officer', 'safeguarding_lead', 'care_manager')
            and not (select app.is_in_open_alert())));
-- Whoever may add people or manage accounts asks; a program may add people; the door writes for them and for itself.
create policy asked_by_managers on account_changes for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('door', 'platform_admin', 'data_protection_officer', 'safeguarding_lead', 'care_manager', 'service'));
-- The door alone decides, in the name of the second person; what is decided stays so.
create policy decided_once on account_changes for update to wcc_app
    using (tenant_id = (select app.tenant()) and state = 'waiting' and (select app.actor_role()) = 'door')
    with check (tenant_id = (select app.tenant()));

-- one-time codes -----------------------------------------------------------------------------------------------------------
-- With which a person sets their first or next password. A code has two halves. Without e-mail each half is shown to one
-- of the two people who made the reset, so that neither of them can redeem it alone. Codes of before are void.
drop table password_resets;
create table enrolments (
    tenant_id uuid not null,
    user_id uuid not null,
    first_hash bytea not null,
    second_hash bytea,                      -- null until the second person has approved
    expires_at timestamptz not null,
    primary key (tenant_id, user_id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
alter table enrolments enable row level security;
alter table enrolments force row level security;
grant select, insert, update, delete on enrolments to wcc_app;
-- The door alone.
create policy door on enrolments to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door')
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door');

-- A program has a key and never a password.
create function app.refuse_password_of_program() returns trigger language plpgsql as $$
begin
    if exists (select from users u where u.tenant_id = new.tenant_id and u.id = new.user_id and u.role = 'service') then
        raise exception 'a program has no password' using errcode = 'insufficient_privilege';
    end if;
    return new;
end $$;
create trigger people_alone before insert or update on passwords
    for each row execute function app.refuse_password_of_program();
create trigger people_alone before insert or update on enrolments
    for each row execute function app.refuse_password_of_program();
