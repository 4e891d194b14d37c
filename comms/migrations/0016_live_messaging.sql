-- Live messaging: what the house itself says in a conversation, who hears of it, who types in it, who has read it.

-- system messages -----------------------------------------------------------------------------------------------------
-- `content` is a sentence without names; `about` says in ids and codes what happened, for clients to put into words.
alter table messages add column about jsonb check (about is null or sender_type = 'system');
-- The house alone says what it says: the triggers below, in the transaction of the change and at its moment, so that
-- none can be written without its change and no change goes without one.
create policy said_by_the_house on messages for insert to wcc_owner
    with check (tenant_id = (select app.tenant()) and sender_type = 'system');
-- The triggers see, within the tenant that acts, at which moment a conversation is.
create policy asked_by_rules on conversations for select to wcc_owner using (tenant_id = (select app.tenant()));

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

-- who hears -----------------------------------------------------------------------------------------------------------
-- Who was in the conversation at the moment of an event: whoever hands events on tells them and nobody else. Who it is
-- asked by is the house itself, as nobody: no token carries that, and people see where they are and were themselves.
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

-- who types -----------------------------------------------------------------------------------------------------------
alter table presences add column typing_until timestamptz;  -- passes by itself; what is typed is not said anywhere
grant update (typing_until) on presences to wcc_app;

-- who has received and read of late -----------------------------------------------------------------------------------
create index conversation_receipts_fresh on conversation_receipts (tenant_id, conversation_id, created_at);
-- The rule's function sees the receipts of the tenant that asks.
create policy asked_by_rules on conversation_receipts for select to wcc_owner using (tenant_id = (select app.tenant()));
-- The latest of each person and kind, for whoever tells those who have the conversations open; asked by nobody else.
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
