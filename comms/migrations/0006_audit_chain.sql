-- The log of acts becomes a chain: where each act came from and why, what waits to be sealed, and the seals.

-- From where and why, taken from the transaction as tenant and actor are (comms/database.py). Acts of before keep null.
create function app.request_id() returns uuid language sql stable
    return nullif(current_setting('app.request_id', true), '')::uuid;
create function app.address() returns inet language sql stable
    return nullif(current_setting('app.address', true), '')::inet;
create function app.reason() returns text language sql stable
    return nullif(current_setting('app.reason', true), '');
-- The tenant for those in one of the roles, nobody's for others: one value a query, where `tenant_id = … and role in (…)`
-- would be two, and a comparison of words for each row (`./writecare bench rls`).
create function app.tenant_for(roles text[]) returns uuid language sql stable
    return case when current_setting('app.role', true) = any (roles)
        then nullif(current_setting('app.tenant_id', true), '')::uuid end;

alter table audit_log add column request_id uuid;
alter table audit_log add column address inet;
alter table audit_log add column reason text check (reason ~ '^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$');  -- a code, no words
alter table audit_log alter column request_id set default app.request_id();
alter table audit_log alter column address set default app.address();
alter table audit_log alter column reason set default app.reason();
create index audit_log_actor on audit_log (tenant_id, actor_id, id);
grant select on audit_log to wcc_sealer;
-- The sealer alone reads acts across tenants: it lays their chains.
create policy read_by_sealer on audit_log for select to wcc_sealer using (true);

-- The sealer knows tenants by id and slug, not by name.
grant select (id, slug) on tenants to wcc_sealer;
create policy read_by_sealer on tenants for select to wcc_sealer using (true);

-- acts that wait for their seal -------------------------------------------------------------------------------------
-- Written with the act in its own transaction, so that one which commits late is there when it commits; an
-- `id > last` would pass over it. No foreign key: a row here without its act is how a removed act shows.
create table audit_unsealed (
    tenant_id uuid not null,
    audit_id uuid not null,
    primary key (tenant_id, audit_id)
);
create index audit_unsealed_oldest on audit_unsealed (audit_id);
-- Before the policies: acts of an older version, which even their owner cannot read once security is forced.
alter table audit_log no force row level security;
insert into audit_unsealed (tenant_id, audit_id) select tenant_id, id from audit_log;
alter table audit_log force row level security;
alter table audit_unsealed enable row level security;
alter table audit_unsealed force row level security;
grant select on audit_unsealed to wcc_app;
grant select, delete on audit_unsealed to wcc_sealer;
-- Those who may read the tenant's acts see which of them wait.
create policy read_by_officers on audit_unsealed for select to wcc_app
    using (tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}')));
-- Only the trigger below writes, for the tenant that acts.
create policy written_by_trigger on audit_unsealed for insert to wcc_owner
    with check (tenant_id = (select app.tenant()));
-- The sealer alone reads across tenants, and takes away what it has sealed.
create policy read_by_sealer on audit_unsealed for select to wcc_sealer using (true);
create policy taken_by_sealer on audit_unsealed for delete to wcc_sealer using (true);

create function app.queue_for_seal() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    insert into audit_unsealed (tenant_id, audit_id) values (new.tenant_id, new.id);
    return null;
end $$;
create trigger audit_log_queued after insert on audit_log
    for each row execute function app.queue_for_seal();

-- the seals: one chain a tenant ---------------------------------------------------------------------------------------
create table audit_seals (
    tenant_id uuid not null references tenants (id),
    number bigint not null check (number >= 1),
    audit_id uuid not null,
    hash bytea not null check (length(hash) = 32),   -- of the hash before, the number and the act (comms/audit/chain.py)
    sealed_at timestamptz not null default now(),
    primary key (tenant_id, number),
    unique (tenant_id, audit_id),
    foreign key (tenant_id, audit_id) references audit_log (tenant_id, id)
);
alter table audit_seals enable row level security;
alter table audit_seals force row level security;
grant select on audit_seals to wcc_app;
grant select, insert on audit_seals to wcc_sealer;
-- Those who may read the tenant's acts see their seals.
create policy read_by_officers on audit_seals for select to wcc_app
    using (tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}')));
-- The sealer alone reads and writes across tenants; nobody changes a seal.
create policy read_by_sealer on audit_seals for select to wcc_sealer using (true);
create policy laid_by_sealer on audit_seals for insert to wcc_sealer with check (true);
create trigger audit_seals_immutable before update or delete on audit_seals
    for each row execute function app.refuse_change();
create trigger audit_seals_kept before truncate on audit_seals
    for each statement execute function app.refuse_change();

-- The policies of before that ask for a role, each seen by whom it was seen: said as one condition.
-- Everyone's acts are written; the data-protection officer and the safeguarding lead read them.
alter policy read_by_officers on audit_log
    using (tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}')));
-- Who works with residents' words in this tenant: care staff, the safeguarding team, the data-protection officer.
alter policy care_team on transcriptions using (tenant_id = (select app.tenant_for(
    '{safeguarding_lead, reviewer, data_protection_officer, care_manager, care_worker, service}')));
-- As transcriptions.
alter policy care_team on utterances using (tenant_id = (select app.tenant_for(
    '{safeguarding_lead, reviewer, data_protection_officer, care_manager, care_worker, service}')));
-- The safeguarding team and the data-protection officer: an analysis holds allegations.
alter policy safeguarding_team on analyses using (tenant_id = (select app.tenant_for(
    '{safeguarding_lead, reviewer, data_protection_officer, service}')));
-- The safeguarding team and the data-protection officer; nobody else, whatever the API asks.
alter policy safeguarding_team on alerts using (tenant_id = (select app.tenant_for(
    '{safeguarding_lead, reviewer, data_protection_officer, service}')));
-- As alerts.
alter policy safeguarding_team on alert_evidence using (tenant_id = (select app.tenant_for(
    '{safeguarding_lead, reviewer, data_protection_officer, service}')));
-- The safeguarding team reads and adds decisions; the officer reads; nobody changes one.
alter policy safeguarding_team on reviews using (tenant_id = (select app.tenant_for(
    '{safeguarding_lead, reviewer, data_protection_officer}')));
