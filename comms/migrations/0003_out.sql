-- What leaves: the outbox of events, one-use WebSocket tickets, the log of acts, the log of model calls.

create table events (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    type text not null,
    aggregate_type text not null,
    aggregate_id uuid not null,
    aggregate_version integer not null,    -- taken under the aggregate's row lock: order within an aggregate
    data jsonb not null,                   -- ids and codes, never words or names
    occurred_at timestamptz not null default now(),
    position bigint,                       -- laid by the relay in the order of sending; null: not sent yet
    sent_at timestamptz,
    primary key (tenant_id, id),
    unique (tenant_id, aggregate_type, aggregate_id, aggregate_version, type)
);
create index events_unsent on events (occurred_at, id) where sent_at is null;
create index events_sent on events (tenant_id, position) where position is not null;
create sequence events_position;
alter table events enable row level security;
alter table events force row level security;
grant select, insert on events to wcc_app, wcc_worker;
grant select, update (position, sent_at) on events to wcc_relay;
grant usage on sequence events_position to wcc_relay;
-- The tenant writes and reads its own events.
create policy own_tenant on events to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- The relay alone reads across tenants: it marks what it sent.
create policy relay_sends on events to wcc_relay using (true) with check (true);

create table ws_tickets (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    user_id uuid not null,
    role text not null,
    secret_hash bytea not null,
    expires_at timestamptz not null,
    used_at timestamptz,
    primary key (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index ws_tickets_user on ws_tickets (tenant_id, user_id);
create index ws_tickets_expiry on ws_tickets (tenant_id, expires_at);
alter table ws_tickets enable row level security;
alter table ws_tickets force row level security;
grant select, insert, update, delete on ws_tickets to wcc_app;
-- A ticket is its owner's: made and redeemed while acting as that person.
create policy own_ticket on ws_tickets to wcc_app
    using (tenant_id = (select app.tenant()))
    with check (tenant_id = (select app.tenant()));

create table audit_log (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    actor_id uuid not null,
    actor_role text not null,
    action text not null,
    object_type text not null,
    object_id uuid not null,
    details jsonb not null default '{}',   -- ids and codes, never words or names
    created_at timestamptz not null default now(),
    primary key (tenant_id, id)
);
create index audit_log_object on audit_log (tenant_id, object_type, object_id);
alter table audit_log enable row level security;
alter table audit_log force row level security;
grant select, insert on audit_log to wcc_app;
grant insert on audit_log to wcc_worker;
-- Everyone's acts are written; the data-protection officer and the safeguarding lead read them.
create policy written on audit_log for insert to wcc_app, wcc_worker
    with check (tenant_id = (select app.tenant()) and actor_id = (select app.actor()));
create policy read_by_officers on audit_log for select to wcc_app
    using (tenant_id = (select app.tenant())
        and (select app.actor_role()) in ('data_protection_officer', 'safeguarding_lead'));
create trigger audit_log_immutable before update or delete on audit_log
    for each row execute function app.refuse_change();
create trigger audit_log_kept before truncate on audit_log
    for each statement execute function app.refuse_change();
