-- An alert goes up as soon as a message is judged; which words moved the model is found afterwards. The last messages
-- before a new one are read again with what came after them.

-- evidence that waits for its spans -----------------------------------------------------------------------------------
-- Null: they were looked for. Until then the message whole is the evidence. Taking is a lease, as of readings: what
-- was not kept comes due again, ever later.
alter table alert_evidence add column spans_due_at timestamptz;
alter table alert_evidence add column spans_tries integer not null default 0;
alter table alert_evidence add constraint alert_evidence_spans_of_messages
    check (spans_due_at is null or message_id is not null);
create index alert_evidence_spans_due on alert_evidence (tenant_id, spans_due_at) where spans_due_at is not null;
grant update (spans, spans_due_at, spans_tries) on alert_evidence to wcc_worker;
-- That something waits in a tenant is all that the worker learns across tenants (the function below).
create policy waiting_asked_by_rules on alert_evidence for select to wcc_owner using (spans_due_at is not null);
create function app.tenants_with_unexplained_evidence() returns setof uuid language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        -- a step of the index a tenant, however much waits in each
        with recursive waiting as (
            (select e.tenant_id from alert_evidence e where e.spans_due_at <= now() order by e.tenant_id limit 1)
            union all
            select (select e.tenant_id from alert_evidence e where e.spans_due_at <= now()
                    and e.tenant_id > w.tenant_id order by e.tenant_id limit 1)
            from waiting w where w.tenant_id is not null)
        select w.tenant_id from waiting w where w.tenant_id is not null;
    end;
revoke all on function app.tenants_with_unexplained_evidence() from public;
grant execute on function app.tenants_with_unexplained_evidence() to wcc_worker;

-- a message may be read again -----------------------------------------------------------------------------------------
-- How many messages of the conversation the models were shown before and after it; null of what was read before this
-- was noted. Its first reading was made when it came; `again`: when others had come after it. All are kept.
alter table message_readings add column turns_before integer check (turns_before >= 0);
alter table message_readings add column turns_after integer check (turns_after >= 0);
alter table message_readings add column again boolean not null default false;
alter table message_readings drop constraint message_readings_tenant_id_message_id_version_key;
create unique index message_readings_first on message_readings (tenant_id, message_id, version) where not again;
create index message_readings_message on message_readings (tenant_id, message_id, version);

-- how far the reading lags behind -------------------------------------------------------------------------------------
-- `due_at` moves with every try; this does not.
alter table message_readings_due add column since timestamptz not null default now();
create index message_readings_due_since on message_readings_due (since) where due_at <> 'infinity'::timestamptz;
-- Numbers over all tenants, for the operator's measurements: how many messages are to be read and since when the longest
-- waits. What waits for its sender's permission is not counted.
create function app.reading_lag(out unread bigint, out seconds double precision) language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select count(*), coalesce(extract(epoch from now() - min(d.since)), 0)::double precision
        from message_readings_due d where d.due_at <> 'infinity';
    end;
revoke all on function app.reading_lag() from public;
grant execute on function app.reading_lag() to wcc_app;

-- meaning of what has no words ----------------------------------------------------------------------------------------
-- A message that was a file alone has none: the vector of no words is near to nothing and found last by everything.
alter table message_vectors no force row level security;
alter table messages no force row level security;
alter table message_attachments no force row level security;
delete from message_vectors v using messages m
    where m.tenant_id = v.tenant_id and m.id = v.message_id and btrim(m.content, E' \t\n\r') = ''
        and not exists (select from message_attachments a
            where a.tenant_id = m.tenant_id and a.message_id = m.id and btrim(a.text, E' \t\n\r') <> '');
alter table message_attachments force row level security;
alter table messages force row level security;
alter table message_vectors force row level security;
