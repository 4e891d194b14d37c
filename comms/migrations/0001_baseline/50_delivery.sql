-- Delivery: webhooks, and the events that go to them.

-- webhooks ------------------------------------------------------------------------------------------------------------
create table webhooks (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    url text not null check (length(url) between 1 and 2000),
    event_types text[] not null check (cardinality(event_types) > 0),
    state text not null default 'active' check (state in ('active', 'paused', 'disabled', 'deleted')),
    dead_in_a_row integer not null default 0,   -- deliveries that failed for good since the last success
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
-- Those who decide where the tenant's events go see and change webhooks; the data-protection officer sees them.
create policy decided_in_tenant on webhooks to wcc_app
    using (tenant_id = (select app.tenant_for('{platform_admin, service, data_protection_officer}')))
    with check (tenant_id = (select app.tenant_for('{platform_admin, service}')));
-- The relay sees the types that each webhook of every tenant wants, and its owner, but not its address.
create policy read_by_relay on webhooks for select to wcc_relay using (true);
-- The sender sees the webhooks of all tenants with their addresses, and disables those that keep failing.
create policy used_by_sender on webhooks to wcc_sender using (true) with check (true);
grant select, insert, update on webhooks to wcc_app;
grant select (tenant_id, id, event_types, state, created_by) on webhooks to wcc_relay;
grant select, update (state, dead_in_a_row, version, updated_at) on webhooks to wcc_sender;

-- The secrets that sign a webhook's messages. After a rotation the older one stays valid for a while.
create table webhook_secrets (
    tenant_id uuid not null,
    id uuid not null default uuidv7(),
    webhook_id uuid not null,
    wrapped bytea not null,                 -- encrypted by the key service
    key_id text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,                 -- null: the secret in use
    primary key (tenant_id, id),
    foreign key (tenant_id, webhook_id) references webhooks (tenant_id, id)
);
create index webhook_secrets_webhook on webhook_secrets (tenant_id, webhook_id);
alter table webhook_secrets enable row level security;
alter table webhook_secrets force row level security;
-- Those who decide where events go make secrets and delete them; the API reads no secret again.
create policy made_in_tenant on webhook_secrets to wcc_app
    using (tenant_id = (select app.tenant_for('{platform_admin, service}')))
    with check (tenant_id = (select app.tenant_for('{platform_admin, service}')));
-- The sender signs with the secrets of all tenants.
create policy read_by_sender on webhook_secrets for select to wcc_sender using (true);
grant select (tenant_id, id, webhook_id, expires_at), insert, update (expires_at), delete on webhook_secrets to wcc_app;
grant select on webhook_secrets to wcc_sender;

-- An event that goes to a webhook. The relay makes it in its own transaction, so that none is lost.
create table webhook_deliveries (
    tenant_id uuid not null,
    id uuid not null default uuidv7(),
    webhook_id uuid not null,
    event_id uuid not null,
    aggregate_id uuid not null,
    position bigint not null,               -- of the event: the order within an aggregate
    state text not null default 'waiting' check (state in ('waiting', 'delivered', 'dead')),
    attempts integer not null default 0,
    last_status integer,                    -- the receiver's last HTTP status; null: no answer
    last_failure text,                      -- a code, never what the receiver answered
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
-- Those who see a webhook see its deliveries; those who decide on it may have one sent again.
create policy seen_with_webhook on webhook_deliveries to wcc_app
    using (tenant_id = (select app.tenant_for('{platform_admin, service, data_protection_officer}')))
    with check (tenant_id = (select app.tenant_for('{platform_admin, service}')));
-- Whoever may not see an event does not see its deliveries.
create policy as_the_event on webhook_deliveries as restrictive for select to wcc_app
    using (exists (select from events e
        where e.tenant_id = webhook_deliveries.tenant_id and e.id = webhook_deliveries.event_id));
-- The relay makes deliveries for all tenants.
create policy made_by_relay on webhook_deliveries for insert to wcc_relay with check (true);
-- The sender sends the deliveries of all tenants.
create policy sent_by_sender on webhook_deliveries to wcc_sender using (true) with check (true);
-- `app.erase_webhook_deliveries` deletes, in the tenant that acts, ended deliveries past their retention period.
create policy erased_by_rule on webhook_deliveries to wcc_owner
    using (tenant_id = (select app.tenant()) and state <> 'waiting'
        and ended_at < (select app.kept_since('webhook_deliveries')))
    with check (false);
-- `app.erase_events` sees, in the tenant that acts, which events still have a delivery.
create policy asked_by_rules on webhook_deliveries for select to wcc_owner using (tenant_id = (select app.tenant()));
grant select, insert, update (state, attempts, last_status, last_failure, due_at, ended_at)
    on webhook_deliveries to wcc_app;
grant insert on webhook_deliveries to wcc_relay;
grant select, update (state, attempts, last_status, last_failure, due_at, ended_at)
    on webhook_deliveries to wcc_sender;

-- what a webhook receives ---------------------------------------------------------------------------------------------
-- The permission that an account needs for an event of this type. Events of a type that is not named go to no webhook.
create function app.event_scope(type text) returns text language sql immutable
    return case
        when type in ('session.created', 'session.started', 'session.ended',
            'session.participant.joined', 'session.participant.left') then 'sessions.read'
        when type in ('session.recording.started', 'session.recording.stopped', 'recording.processed')
            then 'recordings.read'
        when type = 'transcript.ready' then 'transcripts.read'
        when type in ('message.sent', 'message.edited', 'message.deleted', 'message.reaction.added',
            'message.reaction.removed') then 'messages.read'
        when type in ('conversation.created', 'conversation.changed', 'conversation.member.joined',
            'conversation.member.left') then 'conversations.read'
        when type = 'consent.changed' then 'consent.read'
        when type in ('safeguarding.alert', 'safeguarding.alert.high_priority', 'alert.reviewed',
            'alert.subject.changed', 'glass.broken') then 'alerts.read'
        when type in ('model.promoted', 'integration.sync') then 'webhooks.manage'
        else 'unknown' end;
-- Whether an account may do now what the permission names: a service account if its key has the scope and has not
-- expired, a token of the role `service` always, the platform administrator only what concerns webhooks.
create function app.account_may(account uuid, scope text) returns boolean language sql stable
    begin atomic
        select exists (select from users u
            left join service_accounts a on a.tenant_id = u.tenant_id and a.id = u.id
            where u.tenant_id = app.tenant() and u.id = account and u.active and scope <> 'unknown'
                and case when a.id is not null then a.expires_at > now() and scope = any (a.scopes)
                    when u.role = 'service' then true
                    else u.role = 'platform_admin' and scope = 'webhooks.manage' end);
    end;
-- Whether the owner of a webhook may read an event now. The relay asks before it makes a delivery, the sender before
-- each try, the API before it has one sent again. Of a conversation only its members at that moment may; what is about
-- a person is not for that person. The tenant is a parameter, because relay and sender act for no tenant.
create function app.webhook_hears(
    tenant uuid, owner uuid, type text, aggregate_type text, aggregate_id uuid, told jsonb
) returns boolean language plpgsql security definer set search_path = public, pg_temp as $$
declare
    before text := coalesce(current_setting('app.tenant_id', true), '');
    heard boolean;
begin
    -- the relay and the sender act for no tenant: the rules are asked in the one that is named, and only here
    perform set_config('app.tenant_id', tenant::text, true);
    heard := app.account_may(owner, app.event_scope(type))
        and owner <> all (app.kept_from(type, told))
        and (aggregate_type <> 'conversation' or exists (select from conversation_members m
            where m.tenant_id = tenant and m.conversation_id = aggregate_id and m.user_id = owner
                and m.after_id < (told ->> 'moment')::uuid
                and (m.until_id is null or (told ->> 'moment')::uuid <= m.until_id)));
    perform set_config('app.tenant_id', before, true);
    return heard;
end $$;
revoke all on function app.account_may(uuid, text), app.webhook_hears(uuid, uuid, text, text, uuid, jsonb) from public;
grant execute on function app.webhook_hears(uuid, uuid, text, text, uuid, jsonb) to wcc_app, wcc_relay, wcc_sender;
