-- Live and outwards: who is connected, webhooks and what was sent to them, and an order over all tenants' events.

-- The sender reads what the relay has sent, of all tenants, in the order of sending.
create index events_order on events (position) where position is not null;
grant select on events to wcc_sender;
-- The sender alone reads across tenants beside the relay, and of sent events only.
create policy read_by_sender on events for select to wcc_sender using (position is not null);

-- presences: a row for each socket of somebody at a place, good while its process renews it ---------------------------
create table presences (
    tenant_id uuid not null,
    id uuid not null default uuidv7(),
    place_type text not null check (place_type in ('session', 'conversation')),
    place_id uuid not null,
    user_id uuid not null,
    leased_until timestamptz not null,      -- a killed process renews no more: its people are gone when this passes
    primary key (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index presences_place on presences (tenant_id, place_type, place_id, leased_until);
create index presences_user on presences (tenant_id, user_id);
create index presences_lapsed on presences (tenant_id, leased_until);
alter table presences enable row level security;
alter table presences force row level security;
grant select, insert, update (leased_until), delete on presences to wcc_app;
-- Members of the tenant; the API shows who is at a place to those who are at it.
create policy own_tenant on presences to wcc_app
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));

-- webhooks: where else a tenant's events are sent ---------------------------------------------------------------------
create table webhooks (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    url text not null check (length(url) between 1 and 2000),
    event_types text[] not null check (cardinality(event_types) > 0),
    state text not null default 'active' check (state in ('active', 'paused', 'disabled', 'deleted')),
    dead_in_a_row integer not null default 0,   -- deliveries given up since the last that arrived
    created_by uuid not null,
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, created_by) references users (tenant_id, id)
);
create index webhooks_creator on webhooks (tenant_id, created_by);
create index webhooks_active on webhooks (tenant_id) where state = 'active';
alter table webhooks enable row level security;
alter table webhooks force row level security;
grant select, insert, update on webhooks to wcc_app;
grant select (tenant_id, id, event_types, state) on webhooks to wcc_relay;
grant select, update (state, dead_in_a_row, version, updated_at) on webhooks to wcc_sender;
-- Whoever decides where the tenant's events go, and the data-protection officer, who answers for it.
create policy decided_in_tenant on webhooks to wcc_app
    using (tenant_id = (select app.tenant_for('{platform_admin, service, data_protection_officer}')))
    with check (tenant_id = (select app.tenant_for('{platform_admin, service}')));
-- The relay sees which types each webhook wants, never where it leads; the sender sees where, across tenants.
create policy read_by_relay on webhooks for select to wcc_relay using (true);
create policy used_by_sender on webhooks to wcc_sender using (true) with check (true);

-- What a webhook's messages are signed with; the older one stays good for a while after a newer was made.
create table webhook_secrets (
    tenant_id uuid not null,
    id uuid not null default uuidv7(),
    webhook_id uuid not null,
    wrapped bytea not null,                 -- by the key service
    key_id text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,                 -- null: the one in use
    primary key (tenant_id, id),
    foreign key (tenant_id, webhook_id) references webhooks (tenant_id, id)
);
create index webhook_secrets_webhook on webhook_secrets (tenant_id, webhook_id);
alter table webhook_secrets enable row level security;
alter table webhook_secrets force row level security;
grant select (tenant_id, id, webhook_id, expires_at), insert, update (expires_at), delete on webhook_secrets to wcc_app;
grant select on webhook_secrets to wcc_sender;
-- Those who decide where events go make them and take them away; no role of the API reads one again.
create policy made_in_tenant on webhook_secrets to wcc_app
    using (tenant_id = (select app.tenant_for('{platform_admin, service}')))
    with check (tenant_id = (select app.tenant_for('{platform_admin, service}')));
-- The sender signs with them, for all tenants.
create policy read_by_sender on webhook_secrets for select to wcc_sender using (true);

-- An event on its way to a webhook: made in the relay's transaction, so that none is forgotten.
create table webhook_deliveries (
    tenant_id uuid not null,
    id uuid not null default uuidv7(),
    webhook_id uuid not null,
    event_id uuid not null,
    aggregate_id uuid not null,
    position bigint not null,               -- the event's: order within an aggregate
    state text not null default 'waiting' check (state in ('waiting', 'delivered', 'dead')),
    attempts integer not null default 0,
    last_status integer,                    -- what the receiver answered last; null: it did not answer
    last_failure text,                      -- a code; never what was answered
    due_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    primary key (tenant_id, id),
    unique (tenant_id, webhook_id, event_id),
    foreign key (tenant_id, webhook_id) references webhooks (tenant_id, id),
    foreign key (tenant_id, event_id) references events (tenant_id, id)
);
create index webhook_deliveries_event on webhook_deliveries (tenant_id, event_id);
create index webhook_deliveries_waiting on webhook_deliveries (tenant_id, webhook_id, aggregate_id, position)
    where state = 'waiting';
create index webhook_deliveries_due on webhook_deliveries (tenant_id, webhook_id, due_at) where state = 'waiting';
alter table webhook_deliveries enable row level security;
alter table webhook_deliveries force row level security;
grant select, insert, update (state, attempts, last_status, last_failure, due_at, ended_at)
    on webhook_deliveries to wcc_app;
grant insert on webhook_deliveries to wcc_relay;
grant select, update (state, attempts, last_status, last_failure, due_at, ended_at)
    on webhook_deliveries to wcc_sender;
-- Those who see the webhook see what was sent to it; those who decide on it may have it sent again.
create policy seen_with_webhook on webhook_deliveries to wcc_app
    using (tenant_id = (select app.tenant_for('{platform_admin, service, data_protection_officer}')))
    with check (tenant_id = (select app.tenant_for('{platform_admin, service}')));
-- The relay makes them, the sender sends them, for all tenants.
create policy made_by_relay on webhook_deliveries for insert to wcc_relay with check (true);
create policy sent_by_sender on webhook_deliveries to wcc_sender using (true) with check (true);

-- The sender's one act of its own: that it has given a webhook up.
grant usage on schema app to wcc_sender;
grant insert on audit_log to wcc_sender;
create policy written_by_sender on audit_log for insert to wcc_sender
    with check (tenant_id = (select app.tenant()) and actor_id = (select app.actor()) and action = 'webhook.disabled');
