-- Wrong tries slow whoever makes them and lock nobody out (docs/decisions/0035): one moment an entry, in place of a count
-- and a pause. Counts of before are forgotten.
drop table failed_sign_ins;
-- Wrong tries, under nobody's tenant (the nil UUID), because they are counted before it is known whether the tenant
-- exists. Hashes alone.
create table sign_in_tries (
    tenant_id uuid not null,
    subject_hash bytea not null,            -- of an account from an address, an address, an account, a known browser
    paid_until timestamptz not null,        -- each try moves it on by an interval; the burst is how far ahead it may be
    audited_at timestamptz not null default '-infinity',    -- when the log of acts was last told that it was refused
    primary key (tenant_id, subject_hash)
);
create index sign_in_tries_age on sign_in_tries (tenant_id, paid_until);
alter table sign_in_tries enable row level security;
alter table sign_in_tries force row level security;
grant select, insert, update, delete on sign_in_tries to wcc_app;
-- The door alone.
create policy door on sign_in_tries to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door')
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) = 'door');
