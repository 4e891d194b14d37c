-- Live: tickets that open a WebSocket, and who is connected.

create table ws_tickets (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    user_id uuid not null,
    role text not null,
    secret_hash bytea not null,
    expires_at timestamptz not null,
    used_at timestamptz,
    sign_in_id uuid,
    scopes text[],                          -- of the key that asked for it
    primary key (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id),
    foreign key (tenant_id, sign_in_id) references sign_ins (tenant_id, id) on delete cascade
);
create index ws_tickets_user on ws_tickets (tenant_id, user_id);
create index ws_tickets_expiry on ws_tickets (tenant_id, expires_at);
create index ws_tickets_sign_in on ws_tickets (tenant_id, sign_in_id);
alter table ws_tickets enable row level security;
alter table ws_tickets force row level security;
-- Members of the tenant make and use tickets; the API makes and redeems one as the person whose ticket it is.
create policy own_ticket on ws_tickets to wcc_app
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
grant select, insert, update, delete on ws_tickets to wcc_app;

-- A row is one socket of a person in a session or a conversation. Its process renews the lease.
create table presences (
    tenant_id uuid not null,
    id uuid not null default uuidv7(),
    place_type text not null check (place_type in ('session', 'conversation')),
    place_id uuid not null,
    user_id uuid not null,
    leased_until timestamptz not null,      -- a killed process no longer renews it, so its people are gone after that
    typing_until timestamptz,               -- what they type is stored nowhere
    primary key (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index presences_place on presences (tenant_id, place_type, place_id, leased_until);
create index presences_user on presences (tenant_id, user_id);
create index presences_lapsed on presences (tenant_id, leased_until);
alter table presences enable row level security;
alter table presences force row level security;
-- Members of the tenant see presences; the API shows who is connected to a place only to those who are connected to it.
create policy own_tenant on presences to wcc_app
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
grant select, insert, update (leased_until, typing_until), delete on presences to wcc_app;
