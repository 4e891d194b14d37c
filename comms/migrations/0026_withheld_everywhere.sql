-- Need to know, continued: the words of a call, holds, the log of acts, stored answers, and who may withhold an alert.

-- Two accounts may belong to one person. The rules below compare persons, and this is the one place where they ask which
-- person an account belongs to.
create function app.person_of(account uuid) returns uuid language plpgsql stable security definer
    set search_path = public, pg_temp as $$
begin
    return coalesce((select u.person_id from users u where u.tenant_id = app.tenant() and u.id = account), account);
end $$;
create function app.own_person() returns uuid language sql stable return app.person_of(app.actor());

-- the words of a call -------------------------------------------------------------------------------------------------
-- The roles to which every care context is open (0021 says the same in app.needs_care_context).
create function app.answers_for_safeguarding() returns boolean language sql stable
    return app.actor_role() in ('safeguarding_lead', 'reviewer', 'data_protection_officer', 'service', 'door');
-- Whether another role may hear a recording: those to whom the care context of its session is open, and, for a while,
-- whoever used break-glass for an alert that rests on it.
create function app.may_hear(recording uuid) returns boolean language sql stable
    begin atomic
        select exists (select from recordings r
                where r.tenant_id = app.tenant() and r.id = recording and app.is_near_session(r.session_id))
            or exists (select from broken_glass g join alerts a on a.tenant_id = g.tenant_id and a.id = g.alert_id
                where g.tenant_id = app.tenant() and g.user_id = app.actor() and g.expires_at > now()
                    and a.recording_id = recording);
    end;
create function app.may_read_transcription(transcription uuid) returns boolean language sql stable
    begin atomic
        select exists (select from transcriptions t where t.tenant_id = app.tenant() and t.id = transcription);
    end;
-- Who may not see the care context of a session sees neither sound nor words of its recordings, nor what models say of
-- them. That a recording exists stays visible, as the session does.
create policy need_to_know on recording_tracks as restrictive for select to wcc_app
    using ((select app.answers_for_safeguarding()) or app.may_hear(recording_id));
create policy need_to_know on transcriptions as restrictive for select to wcc_app
    using ((select app.answers_for_safeguarding()) or app.may_hear(recording_id));
create policy need_to_know on analyses as restrictive for select to wcc_app
    using ((select app.answers_for_safeguarding()) or app.may_hear(recording_id));
-- As transcriptions.
create policy need_to_know on utterances as restrictive for select to wcc_app
    using ((select app.answers_for_safeguarding()) or app.may_read_transcription(transcription_id));

-- The search runs as the owner and applies the rules itself (0014). It asks these tables for the rule above, within the
-- tenant that asks.
create policy asked_by_need_to_know on communication_sessions for select to wcc_owner
    using (tenant_id = (select app.tenant()));
create policy asked_by_need_to_know on broken_glass for select to wcc_owner using (tenant_id = (select app.tenant()));
create policy asked_by_need_to_know on users for select to wcc_owner using (tenant_id = (select app.tenant()));
-- As 0014 has it, with the rule above.
create or replace function app.utterances_asked(
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

-- holds ---------------------------------------------------------------------------------------------------------------
-- Whether whoever acts sent the message.
create function app.sent_by_oneself(message uuid) returns boolean language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select exists (select from messages m where m.tenant_id = app.tenant() and m.id = message
            and app.person_of(m.sender_id) = app.own_person());
    end;
-- Whether the conversation, and the message in it where one is named, exist in the tenant that asks.
create function app.can_be_held(conversation uuid, message uuid) returns boolean language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select exists (select from conversations c where c.tenant_id = app.tenant() and c.id = conversation)
            and (message is null or exists (select from messages m
                where m.tenant_id = app.tenant() and m.id = message and m.conversation_id = conversation));
    end;
revoke all on function app.sent_by_oneself(uuid), app.can_be_held(uuid, uuid) from public;
grant execute on function app.sent_by_oneself(uuid), app.can_be_held(uuid, uuid) to wcc_app;
-- Nobody sees, places or releases a hold on a conversation in which an alert arose that is about them, nor somebody
-- else's hold on a message that they sent: it may be held because of them.
create policy not_about_oneself on retention_holds as restrictive to wcc_app
    using (conversation_id <> all ((select app.conversations_withheld())::uuid[])
        and (message_id is null or placed_by = (select app.actor()) or not app.sent_by_oneself(message_id)));
-- The officer and the safeguarding lead place holds, in their own name, on what exists in this tenant.
alter policy placed_by_officers on retention_holds
    with check (tenant_id = (select app.tenant_for('{data_protection_officer, safeguarding_lead}'))
        and placed_by = (select app.actor()) and released_at is null
        and app.can_be_held(conversation_id, message_id));

-- the log of acts -----------------------------------------------------------------------------------------------------
-- Ids of everything that is withheld from whoever acts because it is about them.
create function app.ids_withheld() returns uuid[] language sql stable
    return app.alerts_withheld() || app.recordings_withheld() || app.conversations_withheld();
-- Whether a document names one of the ids, wherever it stands in it.
create function app.names_any(document jsonb, ids uuid[]) returns boolean language sql immutable
    return cardinality(ids) > 0 and document <> '{}'
        and exists (select from unnest(ids) as withheld (id) where strpos(document::text, withheld.id::text) > 0);
-- An act that names what is withheld is withheld: also in its details, as the filter does with which somebody read the
-- log. An act on a hold is seen by those who see the hold.
create policy names_nothing_withheld on audit_log as restrictive for select to wcc_app
    using (object_id <> all ((select app.ids_withheld())::uuid[])
        and not app.names_any(details, (select app.ids_withheld())::uuid[])
        and (object_type <> 'hold' or exists (select from retention_holds h
            where h.tenant_id = audit_log.tenant_id and h.id = audit_log.object_id)));

-- events --------------------------------------------------------------------------------------------------------------
-- What is told of a recording is withheld with the recording.
create policy recordings_not_about_oneself on events as restrictive for select to wcc_app
    using (coalesce(data ->> 'recording_id', '') <> all ((select app.recordings_withheld())::text[]));
-- A delivery to a webhook is seen by those who see its event.
create policy as_the_event on webhook_deliveries as restrictive for select to wcc_app
    using (exists (select from events e
        where e.tenant_id = webhook_deliveries.tenant_id and e.id = webhook_deliveries.event_id));

-- stored answers ------------------------------------------------------------------------------------------------------
-- What an answer, or its request, names and whoever asked could see at that time, as `table:id`. It is given again to
-- those alone who still see all of it.
alter table kept_answers add column refers_to text[] not null default '{}';
-- Those of the ids that whoever acts sees now, each with its table. It runs as whoever asks, so that every rule of
-- row-level security answers, and none is written down a second time.
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

-- who may withhold an alert -------------------------------------------------------------------------------------------
-- A naming that one person alone cannot make effective: it waits for a second person, and withholds nothing until then.
create table alert_subject_proposals (
    tenant_id uuid not null,
    alert_id uuid not null,
    user_id uuid not null,
    proposed_by uuid,                       -- null: presumed, because they spoke or wrote words that the alert cites
    proposed_at timestamptz not null default now(),
    primary key (tenant_id, alert_id, user_id),
    foreign key (tenant_id, alert_id) references alerts (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id),
    foreign key (tenant_id, proposed_by) references users (tenant_id, id)
);
create index alert_subject_proposals_user on alert_subject_proposals (tenant_id, user_id);
create index alert_subject_proposals_proposer on alert_subject_proposals (tenant_id, proposed_by);
alter table alert_subject_proposals enable row level security;
alter table alert_subject_proposals force row level security;
grant select, insert, delete on alert_subject_proposals to wcc_app;
-- Those who see the alert see who is proposed; nobody sees it of themselves.
create policy seen_by_others on alert_subject_proposals for select to wcc_app
    using (tenant_id = (select app.tenant_for('{safeguarding_lead, reviewer, data_protection_officer, service}'))
        and alert_id <> all ((select app.alerts_withheld())::uuid[])
        and app.person_of(user_id) <> (select app.own_person()));
-- Those who decide alerts propose, in their own name.
create policy proposed_by_team on alert_subject_proposals for insert to wcc_app
    with check (tenant_id = (select app.tenant_for('{safeguarding_lead, reviewer}'))
        and proposed_by = (select app.actor()));
-- A proposal ends when a second person confirms it, or when somebody of the team declines it.
create policy ended_by_others on alert_subject_proposals for delete to wcc_app
    using (tenant_id = (select app.tenant_for('{safeguarding_lead, reviewer, data_protection_officer}')));
-- The rule below, which runs as the owner, reads proposals within the tenant that asks, and lays those of the worker.
create policy asked_by_rules on alert_subject_proposals for select to wcc_owner
    using (tenant_id = (select app.tenant()));
create policy presumed_by_rule on alert_subject_proposals for insert to wcc_owner
    with check (tenant_id = (select app.tenant()) and proposed_by is null);

-- The people who are able to read an alert: active accounts of the roles that read alerts, whom it is not about.
create function app.able_readers(alert uuid) returns table (person uuid, role text) language sql stable
    begin atomic
        select distinct app.person_of(u.id), u.role from users u
        where u.tenant_id = app.tenant() and u.active
            and u.role in ('safeguarding_lead', 'reviewer', 'data_protection_officer')
            and not exists (select from alert_subjects s where s.tenant_id = u.tenant_id and s.alert_id = alert
                and s.standing <> 'cleared' and app.person_of(s.user_id) = app.person_of(u.id));
    end;
-- The people who had a part in naming, in this alert, a person who reads alerts, from whichever account of theirs.
create function app.namers_of_readers(alert uuid) returns uuid[] language sql stable
    begin atomic
        select coalesce(array_agg(app.person_of(n.namer)), '{}') from (
            select s.decided_by, s.user_id from alert_subjects s
                where s.tenant_id = app.tenant() and s.alert_id = alert and s.standing = 'named'
            union all
            select p.proposed_by, p.user_id from alert_subject_proposals p
                where p.tenant_id = app.tenant() and p.alert_id = alert) as n (namer, named)
        where n.namer is not null and exists (select from users u where u.tenant_id = app.tenant()
            and u.person_id = app.person_of(n.named)
            and u.role in ('safeguarding_lead', 'reviewer', 'data_protection_officer'));
    end;
-- What is needed before an alert can be withheld from somebody, asked in the name of whoever acts:
--   nothing         one person suffices: they read no alerts, it is withheld from them already, they step back
--                   themselves, or two able readers besides them and whoever acts are left
--   second_person   somebody else has to propose the same
--   overseer        nobody would be left who watches over the alert: an officer, or a lead who had no part in naming
create function app.naming_needs(alert uuid, account uuid) returns text language plpgsql stable security definer
    set search_path = public, pg_temp as $$
declare
    named uuid := app.person_of(account);
    namer uuid := app.own_person();
begin
    if not exists (select from app.able_readers(alert) r where r.person = named) then
        return 'nothing';
    end if;
    if not exists (select from app.able_readers(alert) r where r.person <> named
        and (r.role = 'data_protection_officer' or r.role = 'safeguarding_lead' and r.person <> namer
            and r.person <> all (app.namers_of_readers(alert))))
    then
        return 'overseer';
    end if;
    if named = namer
        or 2 <= (select count(distinct r.person) from app.able_readers(alert) r where r.person not in (named, namer))
        or exists (select from alert_subject_proposals p where p.tenant_id = app.tenant() and p.alert_id = alert
            and app.person_of(p.user_id) = named and app.person_of(p.proposed_by) <> namer)
    then
        return 'nothing';
    end if;
    return 'second_person';
end $$;
revoke all on function app.able_readers(uuid), app.namers_of_readers(uuid), app.naming_needs(uuid, uuid) from public;
grant execute on function app.naming_needs(uuid, uuid) to wcc_app;

-- No row withholds an alert against that rule, whatever the program forgets. Namings of one alert are decided one after
-- the other. What the worker presumes and the rule refuses becomes a proposal for a person to decide about.
create function app.guard_naming() returns trigger language plpgsql security definer
    set search_path = public, pg_temp as $$
declare
    needs text;
begin
    perform pg_advisory_xact_lock(hashtextextended('naming/' || new.alert_id, 0));
    needs := app.naming_needs(new.alert_id, new.user_id);
    if new.decided_by is null and needs = 'overseer' then
        insert into alert_subject_proposals (tenant_id, alert_id, user_id)
            values (new.tenant_id, new.alert_id, new.user_id) on conflict do nothing;
        return null;
    end if;
    if new.decided_by is not null and needs <> 'nothing' then
        raise exception 'withholding this alert needs %', needs using errcode = 'insufficient_privilege';
    end if;
    return new;
end $$;
create trigger alert_subjects_guarded before insert or update on alert_subjects
    for each row when (new.standing <> 'cleared') execute function app.guard_naming();

-- The officer is the second person where nobody else of the team is left to be one: they confirm what somebody else
-- proposed, and name nobody by themselves.
create policy confirmed_by_officer on alert_subjects for insert to wcc_app
    with check (tenant_id = (select app.tenant_for('{data_protection_officer}')) and standing = 'named'
        and decided_by = (select app.actor()) and exists (select from alert_subject_proposals p
            where p.tenant_id = alert_subjects.tenant_id and p.alert_id = alert_subjects.alert_id
                and p.user_id = alert_subjects.user_id and p.proposed_by is not null));
create policy reconfirmed_by_officer on alert_subjects for update to wcc_app
    using (tenant_id = (select app.tenant_for('{data_protection_officer}')))
    with check (tenant_id = (select app.tenant_for('{data_protection_officer}')) and standing = 'named'
        and decided_by = (select app.actor()) and exists (select from alert_subject_proposals p
            where p.tenant_id = alert_subjects.tenant_id and p.alert_id = alert_subjects.alert_id
                and p.user_id = alert_subjects.user_id and p.proposed_by is not null));

-- Acts and events about who an alert may be about are kept from that person, while the alert itself is not withheld.
create policy proposed_unseen on audit_log as restrictive for select to wcc_app
    using (action not like 'alert.subject.%'
        or app.person_of((details ->> 'user_id')::uuid) <> (select app.own_person()));
create policy proposed_unseen on events as restrictive for select to wcc_app
    using (type <> 'alert.subject.changed'
        or app.person_of((data ->> 'user_id')::uuid) <> (select app.own_person()));

-- Whom an event is kept from, for whoever hands events on: those whom the alert that it tells of is about, those from
-- whom its recording is withheld, and who is proposed or named in it.
create function app.kept_from(type text, told jsonb) returns uuid[] language sql stable
    begin atomic
        select app.withheld_from(told)
            || case when type = 'alert.subject.changed' then array(select u.id from users u
                where u.tenant_id = app.tenant()
                    and app.person_of(u.id) = app.person_of((told ->> 'user_id')::uuid)) else '{}' end
            || case when told ? 'recording_id' then array(select s.user_id from alerts a
                join alert_subjects s on s.tenant_id = a.tenant_id and s.alert_id = a.id
                where a.tenant_id = app.tenant() and a.recording_id = (told ->> 'recording_id')::uuid
                    and s.standing = 'named') else '{}' end;
    end;
