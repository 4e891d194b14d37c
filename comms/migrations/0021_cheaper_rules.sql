-- The same rules, asked for less. Who may see a row is what it was: what is asked to find out is shorter
-- (docs/decisions/0029 has the figures).

-- stays ---------------------------------------------------------------------------------------------------------------
-- The stays of whoever acts, which their own policy shows them as well. The view asks the table as its owner, so that a
-- rule of another table which asks for them is planned without the members' rules within it.
create view app.stays as
    select s.tenant_id, s.conversation_id, s.after_id, s.until_id from public.conversation_members s
    where s.user_id = (select app.actor());
grant select on app.stays to wcc_app;

-- Members see what was sent after they joined (or all of it, where they were given the history) and until they left;
-- what changed after they left they see no more. No role stands in for membership: who may see an alert sees, while
-- they have it open, the messages that it cites and the few around them. That a message was deleted (it holds no words
-- any more) the officer and the lead see, to reach what was there.
alter policy need_to_know on messages
    using (tenant_id = (select app.tenant()) and (
        exists (select from app.stays s
            where s.tenant_id = messages.tenant_id and s.conversation_id = messages.conversation_id
                and messages.id > s.after_id and (s.until_id is null or messages.changed_id <= s.until_id))
        or deleted_at is not null
            and tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}'))
        or id = any ((select app.messages_opened())::uuid[])));

-- A question of each row that is read, where the list of all conversations of a person was made for each table that a
-- statement reads, and led the planner to look all of them up in place of the few that it was asked for.
-- Members see a conversation while they are in it; who has left keeps the messages of their time, not its title.
alter policy own_conversations on conversations
    using (tenant_id = (select app.tenant()) and exists (select from app.stays s
        where s.tenant_id = conversations.tenant_id and s.conversation_id = conversations.id and s.until_id is null));
-- Members move it on: whoever writes in it takes its next moment. Which of them may rename it is the API's table.
alter policy moved_by_members on conversations
    using (tenant_id = (select app.tenant()) and exists (select from app.stays s
        where s.tenant_id = conversations.tenant_id and s.conversation_id = conversations.id and s.until_id is null));
-- As conversations.
alter policy own_conversations on conversation_residents
    using (tenant_id = (select app.tenant()) and exists (select from app.stays s
        where s.tenant_id = conversation_residents.tenant_id
            and s.conversation_id = conversation_residents.conversation_id and s.until_id is null))
    with check (tenant_id = (select app.tenant()) and exists (select from app.stays s
        where s.tenant_id = conversation_residents.tenant_id
            and s.conversation_id = conversation_residents.conversation_id and s.until_id is null));
-- Members write in their own name.
alter policy written_by_members on messages
    with check (tenant_id = (select app.tenant()) and sender_id = (select app.actor()) and version = 1
        and exists (select from app.stays s where s.tenant_id = messages.tenant_id
            and s.conversation_id = messages.conversation_id and s.until_id is null));
-- Whoever sent it changes it while they are in the conversation; what is deleted stays so.
alter policy changed_by_sender on messages
    using (tenant_id = (select app.tenant()) and sender_id = (select app.actor()) and deleted_at is null
        and exists (select from app.stays s where s.tenant_id = messages.tenant_id
            and s.conversation_id = messages.conversation_id and s.until_id is null));
-- Members see each other's receipts while they are in the conversation.
alter policy own_conversations on conversation_receipts
    using (tenant_id = (select app.tenant()) and exists (select from app.stays s
        where s.tenant_id = conversation_receipts.tenant_id
            and s.conversation_id = conversation_receipts.conversation_id and s.until_id is null));
-- Everybody gives their own.
alter policy given_by_members on conversation_receipts
    with check (tenant_id = (select app.tenant()) and user_id = (select app.actor())
        and exists (select from app.stays s where s.tenant_id = conversation_receipts.tenant_id
            and s.conversation_id = conversation_receipts.conversation_id and s.until_id is null));
-- Members see who is or was in their conversations; everybody sees where they themselves were. `is true` changes no
-- answer: it keeps the list out of the index, where the planner would begin with everybody in all of them.
alter policy own_conversations on conversation_members
    using (tenant_id = (select app.tenant()) and (user_id = (select app.actor())
        or (conversation_id = any ((select app.own_conversations())::uuid[])) is true));
-- Who sees a message and is in its conversation sees the reactions. Who is in it and came before the message sees it:
-- the message itself is asked of the others alone.
alter policy as_the_message on message_reactions
    using (tenant_id = (select app.tenant()) and exists (select from app.stays s
        where s.tenant_id = message_reactions.tenant_id and s.conversation_id = message_reactions.conversation_id
            and s.until_id is null
            and (s.after_id < message_reactions.message_id or app.sees_message(message_reactions.message_id))));

-- Generic plans are what `wcc_app` has anyhow (comms/provision.py): to say so again cost each call more than its plan.
alter function app.sees_message(uuid) reset plan_cache_mode;
alter function app.sees_versions(uuid) reset plan_cache_mode;

-- what is about oneself -----------------------------------------------------------------------------------------------
-- In a language that keeps its plan, and at an end at once for whom nothing is about: nearly everybody.
-- The alerts that are about whoever acts: named by the team, or presumed until the team says otherwise.
create or replace function app.alerts_withheld() returns uuid[] language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    return array(select s.alert_id from alert_subjects s
        where s.tenant_id = app.tenant() and s.user_id = app.actor() and s.standing <> 'cleared');
end $$;
-- The recordings that hold what was said of whoever acts. Who is merely presumed keeps the call that they spoke in,
-- unless their role would otherwise see, decide or erase what it gave rise to.
create or replace function app.recordings_withheld() returns uuid[] language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    if not exists (select from alert_subjects s where s.tenant_id = app.tenant() and s.user_id = app.actor()) then
        return '{}';
    end if;
    return array(select distinct a.recording_id from alert_subjects s
        join alerts a on a.tenant_id = s.tenant_id and a.id = s.alert_id
        where s.tenant_id = app.tenant() and s.user_id = app.actor() and a.recording_id is not null
            and (s.standing = 'named' or s.standing = 'presumed' and app.actor_role() in
                ('safeguarding_lead', 'reviewer', 'data_protection_officer')));
end $$;
-- The conversations in which an alert arose that is about whoever acts: what models say of them is not for that person.
create or replace function app.conversations_withheld() returns uuid[] language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    if not exists (select from alert_subjects s where s.tenant_id = app.tenant() and s.user_id = app.actor()) then
        return '{}';
    end if;
    return array(select distinct a.conversation_id from alert_subjects s
        join alerts a on a.tenant_id = s.tenant_id and a.id = s.alert_id
        where s.tenant_id = app.tenant() and s.user_id = app.actor() and a.conversation_id is not null
            and s.standing <> 'cleared');
end $$;
-- The alerts and the recordings, for the log of acts, which names both: asked together.
create function app.objects_withheld() returns uuid[] language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    if not exists (select from alert_subjects s where s.tenant_id = app.tenant() and s.user_id = app.actor()) then
        return '{}';
    end if;
    return app.alerts_withheld() || app.recordings_withheld();
end $$;
-- Whatever the role: what is about a person is not for that person.
alter policy not_about_oneself on audit_log using (object_id <> all ((select app.objects_withheld())::uuid[]));

-- care context --------------------------------------------------------------------------------------------------------
-- Who needs to know what a session is about besides those whose role answers for it: whoever takes or took part in it,
-- whoever made it, the manager of the home that it belongs to, and for a while whoever broke the glass.
create function app.is_near_session(wanted uuid) returns boolean language sql stable
    begin atomic
        select exists (select from session_participants p
                where p.tenant_id = app.tenant() and p.session_id = wanted and p.user_id = app.actor())
            or exists (select from communication_sessions s
                where s.tenant_id = app.tenant() and s.id = wanted and (s.created_by = app.actor()
                    or app.actor_role() = 'care_manager' and s.home_id = (select u.home_id from users u
                        where u.tenant_id = app.tenant() and u.id = app.actor())))
            or exists (select from broken_glass g
                where g.tenant_id = app.tenant() and g.user_id = app.actor() and g.session_id = wanted
                    and g.expires_at > now());
    end;
-- The rule, and still the only place of it: an expression without a question of its own, so that it is written into
-- whatever asks it, and for those whose role answers no row is asked about.
create or replace function app.needs_care_context(wanted uuid) returns boolean language sql stable
    begin atomic
        select app.actor_role() in ('safeguarding_lead', 'reviewer', 'data_protection_officer', 'service', 'door')
            or app.is_near_session(wanted);
    end;
-- A guest sees, of all sessions and of who takes part in them, those of the one they were invited to. One value asked,
-- where `… is null or id = …` asked for two.
alter policy guests_own on communication_sessions using (id = coalesce((select app.session_id()), id));
alter policy guests_own on session_participants using (session_id = coalesce((select app.session_id()), session_id));

-- sign-ins ------------------------------------------------------------------------------------------------------------
-- Asked in every request. A person sees their own, those who answer for accounts the tenant's, whoever invites guests
-- to sessions theirs. One policy, where two asked for the tenant and the role twice.
drop policy guests_of_inviters on sign_ins;
alter policy own_or_administered on sign_ins
    using (tenant_id = (select app.tenant()) and (user_id = (select app.actor())
        or (select app.actor_role()) in ('door', 'platform_admin', 'care_manager', 'safeguarding_lead')
        or kind = 'guest' and (select app.actor_role()) in ('care_worker', 'service')));
