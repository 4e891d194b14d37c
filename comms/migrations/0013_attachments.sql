-- Attachments: files beside messages. Their bytes lie sealed in storage, here is what opens them, and the words inside.

-- A file may be sent without words: its message's content is empty then, and null still means deleted. What stands in
-- the months that were made before is theirs (`like … including all`), so that it is exchanged there too.
alter table messages drop constraint messages_content_check;
do $$
declare
    month regclass;
begin
    for month in select inhrelid::regclass from pg_inherits where inhparent = 'messages'::regclass loop
        execute format('alter table %s drop constraint if exists messages_content_check', month);
    end loop;
end $$;
alter table messages add constraint messages_content_check
    check (length(content) <= 10000 and (length(content) > 0 or message_type in ('file', 'voice')));

create table message_attachments (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    conversation_id uuid not null,
    uploaded_by uuid not null,
    message_id uuid,                            -- null until it is sent
    position smallint,                          -- its place among the message's
    name text not null check (length(name) between 1 and 150),
    media_type text not null check (media_type in (
        'image/jpeg', 'image/png', 'image/webp', 'application/pdf', 'text/plain',
        'application/vnd.openxmlformats-officedocument.wordprocessingml.document',
        'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet',
        'application/vnd.oasis.opendocument.text',
        'audio/wav', 'audio/flac', 'audio/mpeg', 'audio/ogg', 'audio/mp4', 'audio/webm')),
    size_bytes bigint not null check (size_bytes >= 1),
    duration_seconds double precision,          -- of sound
    sha256 bytea not null,                      -- of the bytes as they are kept
    object_key text not null,                   -- where they lie
    wrapped_key bytea not null,                 -- what opens them, wrapped by key `key_id` of the key service
    key_id text not null,
    text text check (length(text) <= 200000),   -- the words inside; null where there are none, or none can be read
    text_cut boolean not null default false,    -- there are more words inside than stand in `text`
    words tsvector not null generated always as (to_tsvector('english', coalesce(text, ''))) stored,
    scanned_by text,                            -- the scanner that found nothing, and its signatures; null: none is set
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    check (num_nulls(message_id, position) in (0, 2)),
    foreign key (tenant_id, conversation_id) references conversations (tenant_id, id),
    foreign key (tenant_id, uploaded_by) references users (tenant_id, id),
    foreign key (tenant_id, message_id) references messages (tenant_id, id)
);
create unique index message_attachments_object on message_attachments (tenant_id, object_key);
create index message_attachments_message on message_attachments (tenant_id, message_id, position);
create index message_attachments_conversation on message_attachments (tenant_id, conversation_id, message_id);
create index message_attachments_uploader on message_attachments (tenant_id, uploaded_by, message_id);
create index message_attachments_words on message_attachments using gin (words);
alter table message_attachments enable row level security;
alter table message_attachments force row level security;
grant select, insert, update (message_id, position) on message_attachments to wcc_app;
grant select (tenant_id, id, conversation_id, message_id, position, media_type, text, text_cut, words, created_at)
    on message_attachments to wcc_worker;
-- Who sees a message sees what it came with, until it is deleted; from then on the data-protection officer and the
-- safeguarding lead do, and the API logs that they looked. Before it is sent, whoever uploaded it alone does.
create policy as_the_message on message_attachments for select to wcc_app
    using (tenant_id = (select app.tenant()) and case when message_id is null
        then uploaded_by = (select app.actor())
        else exists (select from messages m
            where m.tenant_id = message_attachments.tenant_id and m.id = message_attachments.message_id
                and (m.deleted_at is null
                    or m.tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}')))) end);
-- Members upload in their own name, into conversations that they are in.
create policy uploaded_by_members on message_attachments for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and uploaded_by = (select app.actor()) and message_id is null
        and conversation_id = any ((select app.own_conversations())::uuid[]));
-- Whoever uploaded it sends it, once, with a message of their own in that conversation.
create policy sent_once on message_attachments for update to wcc_app
    using (tenant_id = (select app.tenant()) and uploaded_by = (select app.actor()) and message_id is null)
    with check (tenant_id = (select app.tenant()) and exists (select from messages m
        where m.tenant_id = message_attachments.tenant_id and m.id = message_attachments.message_id
            and m.conversation_id = message_attachments.conversation_id
            and m.sender_id = (select app.actor()) and m.deleted_at is null));
-- The worker reads the words inside for safeguarding, within the tenant it acts for; it has no key to the bytes.
create policy read_by_worker on message_attachments for select to wcc_worker
    using (tenant_id = (select app.tenant()));

-- Sweeping: what nobody sent within a day goes, and objects that no row opens. The functions run as the owner, because
-- the rows are their uploaders' alone; within the tenant that asks, they name objects and say nothing else.
create policy swept on message_attachments for select to wcc_owner using (tenant_id = (select app.tenant()));
-- What has been sent stays.
create policy dropped_unsent on message_attachments for delete to wcc_owner
    using (tenant_id = (select app.tenant()) and message_id is null and created_at < now() - interval '1 day');
create function app.drop_unsent_attachments() returns setof text language sql security definer
    set search_path = public, pg_temp
    begin atomic
        delete from message_attachments a where a.tenant_id = app.tenant() and a.message_id is null
            and a.created_at < now() - interval '1 day'
            returning a.object_key;
    end;
revoke all on function app.drop_unsent_attachments() from public;
grant execute on function app.drop_unsent_attachments() to wcc_app;
create function app.kept_attachment_objects(keys text[]) returns setof text language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select a.object_key from message_attachments a
        where a.tenant_id = app.tenant() and a.object_key = any (keys);
    end;
revoke all on function app.kept_attachment_objects(text[]) from public;
grant execute on function app.kept_attachment_objects(text[]) to wcc_app;
