-- Answers kept for a day, so that a POST repeated under its Idempotency-Key is answered again and not done again.

create table kept_answers (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    user_id uuid not null,        -- who asked; no foreign key: the platform's administrator is nobody in a new tenant
    key text not null check (length(key) between 1 and 255),
    request_hash bytea not null,  -- of method, address and body: a key stands for one request
    status smallint not null check (status between 200 and 299),
    headers jsonb not null,
    body bytea not null,          -- as it was sent; may hold what the record holds (titles), hence the day
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, user_id, key)
);
create index kept_answers_age on kept_answers (created_at);
alter table kept_answers enable row level security;
alter table kept_answers force row level security;
grant select, insert, delete on kept_answers to wcc_app;
-- An answer is seen by the person alone whose request it answered.
create policy own_answers on kept_answers to wcc_app
    using (tenant_id = (select app.tenant()) and user_id = (select app.actor()))
    with check (tenant_id = (select app.tenant()) and user_id = (select app.actor()));
-- The sweep below, which runs as the owner, sees what is over a day old, of all tenants, and nothing younger.
create policy swept on kept_answers to wcc_owner
    using (created_at < now() - interval '24 hours') with check (false);

create function app.forget_kept_answers() returns bigint language sql security definer
    set search_path = public, pg_temp
    begin atomic
        with forgotten as (delete from kept_answers where created_at < now() - interval '24 hours' returning 1)
        select count(*) from forgotten;
    end;
revoke all on function app.forget_kept_answers() from public;
grant execute on function app.forget_kept_answers() to wcc_app;
