-- Messaging: conversations, their members, messages with every version of them, reactions, mentions, receipts.
-- To be a member is to need to know: row-level security asks for it, and no role but the officers' stands in for it.
-- A conversation has one clock, its `moment`: a UUIDv7 taken under its row lock and always later than the one before.
-- Messages' ids, when a member joined and left and when a message last changed are such moments, so that 'later than'
-- is exact, whichever machine's clock was asked.

-- The least UUIDv7 of a time: the bound of a month's partition, and of a search in time.
create function app.first_id(at timestamptz) returns uuid language sql immutable
    return (lpad(to_hex(floor(extract(epoch from at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;

-- conversations -----------------------------------------------------------------------------------------------------
create table conversations (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    conversation_type text not null check (conversation_type in ('direct', 'group', 'care_team', 'family')),
    title text check (length(title) between 1 and 255),
    -- what somebody who is added later sees: what comes after, or the whole
    history text not null default 'from_joining' check (history in ('from_joining', 'whole')),
    incidents text[] not null default '{}',     -- references of incidents, codes, no words
    first_person uuid,                          -- of a direct conversation: its two people, the lesser id first
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
-- Two people have one direct conversation.
create unique index conversations_direct on conversations (tenant_id, first_person, second_person);
create index conversations_second_person on conversations (tenant_id, second_person);
alter table conversations enable row level security;
alter table conversations force row level security;
grant select, insert, update (title, history, incidents, version, moment, event_version, updated_at)
    on conversations to wcc_app;
grant select on conversations to wcc_worker;

-- members: a row for each stay ----------------------------------------------------------------------------------------
create table conversation_members (
    tenant_id uuid not null,
    id uuid not null default uuidv7(),
    conversation_id uuid not null,
    user_id uuid not null,
    added_by uuid not null,
    after_id uuid not null,                     -- they see what came after this moment …
    until_id uuid,                              -- … and nothing that came after this one; null: they are in it
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
alter table conversation_members enable row level security;
alter table conversation_members force row level security;
grant select, insert, update (until_id, left_at) on conversation_members to wcc_app;
grant select on conversation_members to wcc_worker;

-- The rule below runs as the owner: a policy of this table that asked this table would ask itself without end.
-- The rule's function sees, within the tenant that asks, who is a member of what.
create policy asked_by_rules on conversation_members for select to wcc_owner using (tenant_id = (select app.tenant()));
-- The conversations that whoever acts is in now.
create function app.own_conversations() returns uuid[] language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select coalesce(array_agg(m.conversation_id), '{}') from conversation_members m
        where m.tenant_id = app.tenant() and m.user_id = app.actor() and m.until_id is null;
    end;
revoke all on function app.own_conversations() from public;
grant execute on function app.own_conversations() to wcc_app;

-- Members see a conversation while they are in it; who has left keeps the messages of their time, not its title.
create policy own_conversations on conversations for select to wcc_app
    using (tenant_id = (select app.tenant()) and id = any ((select app.own_conversations())::uuid[]));
-- Staff make conversations, in their own name.
create policy made_by_staff on conversations for insert to wcc_app
    with check (created_by = (select app.actor()) and tenant_id = (select app.tenant_for(
        '{safeguarding_lead, reviewer, data_protection_officer, care_manager, care_worker, service}')));
-- Members move it on: whoever writes in it takes its next moment. Which of them may rename it is the API's table.
create policy moved_by_members on conversations for update to wcc_app
    using (tenant_id = (select app.tenant()) and id = any ((select app.own_conversations())::uuid[]))
    with check (tenant_id = (select app.tenant()));
-- The worker reads what it reads for safeguarding, within the tenant it acts for.
create policy read_by_worker on conversations for select to wcc_worker using (tenant_id = (select app.tenant()));

-- Members see who is or was in their conversations; everybody sees where they themselves were.
create policy own_conversations on conversation_members for select to wcc_app
    using (tenant_id = (select app.tenant()) and (user_id = (select app.actor())
        or conversation_id = any ((select app.own_conversations())::uuid[])));
-- Staff bring others into conversations that they are in, so that nobody lets themselves in.
create policy added_by_staff on conversation_members for insert to wcc_app
    with check (added_by = (select app.actor()) and until_id is null
        and conversation_id = any ((select app.own_conversations())::uuid[]) and tenant_id = (select app.tenant_for(
            '{safeguarding_lead, reviewer, data_protection_officer, care_manager, care_worker, service}')));
-- Staff of the conversation end stays, everybody their own; what has ended stays as it is.
create policy ended_once on conversation_members for update to wcc_app
    using (tenant_id = (select app.tenant()) and until_id is null
        and conversation_id = any ((select app.own_conversations())::uuid[])
        and (user_id = (select app.actor()) or tenant_id = (select app.tenant_for(
            '{safeguarding_lead, reviewer, data_protection_officer, care_manager, care_worker, service}'))))
    with check (tenant_id = (select app.tenant()) and until_id is not null);
create policy read_by_worker on conversation_members for select to wcc_worker
    using (tenant_id = (select app.tenant()));

-- Whoever makes a conversation is its first member: the trigger's function alone adds one who is not brought in.
create policy founded_by_trigger on conversation_members for insert to wcc_owner
    with check (tenant_id = (select app.tenant()));
create function app.found_conversation() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
begin
    insert into conversation_members (tenant_id, conversation_id, user_id, added_by, after_id)
        values (new.tenant_id, new.id, new.created_by, new.created_by, new.moment);
    return null;
end $$;
create trigger conversations_founded after insert on conversations
    for each row execute function app.found_conversation();

-- the residents whom a conversation is about ------------------------------------------------------------------------
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
grant select, insert, delete on conversation_residents to wcc_app;
grant select on conversation_residents to wcc_worker;
-- As conversations.
create policy own_conversations on conversation_residents to wcc_app
    using (tenant_id = (select app.tenant()) and conversation_id = any ((select app.own_conversations())::uuid[]))
    with check (tenant_id = (select app.tenant())
        and conversation_id = any ((select app.own_conversations())::uuid[]));
create policy read_by_worker on conversation_residents for select to wcc_worker
    using (tenant_id = (select app.tenant()));

-- messages: a partition a month ---------------------------------------------------------------------------------------
create table messages (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),          -- the moment of the conversation at which it was sent
    conversation_id uuid not null,
    sender_id uuid,                             -- null: the house itself
    sender_type text not null check (sender_type in ('user', 'system', 'integration')),
    message_type text not null default 'text' check (message_type in ('text', 'file', 'voice', 'system', 'alert')),
    content text check (length(content) between 1 and 10000),   -- null: deleted
    words tsvector not null generated always as (to_tsvector('english', coalesce(content, ''))) stored,
    reply_to uuid,
    version integer not null default 1,
    changed_id uuid not null,                   -- the moment at which it was sent, or last changed
    edited_at timestamptz,
    deleted_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    check ((content is null) = (deleted_at is not null)),
    check ((sender_id is null) = (sender_type = 'system')),
    foreign key (tenant_id, conversation_id) references conversations (tenant_id, id),
    foreign key (tenant_id, sender_id) references users (tenant_id, id),
    foreign key (tenant_id, reply_to) references messages (tenant_id, id)
) partition by range (id);
create index messages_conversation on messages (tenant_id, conversation_id, id);
create index messages_sender on messages (tenant_id, sender_id, id);
create index messages_reply on messages (tenant_id, reply_to);
create index messages_words on messages using gin (words);
alter table messages enable row level security;
alter table messages force row level security;
grant select, insert, update (content, version, changed_id, edited_at, deleted_at) on messages to wcc_app;
grant select on messages to wcc_worker;
-- Members see what was sent after they joined (or all of it, where they were given the history) and until they left;
-- what changed after they left they see no more, since they would see the change. No role stands in for membership:
-- the safeguarding team will see a message where an alert cites it, by a further line that stands here then. That a
-- message was deleted (it holds no words any more) the officer and the lead see, to reach what was there.
-- One policy, so that tenant and conversation lead into the index: policies that are joined by `or` would not.
create policy need_to_know on messages for select to wcc_app
    using (tenant_id = (select app.tenant()) and (
        exists (select from conversation_members m
            where m.tenant_id = messages.tenant_id and m.conversation_id = messages.conversation_id
                and m.user_id = (select app.actor()) and messages.id > m.after_id
                and (m.until_id is null or messages.changed_id <= m.until_id))
        or deleted_at is not null
            and tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}'))));
-- Members write in their own name.
create policy written_by_members on messages for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and sender_id = (select app.actor()) and version = 1
        and conversation_id = any ((select app.own_conversations())::uuid[]));
-- Whoever sent it changes it while they are in the conversation; what is deleted stays so.
create policy changed_by_sender on messages for update to wcc_app
    using (tenant_id = (select app.tenant()) and sender_id = (select app.actor()) and deleted_at is null
        and conversation_id = any ((select app.own_conversations())::uuid[]))
    with check (tenant_id = (select app.tenant()) and sender_id = (select app.actor()));
create policy read_by_worker on messages for select to wcc_worker using (tenant_id = (select app.tenant()));

-- Partitions lie in a schema that nobody may enter: they are reached through `messages` and its policies alone.
create schema partitions;
-- Makes the months from the last one (whose ids a clock that lags may still make) to `ahead` months from now, where
-- they are missing; returns how many. There is no default partition: rows in it would keep their own month from being
-- made. Who must wait for a lock gives up, and the next sweep tries again: months are made long before they are needed.
create function app.make_message_partitions(ahead integer default 3) returns integer language plpgsql security definer
    set search_path = public, pg_temp set lock_timeout = '2s' set timezone = 'UTC' as $$
declare
    month timestamptz;
    name text;
    made integer := 0;
begin
    for month in select generate_series(date_trunc('month', now()) - interval '1 month',
                                        date_trunc('month', now()) + make_interval(months => ahead), interval '1 month')
    loop
        name := to_char(month, '"messages_"YYYY_MM');
        continue when to_regclass('partitions.' || name) is not null;
        perform pg_advisory_xact_lock(hashtextextended('partitions.messages', 0));
        continue when to_regclass('partitions.' || name) is not null;
        execute format('create table partitions.%I (like messages including all)', name);
        execute format('alter table partitions.%I enable row level security', name);
        execute format('alter table partitions.%I force row level security', name);
        execute format('alter table messages attach partition partitions.%I for values from (%L) to (%L)',
                       name, app.first_id(month), app.first_id(month + interval '1 month'));
        made := made + 1;
    end loop;
    return made;
end $$;
revoke all on function app.make_message_partitions(integer) from public;
grant execute on function app.make_message_partitions(integer) to wcc_app;
select app.make_message_partitions();

-- versions: what a message was before, and edits that came too late -----------------------------------------------------
create table message_versions (
    tenant_id uuid not null,
    id uuid not null default uuidv7(),
    message_id uuid not null,
    standing text not null check (standing in ('former', 'competing')),
    version integer not null check (version >= 1),  -- which one it was; of a competing one, which it was made from
    content text not null,
    written_by uuid,
    written_at timestamptz not null,
    primary key (tenant_id, id),
    foreign key (tenant_id, message_id) references messages (tenant_id, id),
    foreign key (tenant_id, written_by) references users (tenant_id, id)
);
create index message_versions_message on message_versions (tenant_id, message_id, id);
create index message_versions_writer on message_versions (tenant_id, written_by);
alter table message_versions enable row level security;
alter table message_versions force row level security;
grant select, insert on message_versions to wcc_app;
grant select on message_versions to wcc_worker;
-- Who sees a message sees what it was, until it is deleted; from then on the data-protection officer and the
-- safeguarding lead do, and the API logs that they looked.
create policy as_the_message on message_versions for select to wcc_app
    using (tenant_id = (select app.tenant()) and exists (select from messages m
        where m.tenant_id = message_versions.tenant_id and m.id = message_versions.message_id
            and (m.deleted_at is null
                or m.tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}')))));
-- Whoever sent the message adds to its versions, through the trigger below or by an edit that came too late.
create policy added_by_sender on message_versions for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and written_by = (select app.actor())
        and exists (select from messages m where m.tenant_id = message_versions.tenant_id
            and m.id = message_versions.message_id and m.sender_id = (select app.actor())));
create policy read_by_worker on message_versions for select to wcc_worker using (tenant_id = (select app.tenant()));
create trigger message_versions_immutable before update or delete on message_versions
    for each row execute function app.refuse_change();
create trigger message_versions_kept before truncate on message_versions
    for each statement execute function app.refuse_change();

-- No change of a message's words loses what they were, whatever the program forgets.
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
    foreign key (tenant_id, message_id) references messages (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index message_mentions_user on message_mentions (tenant_id, user_id, message_id);
alter table message_mentions enable row level security;
alter table message_mentions force row level security;
grant select, insert on message_mentions to wcc_app;
-- Who sees a message sees whom it mentions; whoever sends it says whom.
create policy as_the_message on message_mentions for select to wcc_app
    using (tenant_id = (select app.tenant()) and exists (select from messages m
        where m.tenant_id = message_mentions.tenant_id and m.id = message_mentions.message_id));
create policy made_by_sender on message_mentions for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and exists (select from messages m
        where m.tenant_id = message_mentions.tenant_id and m.id = message_mentions.message_id
            and m.sender_id = (select app.actor())));

-- reactions -----------------------------------------------------------------------------------------------------------
create table message_reactions (
    tenant_id uuid not null,
    message_id uuid not null,
    user_id uuid not null,
    reaction text not null check (length(reaction) between 1 and 50),
    conversation_id uuid not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, message_id, user_id, reaction),
    foreign key (tenant_id, message_id) references messages (tenant_id, id),
    foreign key (tenant_id, conversation_id) references conversations (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index message_reactions_user on message_reactions (tenant_id, user_id);
create index message_reactions_conversation on message_reactions (tenant_id, conversation_id);
alter table message_reactions enable row level security;
alter table message_reactions force row level security;
grant select, insert, delete on message_reactions to wcc_app;
-- Who sees a message and is in its conversation sees the reactions; who has left would see later ones too.
create policy as_the_message on message_reactions for select to wcc_app
    using (tenant_id = (select app.tenant()) and conversation_id = any ((select app.own_conversations())::uuid[])
        and exists (select from messages m
            where m.tenant_id = message_reactions.tenant_id and m.id = message_reactions.message_id));
-- Members react to what they see, in their own name, and take back what is theirs.
create policy given_by_members on message_reactions for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and user_id = (select app.actor())
        and conversation_id = any ((select app.own_conversations())::uuid[])
        and exists (select from messages m where m.tenant_id = message_reactions.tenant_id
            and m.id = message_reactions.message_id and m.conversation_id = message_reactions.conversation_id
            and m.deleted_at is null));
create policy taken_back on message_reactions for delete to wcc_app
    using (tenant_id = (select app.tenant()) and user_id = (select app.actor())
        and conversation_id = any ((select app.own_conversations())::uuid[]));

-- receipts: up to which message somebody was brought the conversation, or has read it -----------------------------------
create table conversation_receipts (
    tenant_id uuid not null,
    conversation_id uuid not null,
    user_id uuid not null,
    kind text not null check (kind in ('delivered', 'read')),
    up_to uuid not null,                        -- a message's id: it, and what came before it
    created_at timestamptz not null default now(),
    primary key (tenant_id, conversation_id, user_id, kind, up_to),
    foreign key (tenant_id, conversation_id) references conversations (tenant_id, id),
    foreign key (tenant_id, up_to) references messages (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index conversation_receipts_user on conversation_receipts (tenant_id, user_id);
create index conversation_receipts_message on conversation_receipts (tenant_id, up_to);
alter table conversation_receipts enable row level security;
alter table conversation_receipts force row level security;
grant select, insert on conversation_receipts to wcc_app;
-- Members see each other's receipts while they are in the conversation.
create policy own_conversations on conversation_receipts for select to wcc_app
    using (tenant_id = (select app.tenant()) and conversation_id = any ((select app.own_conversations())::uuid[]));
-- Everybody gives their own.
create policy given_by_members on conversation_receipts for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and user_id = (select app.actor())
        and conversation_id = any ((select app.own_conversations())::uuid[]));

-- search --------------------------------------------------------------------------------------------------------------
-- Row-level security lets no operator that might leak (@@ is one) look into an index before the policy was asked, so
-- that under it the words' index would never be used. The function below runs as the owner, before whom no policy
-- stands, and applies the members' rule itself; its caller reads the messages that it names under their policy again.
create policy searched on messages for select to wcc_owner using (true);
create function app.search_messages(
    query tsquery, conversation uuid, sender uuid, from_time timestamptz, to_time timestamptz, before uuid, most integer
) returns setof uuid language sql stable security definer set search_path = public, pg_temp
    begin atomic
        -- materialized: the words' index finds first, or a limit would have the planner walk everything by id
        with found as materialized (
            select s.id, s.tenant_id, s.conversation_id, s.changed_id from messages s
            where s.words @@ query and s.tenant_id = app.tenant() and s.id < before
                and (conversation is null or s.conversation_id = conversation)
                and (sender is null or s.sender_id = sender)
                and (from_time is null or s.id >= app.first_id(from_time))
                and (to_time is null or s.id < app.first_id(to_time)))
        select s.id from found s
        where exists (select from conversation_members m
            where m.tenant_id = s.tenant_id and m.conversation_id = s.conversation_id and m.user_id = app.actor()
                and s.id > m.after_id and (m.until_id is null or s.changed_id <= m.until_id))
        order by s.id desc limit most;
    end;
revoke all on function app.search_messages(tsquery, uuid, uuid, timestamptz, timestamptz, uuid, integer) from public;
grant execute on function app.search_messages(tsquery, uuid, uuid, timestamptz, timestamptz, uuid, integer) to wcc_app;
