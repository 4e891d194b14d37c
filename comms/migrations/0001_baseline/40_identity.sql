-- Identity: sign-ins, passwords and second factors, changes to accounts, single sign-on, service accounts.

-- sign-ins: each time that somebody signed in, until it ends ----------------------------------------------------------
create table sign_ins (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    user_id uuid not null,
    role text not null,                     -- the role that the tokens of this sign-in carry
    kind text not null check (kind in ('local', 'oidc', 'guest')),
    created_at timestamptz not null default now(),
    last_seen_at timestamptz not null default now(),    -- at the last refresh, not at each request
    expires_at timestamptz not null,        -- its end, however often it is refreshed
    ended_at timestamptz,
    ended_because text check (ended_because in (
        'signed_out', 'signed_out_everywhere', 'signed_out_by_administrator', 'account_changed', 'password_changed',
        'refresh_reused')),
    session_id uuid,                        -- of a guest: the only session that they may use
    primary key (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id),
    foreign key (tenant_id, session_id) references communication_sessions (tenant_id, id),
    check ((ended_at is null) = (ended_because is null))
);
create index sign_ins_user on sign_ins (tenant_id, user_id, id);
create index sign_ins_session on sign_ins (tenant_id, session_id);
alter table sign_ins enable row level security;
alter table sign_ins force row level security;
-- A person sees their own sign-ins, those who manage accounts see the tenant's, those who invite guests see the
-- guests'. Every request asks this, so it is one policy: two would read tenant and role twice.
create policy own_or_administered on sign_ins for select to wcc_app
    using (tenant_id = (select app.tenant()) and (user_id = (select app.actor())
        or (select app.actor_role()) in ('door', 'platform_admin', 'care_manager', 'safeguarding_lead')
        or kind = 'guest' and (select app.actor_role()) in ('care_worker', 'service')));
-- Only the system actor opens a sign-in.
create policy opened_by_door on sign_ins for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door');
-- A person ends their own sign-ins, those who manage accounts end any; what has ended stays as it is.
create policy ended_once on sign_ins for update to wcc_app
    using (tenant_id = (select app.tenant()) and ended_at is null and (user_id = (select app.actor())
        or (select app.actor_role()) in ('door', 'platform_admin', 'care_manager', 'safeguarding_lead')))
    with check (tenant_id = (select app.tenant()));
-- Those who invite guests end the sign-ins of guests, when they revoke an invitation.
create policy guests_ended on sign_ins for update to wcc_app
    using (tenant_id = (select app.tenant()) and kind = 'guest' and ended_at is null
        and (select app.actor_role()) in ('care_manager', 'care_worker', 'safeguarding_lead', 'service'))
    with check (tenant_id = (select app.tenant()));
-- `app.erase_sign_ins` deletes, in the tenant that acts, ended sign-ins past their retention period.
create policy erased_by_rule on sign_ins to wcc_owner
    using (tenant_id = (select app.tenant())
        and least(ended_at, expires_at) < (select app.kept_since('sign_ins')))
    with check (false);
grant select, insert, update (last_seen_at, ended_at, ended_because) on sign_ins to wcc_app;

-- Keeps a sign-in alive: the current refresh token, and the one before it for as long as a retry may use it.
create table refresh_tokens (
    tenant_id uuid not null,
    sign_in_id uuid not null,
    family_hash bytea not null,             -- of the part that never changes: it tells a real token from a guess
    current_hash bytea not null,
    former_hash bytea,
    salt bytea,                             -- with the former token it gives the current one again, for a retry
    turned_at timestamptz not null default now(),
    expires_at timestamptz not null,        -- moves on with each refresh, at most to the end of the sign-in
    primary key (tenant_id, sign_in_id),
    foreign key (tenant_id, sign_in_id) references sign_ins (tenant_id, id) on delete cascade
);
alter table refresh_tokens enable row level security;
alter table refresh_tokens force row level security;
-- Only the system actor reads and writes refresh tokens.
create policy door on refresh_tokens to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door')
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door');
grant select, insert, update, delete on refresh_tokens to wcc_app;

-- passwords and second factors ----------------------------------------------------------------------------------------
-- A program has a key and never a password.
create function app.refuse_password_of_program() returns trigger language plpgsql as $$
begin
    if exists (select from users u where u.tenant_id = new.tenant_id and u.id = new.user_id and u.role = 'service') then
        raise exception 'a program has no password' using errcode = 'insufficient_privilege';
    end if;
    return new;
end $$;
create table passwords (
    tenant_id uuid not null,
    user_id uuid not null,
    hash text not null,                     -- argon2id, with its parameters
    set_at timestamptz not null default now(),
    primary key (tenant_id, user_id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
alter table passwords enable row level security;
alter table passwords force row level security;
-- The system actor and the person whose password it is.
create policy door_or_own on passwords to wcc_app
    using (tenant_id = (select app.tenant())
        and ((select app.actor_role()) = 'door' or user_id = (select app.actor())))
    with check (tenant_id = (select app.tenant())
        and ((select app.actor_role()) = 'door' or user_id = (select app.actor())));
grant select, insert, update on passwords to wcc_app;
create trigger people_alone before insert or update on passwords
    for each row execute function app.refuse_password_of_program();

-- One-time codes with which a person sets a password. A code has two halves. Without e-mail each of the two people who
-- made the reset sees one half, so that neither of them can use the code alone.
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
-- Only the system actor reads and writes enrolment codes.
create policy door on enrolments to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door')
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door');
grant select, insert, update, delete on enrolments to wcc_app;
create trigger people_alone before insert or update on enrolments
    for each row execute function app.refuse_password_of_program();

-- One-time codes of an authenticator app (RFC 6238); the key service encrypts the secret.
create table second_factors (
    tenant_id uuid not null,
    user_id uuid not null,
    wrapped_secret bytea not null,
    key_id text not null,
    confirmed_at timestamptz,               -- null: enrolled, but no code was entered yet, so none is asked for
    last_step bigint not null default 0,    -- the time step of the last accepted code: no code is accepted twice
    created_at timestamptz not null default now(),
    primary key (tenant_id, user_id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
alter table second_factors enable row level security;
alter table second_factors force row level security;
-- The system actor and the person whose factor it is.
create policy door_or_own on second_factors to wcc_app
    using (tenant_id = (select app.tenant())
        and ((select app.actor_role()) = 'door' or user_id = (select app.actor())))
    with check (tenant_id = (select app.tenant())
        and ((select app.actor_role()) = 'door' or user_id = (select app.actor())));
grant select, insert, update, delete on second_factors to wcc_app;

create table recovery_codes (
    tenant_id uuid not null,
    id uuid not null default uuidv7(),
    user_id uuid not null,
    code_hash bytea not null,
    primary key (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index recovery_codes_user on recovery_codes (tenant_id, user_id);
alter table recovery_codes enable row level security;
alter table recovery_codes force row level security;
-- The system actor and the person whose codes they are.
create policy door_or_own on recovery_codes to wcc_app
    using (tenant_id = (select app.tenant())
        and ((select app.actor_role()) = 'door' or user_id = (select app.actor())))
    with check (tenant_id = (select app.tenant())
        and ((select app.actor_role()) = 'door' or user_id = (select app.actor())));
grant select, insert, delete on recovery_codes to wcc_app;

-- Wrong tries slow down whoever makes them and lock nobody out (docs/decisions/0035). They are counted before it is
-- known whether the tenant exists, so they belong to no tenant (the nil UUID). The table holds only hashes.
create table sign_in_tries (
    tenant_id uuid not null,
    subject_hash bytea not null,            -- of an account at an address, an address, an account or a browser
    paid_until timestamptz not null,        -- each try moves it on by one interval; it may be one burst ahead of now
    audited_at timestamptz not null default '-infinity',    -- when the audit log last received a refusal
    primary key (tenant_id, subject_hash)
);
create index sign_in_tries_age on sign_in_tries (tenant_id, paid_until);
alter table sign_in_tries enable row level security;
alter table sign_in_tries force row level security;
-- Only the system actor reads and writes wrong tries.
create policy door on sign_in_tries to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door')
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door');
grant select, insert, update, delete on sign_in_tries to wcc_app;

-- changes to accounts -------------------------------------------------------------------------------------------------
-- What somebody did, or asked for, to another person's account. That person and the data-protection officer see it.
create table account_changes (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    user_id uuid not null,
    kind text not null check (kind in ('account', 'role', 'password', 'second_factor', 'person')),
    role text not null,                     -- of the account once the change is done
    same_as uuid,                           -- the other account of the same person
    state text not null check (state in ('waiting', 'done', 'refused', 'withdrawn')),
    asked_by uuid,                          -- null: whoever runs the machine or the platform, or the sign-on provider
    decided_by uuid,                        -- the second person, if one was needed
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
-- Everybody sees the changes to their own accounts and those that they asked for; those who may approve and the officer
-- see all of them, unless an open alert is about them.
create policy own_or_approvers on account_changes for select to wcc_app
    using (tenant_id = (select app.tenant()) and ((select app.actor_role()) = 'door'
        or user_id = any ((select app.own_accounts())::uuid[])
        or asked_by = any ((select app.own_accounts())::uuid[])
        or (select app.actor_role()) in
            ('platform_admin', 'data_protection_officer', 'safeguarding_lead', 'care_manager')
            and not (select app.is_in_open_alert())));
-- Those who may add people or manage accounts ask for a change; programs may add people; the system actor writes too.
create policy asked_by_managers on account_changes for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('door', 'platform_admin', 'data_protection_officer', 'safeguarding_lead', 'care_manager', 'service'));
-- Only the system actor decides, in the name of the second person; what is decided stays as it is.
create policy decided_once on account_changes for update to wcc_app
    using (tenant_id = (select app.tenant()) and state = 'waiting' and (select app.actor_role()) = 'door')
    with check (tenant_id = (select app.tenant()));
grant select, insert, update (state, decided_by, decided_at) on account_changes to wcc_app;

-- single sign-on ------------------------------------------------------------------------------------------------------
-- Requests to the provider that have not come back. Each state is good once. They belong to no tenant (the nil UUID).
create table sso_journeys (
    tenant_id uuid not null,
    state_hash bytea not null,
    expires_at timestamptz not null,
    primary key (tenant_id, state_hash)
);
create index sso_journeys_expiry on sso_journeys (tenant_id, expires_at);
alter table sso_journeys enable row level security;
alter table sso_journeys force row level security;
-- Only the system actor reads and writes them.
create policy door on sso_journeys to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door')
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door');
grant select, insert, delete on sso_journeys to wcc_app;

-- Which subject of the provider a person is, kept at their first sign-on. If the provider later gives their user name
-- to somebody else, that person cannot sign in with it.
create table sso_subjects (
    tenant_id uuid not null,
    user_id uuid not null,
    issuer text not null,
    subject text not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, user_id),
    unique (tenant_id, issuer, subject),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
alter table sso_subjects enable row level security;
alter table sso_subjects force row level security;
-- Only the system actor reads and writes them.
create policy door on sso_subjects to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door')
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door');
grant select, insert on sso_subjects to wcc_app;

-- service accounts: users with the role `service` and a key in place of a password ------------------------------------
create table service_accounts (
    tenant_id uuid not null,
    id uuid not null,                       -- of the user
    scopes text[] not null check (cardinality(scopes) > 0),
    secret_hash bytea not null,
    expires_at timestamptz not null,
    last_used_at timestamptz,               -- exact to five minutes
    created_by uuid not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, id) references users (tenant_id, id),
    foreign key (tenant_id, created_by) references users (tenant_id, id)
);
create index service_accounts_creator on service_accounts (tenant_id, created_by);
alter table service_accounts enable row level security;
alter table service_accounts force row level security;
-- The system actor checks keys; the platform administrator gives them.
create policy door_or_administrator on service_accounts to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) in ('door', 'platform_admin'))
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) in ('door', 'platform_admin'));
-- `app.webhook_hears` sees, in the tenant that it is asked about, what a key may do.
create policy asked_by_webhooks on service_accounts for select to wcc_owner using (tenant_id = (select app.tenant()));
grant select, insert, update (last_used_at) on service_accounts to wcc_app;
