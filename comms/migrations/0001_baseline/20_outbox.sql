-- The outbox: every event, written in the transaction of the change that it reports.

create table events (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    type text not null,
    aggregate_type text not null,
    aggregate_id uuid not null,
    aggregate_version integer not null, -- taken under the row lock of the aggregate: the order within an aggregate
    data jsonb not null,
    occurred_at timestamptz not null default now(),
    position bigint,                    -- the relay counts it up in the order of sending; null: not sent yet
    sent_at timestamptz,
    primary key (tenant_id, id)
) partition by range (id);
create index events_unsent on events (occurred_at, id) where sent_at is null;
create index events_sent on events (tenant_id, position) where position is not null;
create index events_order on events (position) where position is not null;
alter table events enable row level security;
alter table events force row level security;
-- The tenant writes and reads its own events.
create policy own_tenant on events to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- Nobody sees an event about an alert that is withheld from them.
create policy not_about_oneself on events as restrictive for select to wcc_app
    using (coalesce(data ->> 'alert_id', '') <> all ((select app.alerts_withheld())::text[]));
-- Nobody sees an event about a recording that is withheld from them.
create policy recordings_not_about_oneself on events as restrictive for select to wcc_app
    using (coalesce(data ->> 'recording_id', '') <> all ((select app.recordings_withheld())::text[]));
-- Nobody sees an event that says whether an alert is about them.
create policy proposed_unseen on events as restrictive for select to wcc_app
    using (type <> 'alert.subject.changed'
        or app.person_of((data ->> 'user_id')::uuid) <> (select app.own_person()));
-- The relay reads the events of all tenants and marks what it has sent.
create policy relay_sends on events to wcc_relay using (true) with check (true);
-- The sender reads the sent events of all tenants.
create policy read_by_sender on events for select to wcc_sender using (position is not null);
-- `app.erase_events` deletes, in the tenant that acts, sent events past their retention period.
create policy erased_by_rule on events to wcc_owner
    using (tenant_id = (select app.tenant()) and position is not null
        and sent_at < (select app.kept_since('events')))
    with check (false);
grant select, insert on events to wcc_app, wcc_worker;
grant select, update (position, sent_at) on events to wcc_relay;
grant select on events to wcc_sender;
-- Each partition holds one event per type and version of an aggregate.
create table partitions.events_before (like events including all,
    unique (tenant_id, aggregate_type, aggregate_id, aggregate_version, type));
select app.attach_first_partition('events');

create sequence events_position;
grant usage on sequence events_position to wcc_relay;
