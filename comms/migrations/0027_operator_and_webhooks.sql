-- A webhook receives what its owner may read; the operator's tenant alone sees the other tenants.

-- webhooks ------------------------------------------------------------------------------------------------------------
-- The permission that an account needs for what an event tells of. A type that is not named here goes to no webhook.
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

-- The rules below read, within the tenant that they are asked about, what a service account's key may do.
create policy asked_by_webhooks on service_accounts for select to wcc_owner using (tenant_id = (select app.tenant()));
-- Whether an account may do what the permission names, now: a key as far as its scopes say, while it is good; a token of
-- the role `service` whatever that role may; of the platform's administrator, webhooks are all that events tell of.
create function app.account_may(account uuid, scope text) returns boolean language sql stable
    begin atomic
        select exists (select from users u
            left join service_accounts a on a.tenant_id = u.tenant_id and a.id = u.id
            where u.tenant_id = app.tenant() and u.id = account and u.active and scope <> 'unknown'
                and case when a.id is not null then a.expires_at > now() and scope = any (a.scopes)
                    when u.role = 'service' then true
                    else u.role = 'platform_admin' and scope = 'webhooks.manage' end);
    end;
-- Whether the owner of a webhook may read what an event tells of, now. Asked when the relay makes a delivery, each time
-- before the sender sends it, and when it is to be sent again. Of a conversation its members of that moment may, as on a
-- socket; what is about a person is not for that person. For the tenant that is named, whoever asks.
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
grant select (created_by) on webhooks to wcc_relay;

-- tenants -------------------------------------------------------------------------------------------------------------
-- The rule below reads the row of the tenant that asks.
create policy asked_by_rule on tenants for select to wcc_owner using (id = (select app.tenant()));
-- Whether whoever acts runs the installation: the platform's administrator of the operator's tenant, whose slug is a
-- setting (comms/provision.py lays it into the login), and the command line, which acts for no tenant.
create function app.runs_installation() returns boolean language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select app.actor_role() = 'platform_admin' and (app.tenant() = '00000000-0000-0000-0000-000000000000'
            or exists (select from tenants t
                where t.id = app.tenant() and t.slug = current_setting('app.operator_tenant', true)));
    end;
revoke all on function app.runs_installation() from public;
grant execute on function app.runs_installation() to wcc_app, wcc_worker;
-- A tenant sees itself; whoever runs the installation sees and makes all.
alter policy own_tenant on tenants using (id = (select app.tenant()) or (select app.runs_installation()));
alter policy made_by_platform on tenants with check ((select app.runs_installation()));
