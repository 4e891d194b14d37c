-- Who may come in: sign-ins and how they are kept alive, passwords, second factors, lock-outs, single sign-on, keys.
-- The role `door` is no person's: no token can carry it. The house takes it (comms/identity/door.py) while it finds
-- out who is knocking, so that secrets' hashes are seen by no role that a person can have.

-- The door finds a tenant by its slug before anybody has signed in.
create policy found_by_door on tenants for select to wcc_app
    using ((select app.actor_role()) = 'door');

-- sign-ins: each time that somebody came in, until it ended -----------------------------------------------------
create table sign_ins (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    user_id uuid not null,
    role text not null,                     -- the role that this sign-in speaks with
    kind text not null check (kind in ('local', 'oidc', 'guest')),
    created_at timestamptz not null default now(),
    last_seen_at timestamptz not null default now(),    -- at its last refresh, not at each request
    expires_at timestamptz not null,        -- its absolute end, whatever is refreshed
    ended_at timestamptz,
    ended_because text check (ended_because in (
        'signed_out', 'signed_out_everywhere', 'signed_out_by_administrator', 'account_changed', 'password_changed',
        'refresh_reused')),
    primary key (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id),
    check ((ended_at is null) = (ended_because is null))
);
create index sign_ins_user on sign_ins (tenant_id, user_id, id);
alter table sign_ins enable row level security;
alter table sign_ins force row level security;
grant select, insert, update (last_seen_at, ended_at, ended_because) on sign_ins to wcc_app;
-- A person sees their own; the door and those who may sign others out see the tenant's.
create policy own_or_administered on sign_ins for select to wcc_app
    using (tenant_id = (select app.tenant()) and (user_id = (select app.actor()) or (select app.actor_role()) in
        ('door', 'platform_admin', 'care_manager', 'safeguarding_lead')));
-- The door alone lets in.
create policy opened_by_door on sign_ins for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door');
-- Whoever sees a sign-in may end it; what has ended stays as it is.
create policy ended_once on sign_ins for update to wcc_app
    using (tenant_id = (select app.tenant()) and ended_at is null and (user_id = (select app.actor())
        or (select app.actor_role()) in ('door', 'platform_admin', 'care_manager', 'safeguarding_lead')))
    with check (tenant_id = (select app.tenant()));

-- What keeps a sign-in alive: the refresh token that is good now, and the one before it while a retry may come.
create table refresh_tokens (
    tenant_id uuid not null,
    sign_in_id uuid not null,
    family_hash bytea not null,             -- of the part that never turns: tells a token of ours from a guess
    current_hash bytea not null,
    former_hash bytea,
    salt bytea,                             -- with the former token it gives the current one again (a retry)
    turned_at timestamptz not null default now(),
    expires_at timestamptz not null,        -- slides with each turn, never beyond the sign-in's end
    primary key (tenant_id, sign_in_id),
    foreign key (tenant_id, sign_in_id) references sign_ins (tenant_id, id)
);
alter table refresh_tokens enable row level security;
alter table refresh_tokens force row level security;
grant select, insert, update, delete on refresh_tokens to wcc_app;
-- The door alone.
create policy door on refresh_tokens to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door')
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door');

-- A WebSocket's ticket carries whose sign-in it came from and how narrow its key was.
alter table ws_tickets add column sign_in_id uuid;
alter table ws_tickets add column scopes text[];
alter table ws_tickets add foreign key (tenant_id, sign_in_id) references sign_ins (tenant_id, id);
create index ws_tickets_sign_in on ws_tickets (tenant_id, sign_in_id);

-- local accounts ------------------------------------------------------------------------------------------------
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
grant select, insert, update on passwords to wcc_app;
-- The door, and the person whose password it is.
create policy door_or_own on passwords to wcc_app
    using (tenant_id = (select app.tenant())
        and ((select app.actor_role()) = 'door' or user_id = (select app.actor())))
    with check (tenant_id = (select app.tenant())
        and ((select app.actor_role()) = 'door' or user_id = (select app.actor())));

-- One-use links with which a person sets their first or next password; a newer one replaces the older.
create table password_resets (
    tenant_id uuid not null,
    user_id uuid not null,
    secret_hash bytea not null,
    made_by uuid not null,
    expires_at timestamptz not null,
    primary key (tenant_id, user_id),
    foreign key (tenant_id, user_id) references users (tenant_id, id),
    foreign key (tenant_id, made_by) references users (tenant_id, id)
);
create index password_resets_maker on password_resets (tenant_id, made_by);
alter table password_resets enable row level security;
alter table password_resets force row level security;
grant select, insert, update, delete on password_resets to wcc_app;
-- The door, which redeems them, and those who may add people, who make them.
create policy door_or_administrators on password_resets to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('door', 'platform_admin', 'care_manager', 'safeguarding_lead'))
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('door', 'platform_admin', 'care_manager', 'safeguarding_lead'));

-- One-time codes of an authenticator (RFC 6238); the secret is wrapped by the key service.
create table second_factors (
    tenant_id uuid not null,
    user_id uuid not null,
    wrapped_secret bytea not null,
    key_id text not null,
    confirmed_at timestamptz,               -- null: enrolled, no code seen yet, not asked for
    last_step bigint not null default 0,    -- the step of the last code taken: none is good twice
    created_at timestamptz not null default now(),
    primary key (tenant_id, user_id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
alter table second_factors enable row level security;
alter table second_factors force row level security;
grant select, insert, update, delete on second_factors to wcc_app;
-- The door, and the person whose factor it is.
create policy door_or_own on second_factors to wcc_app
    using (tenant_id = (select app.tenant())
        and ((select app.actor_role()) = 'door' or user_id = (select app.actor())))
    with check (tenant_id = (select app.tenant())
        and ((select app.actor_role()) = 'door' or user_id = (select app.actor())));

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
grant select, insert, delete on recovery_codes to wcc_app;
-- The door, and the person whose codes they are.
create policy door_or_own on recovery_codes to wcc_app
    using (tenant_id = (select app.tenant())
        and ((select app.actor_role()) = 'door' or user_id = (select app.actor())))
    with check (tenant_id = (select app.tenant())
        and ((select app.actor_role()) = 'door' or user_id = (select app.actor())));

-- Failed attempts, by account and by address. They are counted before it is known whether the tenant exists, so
-- they stand under nobody's tenant (the nil UUID), and hold hashes alone.
create table failed_sign_ins (
    tenant_id uuid not null,
    subject_hash bytea not null,            -- of `account:tenant/user` or `address:…`
    failures integer not null check (failures >= 0),
    failed_at timestamptz not null default now(),
    paused_until timestamptz not null default '-infinity',
    primary key (tenant_id, subject_hash)
);
create index failed_sign_ins_age on failed_sign_ins (tenant_id, failed_at);
alter table failed_sign_ins enable row level security;
alter table failed_sign_ins force row level security;
grant select, insert, update, delete on failed_sign_ins to wcc_app;
-- The door alone.
create policy door on failed_sign_ins to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door')
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door');

-- single sign-on ------------------------------------------------------------------------------------------------
-- Journeys to the provider that have not come back: each state is good once. Nobody's tenant, as above.
create table sso_journeys (
    tenant_id uuid not null,
    state_hash bytea not null,
    expires_at timestamptz not null,
    primary key (tenant_id, state_hash)
);
create index sso_journeys_expiry on sso_journeys (tenant_id, expires_at);
alter table sso_journeys enable row level security;
alter table sso_journeys force row level security;
grant select, insert, delete on sso_journeys to wcc_app;
-- The door alone.
create policy door on sso_journeys to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door')
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door');

-- Which of the provider's subjects a person is, laid at their first sign-on: a user name that the provider later
-- gives to somebody else opens nothing.
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
grant select, insert on sso_subjects to wcc_app;
-- The door alone.
create policy door on sso_subjects to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door')
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door');

-- service accounts: users with the role `service` and a key instead of a password ----------------------------------
create table service_accounts (
    tenant_id uuid not null,
    id uuid not null,                       -- the user's
    scopes text[] not null check (cardinality(scopes) > 0),
    secret_hash bytea not null,
    expires_at timestamptz not null,
    last_used_at timestamptz,               -- to five minutes
    created_by uuid not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, id) references users (tenant_id, id),
    foreign key (tenant_id, created_by) references users (tenant_id, id)
);
create index service_accounts_creator on service_accounts (tenant_id, created_by);
alter table service_accounts enable row level security;
alter table service_accounts force row level security;
grant select, insert, update (last_used_at) on service_accounts to wcc_app;
-- The door, which checks keys, and the platform's administrator, who gives them.
create policy door_or_administrator on service_accounts to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) in ('door', 'platform_admin'))
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) in ('door', 'platform_admin'));
