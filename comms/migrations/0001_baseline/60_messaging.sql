-- Messaging: conversations and their members, messages with their versions, mentions, reactions, attachments, receipts,
-- vectors and search.
--
-- Membership is the need to know: policies ask for it, and no role replaces it, except where a policy says so. Each
-- conversation has a clock, `moment`: a UUIDv7 that is taken under the row lock of the conversation and is always later
-- than the one before. Messages' ids, the times at which members joined and left, and the time of a message's last
-- change are such moments, so that "later than" is exact whichever machine's clock was read.

-- conversations and members -------------------------------------------------------------------------------------------
-- Policies of both tables ask the view `app.stays`, so they stand after both tables.
create table conversations (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    conversation_type text not null check (conversation_type in ('direct', 'group', 'care_team', 'family')),
    title text check (length(title) between 1 and 255),
    -- what a later member sees: messages from then on, or all of them
    history text not null default 'from_joining' check (history in ('from_joining', 'whole')),
    incidents text[] not null default '{}',     -- references of incidents: codes, no words
    first_person uuid,                          -- of a direct conversation: its two people, the smaller id first
    second_person uuid,
    created_by uuid not null,
    version integer not null default 1,         -- of title, settings, care context and members
    moment uuid not null,                       -- the last one taken
    event_version integer not null default 0,   -- of the last event
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    check (num_nonnulls(first_person, second_person) = case when conversation_type = 'direct' then 2 else 0 end),
    check (first_person < second_person),
    foreign key (tenant_id, created_by) references users (tenant_id, id),
    foreign key (tenant_id, first_person) references users (tenant_id, id),
    foreign key (tenant_id, second_person) references users (tenant_id, id)
);
create index conversations_creator on conversations (tenant_id, created_by);
create index conversations_second_person on conversations (tenant_id, second_person);
-- Two people have one direct conversation.
create unique index conversations_direct on conversations (tenant_id, first_person, second_person);

-- A row is one stay of a person in a conversation.
create table conversation_members (
    tenant_id uuid not null,
    id uuid not null default uuidv7(),
    conversation_id uuid not null,
    user_id uuid not null,
    added_by uuid not null,
    after_id uuid not null,                     -- they see what came after this moment …
    until_id uuid,                              -- … and nothing after this one; null: they are a member now
    joined_at timestamptz not null default now(),
    left_at timestamptz,
    primary key (tenant_id, id),
    check (num_nulls(until_id, left_at) in (0, 2)),
    foreign key (tenant_id, conversation_id) references conversations (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id),
    foreign key (tenant_id, added_by) references users (tenant_id, id)
);
create unique index conversation_members_present on conversation_members (tenant_id, conversation_id, user_id)
    where until_id is null;
create index conversation_members_conversation on conversation_members (tenant_id, conversation_id, user_id);
create index conversation_members_user on conversation_members (tenant_id, user_id, conversation_id);
create index conversation_members_adder on conversation_members (tenant_id, added_by);

-- The stays of the actor, who sees them under the table's own policy too. The view reads the table as its owner, so
-- that the plan of a policy that asks it does not contain the policies of conversation_members (docs/decisions/0029).
create view app.stays as
    select s.tenant_id, s.conversation_id, s.after_id, s.until_id from public.conversation_members s
    where s.user_id = (select app.actor());
grant select on app.stays to wcc_app;
-- The conversations of which the actor is a member now. It runs as the owner: a policy of conversation_members that
-- read conversation_members would call itself without end.
create function app.own_conversations() returns uuid[] language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select coalesce(array_agg(m.conversation_id), '{}') from conversation_members m
        where m.tenant_id = app.tenant() and m.user_id = app.actor() and m.until_id is null;
    end;
revoke all on function app.own_conversations() from public;
grant execute on function app.own_conversations() to wcc_app;

alter table conversations enable row level security;
alter table conversations force row level security;
-- Members see a conversation while they are members; who has left keeps the messages of their time, but not the title.
create policy own_conversations on conversations for select to wcc_app
    using (tenant_id = (select app.tenant()) and exists (select from app.stays s
        where s.tenant_id = conversations.tenant_id and s.conversation_id = conversations.id and s.until_id is null));
-- Staff make conversations in their own name.
create policy made_by_staff on conversations for insert to wcc_app
    with check (created_by = (select app.actor()) and tenant_id = (select app.tenant_for(
        '{safeguarding_lead, reviewer, data_protection_officer, care_manager, care_worker, service}')));
-- Members change it: every message takes the next moment; the API's permission table says who may rename it.
create policy moved_by_members on conversations for update to wcc_app
    using (tenant_id = (select app.tenant()) and exists (select from app.stays s
        where s.tenant_id = conversations.tenant_id and s.conversation_id = conversations.id and s.until_id is null))
    with check (tenant_id = (select app.tenant()));
-- The worker sees the conversations of the tenant that it acts for, whose messages it assesses.
create policy read_by_worker on conversations for select to wcc_worker using (tenant_id = (select app.tenant()));
-- The trigger that writes system messages sees, in the tenant that acts, the moment of a conversation.
create policy asked_by_rules on conversations for select to wcc_owner using (tenant_id = (select app.tenant()));
grant select, insert, update (title, history, incidents, version, moment, event_version, updated_at)
    on conversations to wcc_app;
grant select on conversations to wcc_worker;

alter table conversation_members enable row level security;
alter table conversation_members force row level security;
-- Members see who is or was in their conversations; everybody sees their own stays. `is true` changes no result: it
-- keeps the planner from starting with all members of all those conversations.
create policy own_conversations on conversation_members for select to wcc_app
    using (tenant_id = (select app.tenant()) and (user_id = (select app.actor())
        or (conversation_id = any ((select app.own_conversations())::uuid[])) is true));
-- Staff add others to conversations of which they are members, so nobody adds themselves.
create policy added_by_staff on conversation_members for insert to wcc_app
    with check (added_by = (select app.actor()) and until_id is null
        and conversation_id = any ((select app.own_conversations())::uuid[]) and tenant_id = (select app.tenant_for(
            '{safeguarding_lead, reviewer, data_protection_officer, care_manager, care_worker, service}')));
-- Staff of a conversation end stays in it, everybody ends their own; a stay that has ended stays as it is.
create policy ended_once on conversation_members for update to wcc_app
    using (tenant_id = (select app.tenant()) and until_id is null
        and conversation_id = any ((select app.own_conversations())::uuid[])
        and (user_id = (select app.actor()) or tenant_id = (select app.tenant_for(
            '{safeguarding_lead, reviewer, data_protection_officer, care_manager, care_worker, service}'))))
    with check (tenant_id = (select app.tenant()) and until_id is not null);
-- The worker sees the members of the tenant that it acts for.
create policy read_by_worker on conversation_members for select to wcc_worker using (tenant_id = (select app.tenant()));
-- Functions that run as the owner see, within the tenant that acts, who is a member of what.
create policy asked_by_rules on conversation_members for select to wcc_owner using (tenant_id = (select app.tenant()));
-- `app.found_conversation` adds the first member.
create policy founded_by_trigger on conversation_members for insert to wcc_owner
    with check (tenant_id = (select app.tenant()));
grant select, insert, update (until_id, left_at) on conversation_members to wcc_app;
grant select on conversation_members to wcc_worker;

-- Whoever makes a conversation is its first member.
create function app.found_conversation() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    insert into conversation_members (tenant_id, conversation_id, user_id, added_by, after_id)
        values (new.tenant_id, new.id, new.created_by, new.created_by, new.moment);
    return null;
end $$;
create trigger conversations_founded after insert on conversations
    for each row execute function app.found_conversation();

-- The people who were members at the moment of an event: only they receive it. It answers only the platform itself,
-- which acts as the nil UUID; no token carries that id.
create function app.heard_by(conversation uuid, moment uuid) returns uuid[] language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select coalesce(array_agg(m.user_id), '{}') from conversation_members m
        where m.tenant_id = app.tenant() and m.conversation_id = heard_by.conversation
            and m.after_id < heard_by.moment and (m.until_id is null or heard_by.moment <= m.until_id)
            and app.actor() = '00000000-0000-0000-0000-000000000000';
    end;
revoke all on function app.heard_by(uuid, uuid) from public;
grant execute on function app.heard_by(uuid, uuid) to wcc_app;

-- The residents whom a conversation is about.
create table conversation_residents (
    tenant_id uuid not null,
    conversation_id uuid not null,
    user_id uuid not null,
    primary key (tenant_id, conversation_id, user_id),
    foreign key (tenant_id, conversation_id) references conversations (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index conversation_residents_user on conversation_residents (tenant_id, user_id);
alter table conversation_residents enable row level security;
alter table conversation_residents force row level security;
-- Members see and change whom their conversation is about.
create policy own_conversations on conversation_residents to wcc_app
    using (tenant_id = (select app.tenant()) and exists (select from app.stays s
        where s.tenant_id = conversation_residents.tenant_id
            and s.conversation_id = conversation_residents.conversation_id and s.until_id is null))
    with check (tenant_id = (select app.tenant()) and exists (select from app.stays s
        where s.tenant_id = conversation_residents.tenant_id
            and s.conversation_id = conversation_residents.conversation_id and s.until_id is null));
-- The worker sees it in the tenant that it acts for.
create policy read_by_worker on conversation_residents for select to wcc_worker
    using (tenant_id = (select app.tenant()));
grant select, insert, delete on conversation_residents to wcc_app;
grant select on conversation_residents to wcc_worker;

-- messages ------------------------------------------------------------------------------------------------------------
create table messages (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),          -- the moment at which it was sent
    conversation_id uuid not null,
    sender_id uuid,                             -- null: a system message
    sender_type text not null check (sender_type in ('user', 'system', 'integration')),
    message_type text not null default 'text' check (message_type in ('text', 'file', 'voice', 'system', 'alert')),
    content text,                               -- null: deleted; empty: files without words
    words tsvector not null generated always as (app.search_words(content)) stored,
    reply_to uuid,
    version integer not null default 1,
    changed_id uuid not null,                   -- the moment at which it was sent or last changed
    edited_at timestamptz,
    deleted_at timestamptz,
    created_at timestamptz not null default now(),
    -- Of a system message: what happened, in ids and codes, for clients to put into words. `content` names nobody.
    about jsonb,
    primary key (tenant_id, id),
    constraint messages_content_check
        check (length(content) <= 10000 and (length(content) > 0 or message_type in ('file', 'voice'))),
    check ((content is null) = (deleted_at is not null)),
    check ((sender_id is null) = (sender_type = 'system')),
    check (about is null or sender_type = 'system'),
    foreign key (tenant_id, conversation_id) references conversations (tenant_id, id),
    foreign key (tenant_id, sender_id) references users (tenant_id, id),
    foreign key (tenant_id, reply_to) references messages (tenant_id, id) on delete set null (reply_to)
) partition by range (id);
create index messages_conversation on messages (tenant_id, conversation_id, id);
create index messages_sender on messages (tenant_id, sender_id, id);
create index messages_reply on messages (tenant_id, reply_to);
create index messages_words on messages using gin (words);
alter table messages enable row level security;
alter table messages force row level security;
-- Members see what was sent after they joined (with the whole history: everything) and until they left. A message that
-- changed after they left they no longer see, because they would see the change. Whoever has an alert open sees the
-- messages that it cites and a few around them. The data-protection officer and the safeguarding lead see that a
-- message was deleted; it has no words any more. One policy, because with several PostgreSQL would not use the index on
-- tenant and conversation.
create policy need_to_know on messages for select to wcc_app
    using (tenant_id = (select app.tenant()) and (
        exists (select from app.stays s
            where s.tenant_id = messages.tenant_id and s.conversation_id = messages.conversation_id
                and messages.id > s.after_id and (s.until_id is null or messages.changed_id <= s.until_id))
        or deleted_at is not null
            and tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}'))
        or id = any ((select app.messages_opened())::uuid[])));
-- Members write in their own name.
create policy written_by_members on messages for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and sender_id = (select app.actor()) and version = 1
        and exists (select from app.stays s where s.tenant_id = messages.tenant_id
            and s.conversation_id = messages.conversation_id and s.until_id is null));
-- The sender changes a message while they are a member; a deleted message stays as it is.
create policy changed_by_sender on messages for update to wcc_app
    using (tenant_id = (select app.tenant()) and sender_id = (select app.actor()) and deleted_at is null
        and exists (select from app.stays s where s.tenant_id = messages.tenant_id
            and s.conversation_id = messages.conversation_id and s.until_id is null))
    with check (tenant_id = (select app.tenant()) and sender_id = (select app.actor()));
-- The worker sees the messages of the tenant that it acts for.
create policy read_by_worker on messages for select to wcc_worker using (tenant_id = (select app.tenant()));
-- The worker may lock a message while it writes its vector, but cannot change it: the check fails for every new row.
create policy locked_for_vectors on messages for update to wcc_worker
    using (tenant_id = (select app.tenant())) with check (false);
-- The search, which runs as the owner, sees all messages and applies the rules itself.
create policy searched on messages for select to wcc_owner using (true);
-- Triggers write system messages in the tenant that acts.
create policy said_by_the_house on messages for insert to wcc_owner
    with check (tenant_id = (select app.tenant()) and sender_type = 'system');
-- `app.erase_messages` deletes, in the tenant that acts, only what is past its retention period and not held, whatever
-- the function says. No login may delete messages.
create policy erased_by_rule on messages for delete to wcc_owner
    using (tenant_id = (select app.tenant()) and id < (select app.first_id(app.kept_since('messages')))
        and not app.message_is_held(id, conversation_id));
grant select, insert, update (content, version, changed_id, edited_at, deleted_at) on messages to wcc_app;
grant select, update (version) on messages to wcc_worker;

-- System messages: the triggers write them in the transaction of the change and at its moment, so that there is no
-- change without its message and no message without its change.
create function app.say_who_came_or_went() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
declare
    at uuid := new.until_id;
    code text := 'member_left';
    words text := 'A member left.';
begin
    if tg_op = 'INSERT' then
        -- of those with whom a conversation is made nothing is said: it is at its first moment still, its own id
        select c.moment into at from conversations c
            where c.tenant_id = new.tenant_id and c.id = new.conversation_id and c.moment <> c.id;
        code := 'member_joined';
        words := 'A member joined.';
    end if;
    if at is not null then
        insert into messages (tenant_id, id, conversation_id, sender_type, message_type, content, changed_id, about)
            values (new.tenant_id, at, new.conversation_id, 'system', 'system', words, at,
                jsonb_build_object('code', code, 'user_id', new.user_id, 'by', app.actor()));
    end if;
    return null;
end $$;
create trigger conversation_members_came after insert on conversation_members
    for each row execute function app.say_who_came_or_went();
create trigger conversation_members_went after update on conversation_members
    for each row when (old.until_id is null and new.until_id is not null)
    execute function app.say_who_came_or_went();
create function app.say_what_was_renamed() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    insert into messages (tenant_id, id, conversation_id, sender_type, message_type, content, changed_id, about)
        values (new.tenant_id, new.moment, new.id, 'system', 'system', 'The title was changed.', new.moment,
            jsonb_build_object('code', 'renamed', 'by', app.actor()));
    return null;
end $$;
create trigger conversations_renamed after update on conversations
    for each row when (old.title is distinct from new.title) execute function app.say_what_was_renamed();

-- Whether the actor sees a message, and whether they see what it was before. They ask `messages` under its own
-- policies. A policy with `exists (…)` would be planned anew in every statement, over every partition
-- (docs/decisions/0023). They set no plan_cache_mode: `wcc_app` has generic plans, and a setting costs each call more
-- than its plan.
create function app.sees_message(message uuid) returns boolean language plpgsql stable as $$
begin
    return exists (select from public.messages m where m.tenant_id = app.tenant() and m.id = message);
end $$;
create function app.sees_versions(message uuid) returns boolean language plpgsql stable as $$
begin
    return exists (select from public.messages m where m.tenant_id = app.tenant() and m.id = message
        and (m.deleted_at is null
            or m.tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}'))
            or m.id = any ((select app.messages_opened())::uuid[])));
end $$;
revoke all on function app.sees_message(uuid), app.sees_versions(uuid) from public;
grant execute on function app.sees_message(uuid), app.sees_versions(uuid) to wcc_app;

-- versions: what a message was before, and edits that came too late ---------------------------------------------------
create table message_versions (
    tenant_id uuid not null,
    id uuid not null default uuidv7(),
    message_id uuid not null,
    standing text not null check (standing in ('former', 'competing')),
    version integer not null check (version >= 1),  -- its number; of a competing edit: the number that it was made from
    content text not null,
    written_by uuid,
    written_at timestamptz not null,
    primary key (tenant_id, id),
    foreign key (tenant_id, message_id) references messages (tenant_id, id) on delete cascade,
    foreign key (tenant_id, written_by) references users (tenant_id, id)
);
create index message_versions_message on message_versions (tenant_id, message_id, id);
create index message_versions_writer on message_versions (tenant_id, written_by);
alter table message_versions enable row level security;
alter table message_versions force row level security;
-- Whoever sees a message sees its versions until it is deleted. From then on the data-protection officer and the
-- safeguarding lead see them, and whoever has an alert open that cites it. The API logs that they looked.
create policy as_the_message on message_versions for select to wcc_app
    using (tenant_id = (select app.tenant()) and app.sees_versions(message_id));
-- The sender of a message adds versions: `app.keep_version` at an edit, the API for an edit that came too late.
create policy added_by_sender on message_versions for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and written_by = (select app.actor())
        and exists (select from messages m where m.tenant_id = message_versions.tenant_id
            and m.id = message_versions.message_id and m.sender_id = (select app.actor())));
-- The worker sees the versions of the tenant that it acts for.
create policy read_by_worker on message_versions for select to wcc_worker using (tenant_id = (select app.tenant()));
grant select, insert on message_versions to wcc_app;
grant select on message_versions to wcc_worker;
-- Versions cannot be changed. They are deleted only with their message.
create function app.keep_versions() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    if tg_op = 'DELETE' and not exists (select from messages m
        where m.tenant_id = old.tenant_id and m.id = old.message_id)
    then
        return old;
    end if;
    raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;
create trigger message_versions_immutable before update or delete on message_versions
    for each row execute function app.keep_versions();
create trigger message_versions_kept before truncate on message_versions
    for each statement execute function app.refuse_change();
-- Every change of a message's words keeps what they were.
create function app.keep_version() returns trigger language plpgsql as $$
begin
    insert into message_versions (tenant_id, message_id, standing, version, content, written_by, written_at)
        values (old.tenant_id, old.id, 'former', old.version, old.content, old.sender_id,
            coalesce(old.edited_at, old.created_at));
    return new;
end $$;
create trigger messages_kept before update on messages
    for each row when (old.content is distinct from new.content) execute function app.keep_version();

-- mentions ------------------------------------------------------------------------------------------------------------
create table message_mentions (
    tenant_id uuid not null,
    message_id uuid not null,
    user_id uuid not null,
    primary key (tenant_id, message_id, user_id),
    foreign key (tenant_id, message_id) references messages (tenant_id, id) on delete cascade,
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index message_mentions_user on message_mentions (tenant_id, user_id, message_id);
alter table message_mentions enable row level security;
alter table message_mentions force row level security;
-- Whoever sees a message sees whom it mentions.
create policy as_the_message on message_mentions for select to wcc_app
    using (tenant_id = (select app.tenant()) and app.sees_message(message_id));
-- The sender of a message says whom it mentions.
create policy made_by_sender on message_mentions for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and exists (select from messages m
        where m.tenant_id = message_mentions.tenant_id and m.id = message_mentions.message_id
            and m.sender_id = (select app.actor())));
grant select, insert on message_mentions to wcc_app;

-- reactions -----------------------------------------------------------------------------------------------------------
create table message_reactions (
    tenant_id uuid not null,
    message_id uuid not null,
    user_id uuid not null,
    reaction text not null check (length(reaction) between 1 and 50),
    conversation_id uuid not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, message_id, user_id, reaction),
    foreign key (tenant_id, message_id) references messages (tenant_id, id) on delete cascade,
    foreign key (tenant_id, conversation_id) references conversations (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index message_reactions_user on message_reactions (tenant_id, user_id);
create index message_reactions_conversation on message_reactions (tenant_id, conversation_id);
alter table message_reactions enable row level security;
alter table message_reactions force row level security;
-- Members who see a message see its reactions. Who joined before the message sees it, so `messages` is asked only about
-- the others.
create policy as_the_message on message_reactions for select to wcc_app
    using (tenant_id = (select app.tenant()) and exists (select from app.stays s
        where s.tenant_id = message_reactions.tenant_id and s.conversation_id = message_reactions.conversation_id
            and s.until_id is null
            and (s.after_id < message_reactions.message_id or app.sees_message(message_reactions.message_id))));
-- Members react in their own name to messages that they see and that are not deleted.
create policy given_by_members on message_reactions for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and user_id = (select app.actor())
        and conversation_id = any ((select app.own_conversations())::uuid[])
        and exists (select from messages m where m.tenant_id = message_reactions.tenant_id
            and m.id = message_reactions.message_id and m.conversation_id = message_reactions.conversation_id
            and m.deleted_at is null));
-- Members take back their own reactions.
create policy taken_back on message_reactions for delete to wcc_app
    using (tenant_id = (select app.tenant()) and user_id = (select app.actor())
        and conversation_id = any ((select app.own_conversations())::uuid[]));
grant select, insert, delete on message_reactions to wcc_app;

-- receipts: up to which message a person has received or read a conversation ------------------------------------------
create table conversation_receipts (
    tenant_id uuid not null,
    conversation_id uuid not null,
    user_id uuid not null,
    kind text not null check (kind in ('delivered', 'read')),
    up_to uuid not null,                        -- the id of a message: this one and all before it
    created_at timestamptz not null default now(),
    primary key (tenant_id, conversation_id, user_id, kind, up_to),
    foreign key (tenant_id, conversation_id) references conversations (tenant_id, id),
    foreign key (tenant_id, up_to) references messages (tenant_id, id) on delete cascade,
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index conversation_receipts_user on conversation_receipts (tenant_id, user_id);
create index conversation_receipts_message on conversation_receipts (tenant_id, up_to);
create index conversation_receipts_fresh on conversation_receipts (tenant_id, conversation_id, created_at);
alter table conversation_receipts enable row level security;
alter table conversation_receipts force row level security;
-- Members see each other's receipts while they are members.
create policy own_conversations on conversation_receipts for select to wcc_app
    using (tenant_id = (select app.tenant()) and exists (select from app.stays s
        where s.tenant_id = conversation_receipts.tenant_id
            and s.conversation_id = conversation_receipts.conversation_id and s.until_id is null));
-- Members give their own receipts.
create policy given_by_members on conversation_receipts for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and user_id = (select app.actor())
        and exists (select from app.stays s where s.tenant_id = conversation_receipts.tenant_id
            and s.conversation_id = conversation_receipts.conversation_id and s.until_id is null));
-- `app.fresh_receipts` sees the receipts of the tenant that acts.
create policy asked_by_rules on conversation_receipts for select to wcc_owner using (tenant_id = (select app.tenant()));
grant select, insert on conversation_receipts to wcc_app;
-- The last receipt of each person and kind since a time, for those who have the conversations open. It answers only the
-- platform itself, as `app.heard_by`.
create function app.fresh_receipts(conversations uuid[], since timestamptz)
    returns table (conversation_id uuid, user_id uuid, kind text, up_to uuid) language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select distinct on (r.conversation_id, r.user_id, r.kind) r.conversation_id, r.user_id, r.kind, r.up_to
        from conversation_receipts r
        where r.tenant_id = app.tenant() and r.conversation_id = any (conversations) and r.created_at > since
            and app.actor() = '00000000-0000-0000-0000-000000000000'
        order by r.conversation_id, r.user_id, r.kind, r.up_to desc;
    end;
revoke all on function app.fresh_receipts(uuid[], timestamptz) from public;
grant execute on function app.fresh_receipts(uuid[], timestamptz) to wcc_app;

-- attachments ---------------------------------------------------------------------------------------------------------
-- The bytes lie encrypted in storage. The table holds what opens them, and the words inside.
create table message_attachments (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    conversation_id uuid not null,
    uploaded_by uuid not null,
    message_id uuid,                            -- null until it is sent
    position smallint,                          -- its place among the attachments of the message
    name text not null check (length(name) between 1 and 150),
    media_type text not null check (media_type in (
        'image/jpeg', 'image/png', 'image/webp', 'application/pdf', 'text/plain',
        'application/vnd.openxmlformats-officedocument.wordprocessingml.document',
        'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet',
        'application/vnd.oasis.opendocument.text',
        'audio/wav', 'audio/flac', 'audio/mpeg', 'audio/ogg', 'audio/mp4', 'audio/webm')),
    size_bytes bigint not null check (size_bytes >= 1),
    duration_seconds double precision,          -- of sound
    sha256 bytea not null,                      -- of the bytes that are stored, before encryption
    object_key text not null,                   -- their place in storage
    wrapped_key bytea not null,                 -- the data key, encrypted by key `key_id` of the key service
    key_id text not null,
    text text check (length(text) <= 200000),   -- the words inside; null: none, or none that can be read
    text_cut boolean not null default false,    -- there are more words inside than `text` holds
    words tsvector not null generated always as (app.search_words(text)) stored,
    scanned_by text,                            -- the scanner that found nothing, with its signatures; null: no scanner
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    check (num_nulls(message_id, position) in (0, 2)),
    foreign key (tenant_id, conversation_id) references conversations (tenant_id, id),
    foreign key (tenant_id, uploaded_by) references users (tenant_id, id),
    foreign key (tenant_id, message_id) references messages (tenant_id, id) on delete cascade
);
create unique index message_attachments_object on message_attachments (tenant_id, object_key);
create index message_attachments_message on message_attachments (tenant_id, message_id, position);
create index message_attachments_conversation on message_attachments (tenant_id, conversation_id, message_id);
create index message_attachments_uploader on message_attachments (tenant_id, uploaded_by, message_id);
create index message_attachments_words on message_attachments using gin (words);
alter table message_attachments enable row level security;
alter table message_attachments force row level security;
-- Before it is sent only the uploader sees an attachment. Then it is seen as the versions of its message are.
create policy as_the_message on message_attachments for select to wcc_app
    using (tenant_id = (select app.tenant()) and case when message_id is null
        then uploaded_by = (select app.actor()) else app.sees_versions(message_id) end);
-- Members upload in their own name into their conversations.
create policy uploaded_by_members on message_attachments for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and uploaded_by = (select app.actor()) and message_id is null
        and conversation_id = any ((select app.own_conversations())::uuid[]));
-- The uploader sends it, once, with a message of their own in that conversation.
create policy sent_once on message_attachments for update to wcc_app
    using (tenant_id = (select app.tenant()) and uploaded_by = (select app.actor()) and message_id is null)
    with check (tenant_id = (select app.tenant()) and exists (select from messages m
        where m.tenant_id = message_attachments.tenant_id and m.id = message_attachments.message_id
            and m.conversation_id = message_attachments.conversation_id
            and m.sender_id = (select app.actor()) and m.deleted_at is null));
-- The worker reads the words inside, in the tenant that it acts for; it has no grant on the key.
create policy read_by_worker on message_attachments for select to wcc_worker using (tenant_id = (select app.tenant()));
-- The functions below see, in the tenant that acts, which objects have a row.
create policy swept on message_attachments for select to wcc_owner using (tenant_id = (select app.tenant()));
-- `app.drop_unsent_attachments` deletes, in the tenant that acts, what nobody sent within a day.
create policy dropped_unsent on message_attachments for delete to wcc_owner
    using (tenant_id = (select app.tenant()) and message_id is null and created_at < now() - interval '1 day');
-- The search, which runs as the owner, sees all attachments and applies the rules itself.
create policy searched_words on message_attachments for select to wcc_owner using (true);
grant select, insert, update (message_id, position) on message_attachments to wcc_app;
grant select (tenant_id, id, conversation_id, message_id, position, media_type, text, text_cut, words, created_at)
    on message_attachments to wcc_worker;
-- Deletes the attachments that nobody sent within a day and returns the keys of their objects.
create function app.drop_unsent_attachments() returns setof text language sql security definer
    set search_path = public, pg_temp
    begin atomic
        delete from message_attachments a where a.tenant_id = app.tenant() and a.message_id is null
            and a.created_at < now() - interval '1 day'
            returning a.object_key;
    end;
revoke all on function app.drop_unsent_attachments() from public;
grant execute on function app.drop_unsent_attachments() to wcc_app;
-- Which of the objects have a row. An object without one can be deleted.
create function app.kept_attachment_objects(keys text[]) returns setof text language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select a.object_key from message_attachments a
        where a.tenant_id = app.tenant() and a.object_key = any (keys);
    end;
revoke all on function app.kept_attachment_objects(text[]) from public;
grant execute on function app.kept_attachment_objects(text[]) to wcc_app;

-- vectors -------------------------------------------------------------------------------------------------------------
-- The meaning of messages, in half precision: 772 bytes per message in place of 1,540, and search finds the same ten
-- (docs/decisions/0022). The id of the message says in which month a vector lies.
create table message_vectors (
    tenant_id uuid not null,
    message_id uuid not null,
    conversation_id uuid not null,              -- of the message: searches are narrowed by it
    embedding halfvec(384) not null,
    model text not null,                        -- only vectors of the same model are compared
    made_at timestamptz not null default now(),
    primary key (tenant_id, message_id),
    foreign key (tenant_id, message_id) references messages (tenant_id, id) on delete cascade
) partition by range (message_id);
create index message_vectors_conversation on message_vectors (tenant_id, conversation_id, message_id);
create index message_vectors_meaning on message_vectors using hnsw (embedding halfvec_cosine_ops)
    with (m = 24, ef_construction = 128);
alter table message_vectors enable row level security;
alter table message_vectors force row level security;
-- The worker writes vectors in the tenant that it acts for. People read none: a vector tells of the words.
create policy laid_by_worker on message_vectors to wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
-- `app.take_vector` deletes a vector in the tenant that acts.
create policy taken_by_trigger on message_vectors for all to wcc_owner
    using (tenant_id = (select app.tenant())) with check (false);
-- The search, which runs as the owner, sees the vectors of the tenant that acts.
create policy searched on message_vectors for select to wcc_owner using (tenant_id = (select app.tenant()));
grant select, insert, update (embedding, model, made_at) on message_vectors to wcc_worker;
-- An edited message has no vector until the worker assesses it again.
create function app.take_vector() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    delete from message_vectors where tenant_id = old.tenant_id and message_id = old.id;
    return null;
end $$;
create trigger messages_vector after update on messages
    for each row when (old.content is distinct from new.content) execute function app.take_vector();

-- search --------------------------------------------------------------------------------------------------------------
-- Under row-level security PostgreSQL uses an index only for operators that cannot leak, and `@@` can. So the functions
-- that find run as the owner, who has a policy `using (true)`, and apply the rules of who may see what themselves, in
-- the four `…_asked` functions. Their caller then reads what they name under row-level security again.

-- The messages in question that the actor may see: the members' rule, as the policy `need_to_know` has it, without
-- system messages. It is no definer's function, so PostgreSQL inlines it; another caller is under the policy.
create function app.messages_asked(
    conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz, attached boolean
) returns table (id uuid, words tsvector) language sql stable
    begin atomic
        select s.id, s.words from messages s
        where s.tenant_id = app.tenant() and s.deleted_at is null and s.sender_id is not null
            and (conversation is null or s.conversation_id = conversation)
            and (sender is null or s.sender_id = sender)
            and (from_time is null or s.id >= app.first_id(from_time))
            and (to_time is null or s.id < app.first_id(to_time))
            and (attached is null or attached = exists (select from message_attachments a
                where a.tenant_id = s.tenant_id and a.message_id = s.id))
            and exists (select from conversation_members m
                where m.tenant_id = s.tenant_id and m.conversation_id = s.conversation_id and m.user_id = app.actor()
                    and s.id > m.after_id and (m.until_id is null or s.changed_id <= m.until_id));
    end;
-- The attachments of those messages.
create function app.attachments_asked(
    conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz, attached boolean
) returns table (id uuid, words tsvector) language sql stable
    begin atomic
        select a.id, a.words from message_attachments a
        join app.messages_asked(conversation, sender, from_time, to_time, attached) s on s.id = a.message_id
        where a.tenant_id = app.tenant();
    end;
-- The utterances in question that the actor may see: of the last transcript of a recording that is not deleted, not
-- withheld from the actor, and that they may hear. They belong to no conversation and have no attachments; the sender
-- is the participant who spoke.
create function app.utterances_asked(
    conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz, attached boolean
) returns table (id uuid, words tsvector, embedding vector, embedding_model text) language sql stable
    begin atomic
        select u.id, u.words, u.embedding, u.embedding_model from utterances u
        join transcriptions t on t.tenant_id = u.tenant_id and t.id = u.transcription_id
        join recordings r on r.tenant_id = t.tenant_id and r.id = t.recording_id
        where u.tenant_id = app.tenant_for(
                '{safeguarding_lead, reviewer, data_protection_officer, care_manager, care_worker, service}')
            and conversation is null and attached is not true and r.status <> 'deleted'
            and (sender is null or exists (select from session_participants p
                where p.tenant_id = u.tenant_id and p.id = u.participant_id and p.user_id = sender))
            and (from_time is null or r.started_at >= from_time)
            and (to_time is null or r.started_at < to_time)
            and r.id <> all ((select app.recordings_withheld())::uuid[])
            and ((select app.answers_for_safeguarding()) or app.may_hear(r.id))
            and not exists (select from transcriptions newer where newer.tenant_id = t.tenant_id
                and newer.recording_id = t.recording_id and newer.revision > t.revision);
    end;

-- What a person typed, with the same letters as what is searched: "quoted", or, -not are understood. A word with signs
-- in it (a number, an address) is searched as its parts in their order.
create function app.search_query(asked text) returns tsquery language sql immutable parallel safe strict
    return (
        select websearch_to_tsquery('pg_catalog.english'::regconfig, coalesce(string_agg(
            case when p.words = '' then null when p.quoted or p.words like '% %' then p.sign || '"' || p.words || '"'
                else p.sign || p.words end, ' ' order by p.place), ''))
        from (
            select m.found[1] as sign, m.found[2] is not null as quoted, m.place,
                btrim(app.search_letters(coalesce(m.found[2], m.found[3]))) as words
            from regexp_matches(translate(asked, '“”„‟«»＂', '"""""""'), '(-?)(?:"([^"]*)"?|([^\s"]+))', 'g')
                with ordinality m(found, place)) p);
-- A question: any of its words may match. If it has quotes, `or` or `-`, only what it says exactly.
create function app.any_word(asked text) returns tsquery language sql immutable
    return case when asked ~* '["“”„‟«»＂]|(^|\s)-|\sor\s' then app.search_query(asked)
        else replace(app.search_query(asked)::text, ' & ', ' | ')::tsquery end;

-- The newest matches before an id. `materialized`: the index of words finds first; with a limit the planner would else
-- walk through everything by id. Generic plans: planned for each call these take four times as long.
create function app.search_messages(
    query tsquery, conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz, attached boolean,
    before uuid, most integer
) returns setof uuid language sql stable security definer set search_path = public, pg_temp
    set plan_cache_mode = force_generic_plan
    begin atomic
        with found as materialized (
            select s.id from app.messages_asked(conversation, sender, from_time, to_time, attached) s
            where s.words @@ query and s.id < before)
        select id from found order by id desc limit most;
    end;
create function app.search_attachments(
    query tsquery, conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz, attached boolean,
    before uuid, most integer
) returns setof uuid language sql stable security definer set search_path = public, pg_temp
    set plan_cache_mode = force_generic_plan
    begin atomic
        with found as materialized (
            select a.id from app.attachments_asked(conversation, sender, from_time, to_time, attached) a
            where a.words @@ query and a.id < before)
        select id from found order by id desc limit most;
    end;
create function app.search_utterances(
    query tsquery, conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz, attached boolean,
    before uuid, most integer
) returns setof uuid language sql stable security definer set search_path = public, pg_temp
    set plan_cache_mode = force_generic_plan
    begin atomic
        with found as materialized (
            select u.id from app.utterances_asked(conversation, sender, from_time, to_time, attached) u
            where u.words @@ query and u.id < before)
        select id from found order by id desc limit most;
    end;

-- The best matches (BM25): a word counts more if it is rare among what was found and frequent in the text, and less in
-- a long text.
create function app.rank_words(
    asked text, kinds text[], conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz,
    attached boolean, most integer
) returns table (kind text, id uuid, score double precision) language sql stable security definer
    set search_path = public, pg_temp set plan_cache_mode = force_generic_plan
    begin atomic
        with found as materialized (
            select 'message' as kind, s.id, s.words
            from app.messages_asked(conversation, sender, from_time, to_time, attached) s
            where s.words @@ app.any_word(asked) and 'message' = any (kinds)
            union all
            select 'attachment', a.id, a.words
            from app.attachments_asked(conversation, sender, from_time, to_time, attached) a
            where a.words @@ app.any_word(asked) and 'attachment' = any (kinds)
            union all
            select 'utterance', u.id, u.words
            from app.utterances_asked(conversation, sender, from_time, to_time, attached) u
            where u.words @@ app.any_word(asked) and 'utterance' = any (kinds)),
        whole as (select count(*) as size, avg(length(words)) as words from found),
        places as (
            select f.kind, f.id, w.lexeme, cardinality(w.positions) as times, length(f.words) / whole.words as length
            from found f, whole, unnest(f.words) w
            where w.lexeme = any (tsvector_to_array(app.search_words(asked)))),
        rarity as (
            select lexeme, ln(1 + (whole.size - count(*) + 0.5) / (count(*) + 0.5)) as value
            from places, whole group by lexeme, whole.size)
        select p.kind, p.id, sum(r.value * p.times * 2.2 / (p.times + 1.2 * (0.25 + 0.75 * p.length)))::double precision
        from places p join rarity r using (lexeme) group by p.kind, p.id order by 3 desc, 2 desc limit most;
    end;

-- The vectors of the messages in question that the actor may see: the members' rule again, on the columns of the
-- vector, and on the message itself where they do not suffice. `own`: the conversations in question.
create function app.vectors_asked(
    of_model text, own uuid[], sender uuid, from_time timestamptz, to_time timestamptz, attached boolean
) returns table (id uuid, embedding halfvec) language sql stable
    begin atomic
        select v.message_id, v.embedding from message_vectors v
        where v.tenant_id = app.tenant() and v.conversation_id = any (own) and v.model = of_model
            and (sender is null or sender = (select s.sender_id from messages s
                where s.tenant_id = v.tenant_id and s.id = v.message_id))
            and (from_time is null or v.message_id >= app.first_id(from_time))
            and (to_time is null or v.message_id < app.first_id(to_time))
            and (attached is null or attached = exists (select from message_attachments a
                where a.tenant_id = v.tenant_id and a.message_id = v.message_id))
            and exists (select from conversation_members m
                where m.tenant_id = v.tenant_id and m.conversation_id = v.conversation_id and m.user_id = app.actor()
                    and v.message_id > m.after_id
                    and (m.until_id is null or m.until_id >= (select s.changed_id from messages s
                        where s.tenant_id = v.tenant_id and s.id = v.message_id)));
    end;
-- The nearest messages. The index names the nearest of all tenants, and those that the actor may not see are left out
-- until enough remain: good if the actor may see much of all, slow and incomplete if little. So the function first
-- counts what is in question, as far as it pays to compare each: comparing takes time in proportion to that number, the
-- index in proportion to all over that number, and the two meet at a square root (docs/decisions/0022 has the figures).
create function app.nearest_messages(
    query halfvec, of_model text, conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz,
    attached boolean, most integer
) returns table (id uuid, distance double precision) language plpgsql stable security definer
    set search_path = public, pg_temp set plan_cache_mode = force_custom_plan
    set enable_seqscan = off set enable_sort = off  -- so that an `order by` of distance uses the HNSW index
    set hnsw.iterative_scan = strict_order set hnsw.ef_search = 400 set hnsw.max_scan_tuples = 100000 as $$
declare
    own uuid[] := array(select distinct m.conversation_id from conversation_members m
        where m.tenant_id = app.tenant() and m.user_id = app.actor()
            and (conversation is null or m.conversation_id = conversation));
    pays integer := sqrt(1000.0 * (select sum(greatest(c.reltuples, 1)) from pg_inherits i
        join pg_class c on c.oid = i.inhrelid where i.inhparent = 'message_vectors'::regclass));
begin
    if pays >= (select count(*) from (select from message_vectors v
        where v.tenant_id = app.tenant() and v.conversation_id = any (own)
            and (from_time is null or v.message_id >= app.first_id(from_time))
            and (to_time is null or v.message_id < app.first_id(to_time)) limit pays + 1) counted)
    then
        return query select v.id, v.embedding <=> query
            from app.vectors_asked(of_model, own, sender, from_time, to_time, attached) v
            order by (v.embedding <=> query) + 0 limit most;  -- + 0: no index is ordered by that
    else
        return query select v.id, v.embedding <=> query
            from app.vectors_asked(of_model, own, sender, from_time, to_time, attached) v
            order by v.embedding <=> query limit most;
    end if;
end $$;
-- The nearest utterances, found in the same way.
create function app.nearest_utterances(
    query halfvec, of_model text, conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz,
    attached boolean, most integer
) returns table (id uuid, distance double precision) language plpgsql stable security definer
    set search_path = public, pg_temp set plan_cache_mode = force_custom_plan
    set enable_seqscan = off set enable_sort = off  -- so that an `order by` of distance uses the HNSW index
    set hnsw.iterative_scan = strict_order set hnsw.ef_search = 400 set hnsw.max_scan_tuples = 100000 as $$
declare
    pays integer := sqrt(1000.0 * (select sum(greatest(c.reltuples, 1)) from pg_inherits i
        join pg_class c on c.oid = i.inhrelid where i.inhparent = 'utterances'::regclass));
begin
    if pays >= (select count(*) from (select from utterances u where u.tenant_id = app.tenant() limit pays + 1) counted)
    then
        return query select u.id, u.embedding::halfvec(384) <=> query
            from app.utterances_asked(conversation, sender, from_time, to_time, attached) u
            where u.embedding_model = of_model
            order by (u.embedding::halfvec(384) <=> query) + 0 limit most;  -- + 0: no index is ordered by that
    else
        return query select u.id, u.embedding::halfvec(384) <=> query
            from app.utterances_asked(conversation, sender, from_time, to_time, attached) u
            where u.embedding_model = of_model
            order by u.embedding::halfvec(384) <=> query limit most;
    end if;
end $$;
-- The nearest of both.
create function app.rank_meaning(
    query halfvec, of_model text, kinds text[], conversation uuid, sender uuid, from_time timestamptz,
    to_time timestamptz, attached boolean, most integer
) returns table (kind text, id uuid, distance double precision) language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select 'message', n.id, n.distance
        from app.nearest_messages(query, of_model, conversation, sender, from_time, to_time, attached, most) n
        where 'message' = any (kinds)
        union all
        select 'utterance', n.id, n.distance
        from app.nearest_utterances(query, of_model, conversation, sender, from_time, to_time, attached, most) n
        where 'utterance' = any (kinds)
        order by 3, 2 limit most;
    end;

revoke all on function app.search_messages(tsquery, uuid, uuid, timestamptz, timestamptz, boolean, uuid, integer),
    app.search_attachments(tsquery, uuid, uuid, timestamptz, timestamptz, boolean, uuid, integer),
    app.search_utterances(tsquery, uuid, uuid, timestamptz, timestamptz, boolean, uuid, integer),
    app.rank_words(text, text[], uuid, uuid, timestamptz, timestamptz, boolean, integer),
    app.nearest_messages(halfvec, text, uuid, uuid, timestamptz, timestamptz, boolean, integer),
    app.nearest_utterances(halfvec, text, uuid, uuid, timestamptz, timestamptz, boolean, integer),
    app.rank_meaning(halfvec, text, text[], uuid, uuid, timestamptz, timestamptz, boolean, integer) from public;
grant execute on function
    app.search_messages(tsquery, uuid, uuid, timestamptz, timestamptz, boolean, uuid, integer),
    app.search_attachments(tsquery, uuid, uuid, timestamptz, timestamptz, boolean, uuid, integer),
    app.search_utterances(tsquery, uuid, uuid, timestamptz, timestamptz, boolean, uuid, integer),
    app.rank_words(text, text[], uuid, uuid, timestamptz, timestamptz, boolean, integer),
    app.nearest_messages(halfvec, text, uuid, uuid, timestamptz, timestamptz, boolean, integer),
    app.nearest_utterances(halfvec, text, uuid, uuid, timestamptz, timestamptz, boolean, integer),
    app.rank_meaning(halfvec, text, text[], uuid, uuid, timestamptz, timestamptz, boolean, integer) to wcc_app;
