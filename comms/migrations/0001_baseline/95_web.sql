-- Web: answers that are kept for a day, so that a POST that is repeated with its Idempotency-Key is answered again and
-- not done again.

create table kept_answers (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    user_id uuid not null,        -- who asked. No foreign key: a platform administrator is no user of a new tenant
    key text not null check (length(key) between 1 and 255),
    request_hash bytea not null,  -- of method, address and body: a key stands for one request
    status smallint not null check (status between 200 and 299),
    headers jsonb not null,
    body bytea not null,          -- as it was sent; it may hold personal data, such as titles
    created_at timestamptz not null default now(),
    -- What the answer or its request names and the actor could see then, as `table:id`. It is given again only to an
    -- actor who still sees all of it.
    refers_to text[] not null default '{}',
    primary key (tenant_id, id),
    unique (tenant_id, user_id, key)
);
create index kept_answers_age on kept_answers (created_at);
alter table kept_answers enable row level security;
alter table kept_answers force row level security;
-- Only the person who sent the request sees its answer.
create policy own_answers on kept_answers to wcc_app
    using (tenant_id = (select app.tenant()) and user_id = (select app.actor()))
    with check (tenant_id = (select app.tenant()) and user_id = (select app.actor()));
-- `app.forget_kept_answers` sees and deletes the answers of all tenants that are older than a day.
create policy swept on kept_answers to wcc_owner using (created_at < now() - interval '24 hours') with check (false);
grant select, insert, delete on kept_answers to wcc_app;
create function app.forget_kept_answers() returns bigint language sql security definer
    set search_path = public, pg_temp
    begin atomic
        with forgotten as (delete from kept_answers where created_at < now() - interval '24 hours' returning 1)
        select count(*) from forgotten;
    end;
revoke all on function app.forget_kept_answers() from public;
grant execute on function app.forget_kept_answers() to wcc_app;
-- Which of the ids the actor sees now, each with its table. It runs as the caller, so that the policies of each table
-- answer and no rule is written twice.
create function app.seen_of(ids uuid[]) returns text[] language sql stable
    begin atomic
        select coalesce(array_agg(seen.name), '{}') from (
            select 'alerts:' || a.id from alerts a where a.tenant_id = app.tenant() and a.id = any (ids)
            union all select 'reviews:' || r.id from reviews r where r.tenant_id = app.tenant() and r.id = any (ids)
            union all select 'recordings:' || r.id from recordings r
                where r.tenant_id = app.tenant() and r.id = any (ids)
            union all select 'recording_tracks:' || t.id from recording_tracks t
                where t.tenant_id = app.tenant() and t.id = any (ids)
            union all select 'transcriptions:' || t.id from transcriptions t
                where t.tenant_id = app.tenant() and t.id = any (ids)
            union all select 'analyses:' || n.id from analyses n where n.tenant_id = app.tenant() and n.id = any (ids)
            union all select 'communication_sessions:' || s.id from communication_sessions s
                where s.tenant_id = app.tenant() and s.id = any (ids)
            union all select 'care_contexts:' || c.session_id from care_contexts c
                where c.tenant_id = app.tenant() and c.session_id = any (ids)
            union all select 'session_invitations:' || i.id from session_invitations i
                where i.tenant_id = app.tenant() and i.id = any (ids)
            union all select 'conversations:' || c.id from conversations c
                where c.tenant_id = app.tenant() and c.id = any (ids)
            union all select 'messages:' || m.id from messages m where m.tenant_id = app.tenant() and m.id = any (ids)
            union all select 'message_attachments:' || f.id from message_attachments f
                where f.tenant_id = app.tenant() and f.id = any (ids)
            union all select 'retention_holds:' || h.id from retention_holds h
                where h.tenant_id = app.tenant() and h.id = any (ids)
            union all select 'broken_glass:' || g.id from broken_glass g
                where g.tenant_id = app.tenant() and g.id = any (ids)
            union all select 'account_changes:' || c.id from account_changes c
                where c.tenant_id = app.tenant() and c.id = any (ids)
            union all select 'webhooks:' || w.id from webhooks w where w.tenant_id = app.tenant() and w.id = any (ids)
            union all select 'webhook_deliveries:' || d.id from webhook_deliveries d
                where d.tenant_id = app.tenant() and d.id = any (ids)
        ) as seen (name);
    end;
