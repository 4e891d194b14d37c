-- Need to know: who sees a session's care context, whom an alert is about, who broke the glass, and guests.
-- Data of before are moved with security off for the moment: once it is forced even the owner sees no row.

-- guests ----------------------------------------------------------------------------------------------------------
-- The one session to which a guest's sign-in is narrowed, taken from the transaction; null for everybody else.
create function app.session_id() returns uuid language sql stable
    return nullif(current_setting('app.session_id', true), '')::uuid;

-- A guest sees, of all sessions and of who takes part in them, those of the one they were invited to.
create policy guests_own on communication_sessions as restrictive to wcc_app
    using ((select app.session_id()) is null or id = (select app.session_id()));
create policy guests_own on session_participants as restrictive to wcc_app
    using ((select app.session_id()) is null or session_id = (select app.session_id()));

alter table sign_ins add column session_id uuid;
alter table sign_ins add foreign key (tenant_id, session_id) references communication_sessions (tenant_id, id);
create index sign_ins_session on sign_ins (tenant_id, session_id);
-- Whoever may invite guests to sessions sees guests' sign-ins and may end them: taking an invitation back does.
create policy guests_of_inviters on sign_ins for select to wcc_app
    using (tenant_id = (select app.tenant()) and kind = 'guest'
        and (select app.actor_role()) in ('care_manager', 'care_worker', 'safeguarding_lead', 'service'));
create policy guests_ended on sign_ins for update to wcc_app
    using (tenant_id = (select app.tenant()) and kind = 'guest' and ended_at is null
        and (select app.actor_role()) in ('care_manager', 'care_worker', 'safeguarding_lead', 'service'))
    with check (tenant_id = (select app.tenant()));

create table session_invitations (
    tenant_id uuid not null,
    id uuid not null,                       -- the signed link's `jti`, and the guest's own id as a user once they enter
    session_id uuid not null,
    display_name text not null check (length(display_name) between 1 and 255),
    participant_type text not null check (participant_type in ('family', 'professional', 'guest')),
    email text,
    invited_by uuid not null,
    expires_at timestamptz not null,
    entered_at timestamptz,                 -- the first time
    revoked_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, session_id) references communication_sessions (tenant_id, id),
    foreign key (tenant_id, invited_by) references users (tenant_id, id)
);
create index session_invitations_session on session_invitations (tenant_id, session_id, id);
create index session_invitations_inviter on session_invitations (tenant_id, invited_by);
alter table session_invitations enable row level security;
alter table session_invitations force row level security;
grant select, insert, update (entered_at, revoked_at) on session_invitations to wcc_app;
-- Those who may change sessions invite and take back; the door reads an invitation when somebody comes with its link.
create policy inviters_and_door on session_invitations to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('door', 'care_manager', 'care_worker', 'safeguarding_lead', 'service'))
    with check (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('door', 'care_manager', 'care_worker', 'safeguarding_lead', 'service'));

-- whom an alert is about --------------------------------------------------------------------------------------------
create table alert_subjects (
    tenant_id uuid not null,
    alert_id uuid not null,
    user_id uuid not null,
    standing text not null check (standing in ('named', 'presumed', 'cleared')),
    decided_by uuid,                        -- null: presumed, because they spoke words that the alert cites
    decided_at timestamptz not null default now(),
    primary key (tenant_id, alert_id, user_id),
    foreign key (tenant_id, alert_id) references alerts (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id),
    foreign key (tenant_id, decided_by) references users (tenant_id, id)
);
create index alert_subjects_user on alert_subjects (tenant_id, user_id);
create index alert_subjects_decider on alert_subjects (tenant_id, decided_by);
-- Alerts of before: whoever spoke what they cite.
alter table alert_evidence no force row level security;
alter table utterances no force row level security;
alter table session_participants no force row level security;
insert into alert_subjects (tenant_id, alert_id, user_id, standing)
    select distinct e.tenant_id, e.alert_id, p.user_id, 'presumed' from alert_evidence e
    join utterances u on u.tenant_id = e.tenant_id and u.id = e.utterance_id
    join session_participants p on p.tenant_id = u.tenant_id and p.id = u.participant_id;
alter table alert_evidence force row level security;
alter table utterances force row level security;
alter table session_participants force row level security;
alter table alert_subjects enable row level security;
alter table alert_subjects force row level security;
grant select, insert, update on alert_subjects to wcc_app;
grant insert on alert_subjects to wcc_worker;

-- The two rules below run as the owner, because the person they ask about must not see the rows that answer.
-- The rules' functions see, within the tenant that asks, whom alerts are about and which recordings they rest on.
create policy asked_by_rules on alert_subjects for select to wcc_owner using (tenant_id = (select app.tenant()));
create policy asked_by_rules on alerts for select to wcc_owner using (tenant_id = (select app.tenant()));

-- The alerts that are about whoever acts: named by the team, or presumed until the team says otherwise.
create function app.alerts_withheld() returns uuid[] language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select coalesce(array_agg(s.alert_id), '{}') from alert_subjects s
        where s.tenant_id = app.tenant() and s.user_id = app.actor() and s.standing <> 'cleared';
    end;
-- The recordings that hold what was said of whoever acts. Who is merely presumed keeps the call that they spoke in,
-- unless their role would otherwise see, decide or erase what it gave rise to.
create function app.recordings_withheld() returns uuid[] language sql stable security definer
    set search_path = public, pg_temp
    begin atomic
        select coalesce(array_agg(distinct a.recording_id), '{}') from alert_subjects s
        join alerts a on a.tenant_id = s.tenant_id and a.id = s.alert_id
        where s.tenant_id = app.tenant() and s.user_id = app.actor() and (s.standing = 'named'
            or s.standing = 'presumed' and app.actor_role() in
                ('safeguarding_lead', 'reviewer', 'data_protection_officer'));
    end;

-- Whom an event is withheld from: those whom the alert that it tells of is about. For whoever hands events on.
create function app.withheld_from(told jsonb) returns uuid[] language sql stable
    begin atomic
        select coalesce(array_agg(s.user_id), '{}') from alert_subjects s
        where s.tenant_id = app.tenant() and s.alert_id = (told ->> 'alert_id')::uuid and s.standing <> 'cleared';
    end;

-- Those who see alerts see whom they are about; the team that decides alerts says so; nobody sees it of themselves.
create policy safeguarding_team on alert_subjects to wcc_app
    using (tenant_id = (select app.tenant()) and (select app.actor_role()) in
        ('safeguarding_lead', 'reviewer', 'data_protection_officer', 'service'))
    with check (tenant_id = (select app.tenant()) and decided_by = (select app.actor())
        and (select app.actor_role()) in ('safeguarding_lead', 'reviewer'));
create policy not_about_oneself on alert_subjects as restrictive to wcc_app
    using (alert_id <> all ((select app.alerts_withheld())::uuid[]));
-- The worker notes, with the alert, who is presumed to be meant.
create policy presumed_by_worker on alert_subjects for insert to wcc_worker
    with check (tenant_id = (select app.tenant()) and standing = 'presumed');

-- Whatever the role: what is about a person is not for that person. Of the alert:
create policy not_about_oneself on alerts as restrictive to wcc_app
    using (id <> all ((select app.alerts_withheld())::uuid[]));
create policy not_about_oneself on alert_evidence as restrictive to wcc_app
    using (alert_id <> all ((select app.alerts_withheld())::uuid[]));
create policy not_about_oneself on reviews as restrictive to wcc_app
    using (alert_id <> all ((select app.alerts_withheld())::uuid[]));
create policy not_about_oneself on events as restrictive for select to wcc_app
    using (coalesce(data ->> 'alert_id', '') <> all ((select app.alerts_withheld())::text[]));
create policy not_about_oneself on audit_log as restrictive for select to wcc_app
    using (object_id <> all ((select app.alerts_withheld())::uuid[])
        and object_id <> all ((select app.recordings_withheld())::uuid[]));
-- … and of the recording that it rests on: sound, words, what models say, and with them who talks how much.
create policy not_about_oneself on recordings as restrictive to wcc_app
    using (id <> all ((select app.recordings_withheld())::uuid[]));
create policy not_about_oneself on recording_tracks as restrictive to wcc_app
    using (recording_id <> all ((select app.recordings_withheld())::uuid[]));
create policy not_about_oneself on transcriptions as restrictive to wcc_app
    using (recording_id <> all ((select app.recordings_withheld())::uuid[]));
create policy not_about_oneself on utterances as restrictive to wcc_app
    using (cardinality((select app.recordings_withheld())) = 0 or exists (select from transcriptions t
        where t.tenant_id = utterances.tenant_id and t.id = utterances.transcription_id));
create policy not_about_oneself on stage_timings as restrictive to wcc_app
    using (recording_id <> all ((select app.recordings_withheld())::uuid[]));
create policy not_about_oneself on analyses as restrictive to wcc_app
    using (recording_id <> all ((select app.recordings_withheld())::uuid[]));

-- break-glass ---------------------------------------------------------------------------------------------------------
create table broken_glass (
    tenant_id uuid not null,
    id uuid not null default uuidv7(),
    user_id uuid not null,
    session_id uuid,                        -- its care context
    alert_id uuid,
    reason text not null check (length(reason) between 1 and 2000),     -- words: here alone, never in the log of acts
    expires_at timestamptz not null,
    acknowledged_by uuid,
    acknowledged_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    check (num_nonnulls(session_id, alert_id) = 1),
    check (expires_at <= created_at + interval '1 hour'),
    check (num_nulls(acknowledged_by, acknowledged_at) in (0, 2)),
    foreign key (tenant_id, user_id) references users (tenant_id, id),
    foreign key (tenant_id, session_id) references communication_sessions (tenant_id, id),
    foreign key (tenant_id, alert_id) references alerts (tenant_id, id),
    foreign key (tenant_id, acknowledged_by) references users (tenant_id, id)
);
create index broken_glass_user on broken_glass (tenant_id, user_id, expires_at);
create index broken_glass_session on broken_glass (tenant_id, session_id);
create index broken_glass_alert on broken_glass (tenant_id, alert_id);
create index broken_glass_acknowledger on broken_glass (tenant_id, acknowledged_by);
create index broken_glass_waiting on broken_glass (tenant_id, id) where acknowledged_at is null;
alter table broken_glass enable row level security;
alter table broken_glass force row level security;
grant select, insert, update (acknowledged_by, acknowledged_at) on broken_glass to wcc_app;
-- The officer and the lead see every glass that was broken, everybody their own.
create policy loud on broken_glass for select to wcc_app
    using (tenant_id = (select app.tenant()) and (user_id = (select app.actor())
        or (select app.actor_role()) in ('data_protection_officer', 'safeguarding_lead')));
-- Staff break it, each for themselves.
create policy broken_by_staff on broken_glass for insert to wcc_app
    with check (tenant_id = (select app.tenant()) and user_id = (select app.actor()) and acknowledged_at is null
        and (select app.actor_role()) in
            ('care_manager', 'care_worker', 'safeguarding_lead', 'reviewer', 'data_protection_officer'));
-- The officer and the lead acknowledge, once, and never their own.
create policy acknowledged_by_another on broken_glass for update to wcc_app
    using (tenant_id = (select app.tenant()) and user_id <> (select app.actor()) and acknowledged_at is null
        and (select app.actor_role()) in ('data_protection_officer', 'safeguarding_lead'))
    with check (tenant_id = (select app.tenant()) and acknowledged_by = (select app.actor()));
-- Nobody breaks the glass of an alert about themselves, nor learns that somebody did.
create policy not_about_oneself on broken_glass as restrictive to wcc_app
    using (alert_id is null or alert_id <> all ((select app.alerts_withheld())::uuid[]));

-- The alerts whose glass whoever acts has broken and may still look through.
create function app.alerts_opened() returns uuid[] language sql stable
    begin atomic
        select coalesce(array_agg(g.alert_id), '{}') from broken_glass g
        where g.tenant_id = app.tenant() and g.user_id = app.actor() and g.alert_id is not null
            and g.expires_at > now();
    end;
-- The safeguarding team and the data-protection officer see alerts, whoever broke the glass of one sees that one. One
-- condition, where a second policy would make an `or` of two that no index serves.
drop policy safeguarding_team on alerts;
create policy seen on alerts for select to wcc_app
    using (tenant_id = (select app.tenant())
        and ((select app.tenant_for('{safeguarding_lead, reviewer, data_protection_officer, service}')) is not null
            or id = any ((select app.alerts_opened())::uuid[])));
-- The safeguarding team and the data-protection officer change them, as far as the API's permission table lets them.
create policy changed_by_team on alerts for update to wcc_app
    using (tenant_id = (select app.tenant_for('{safeguarding_lead, reviewer, data_protection_officer, service}')))
    with check (tenant_id = (select app.tenant()));
-- As alerts are seen.
alter policy safeguarding_team on alert_evidence
    using (tenant_id = (select app.tenant())
        and ((select app.tenant_for('{safeguarding_lead, reviewer, data_protection_officer, service}')) is not null
            or alert_id = any ((select app.alerts_opened())::uuid[])));
alter policy safeguarding_team on alert_evidence rename to seen;
-- The safeguarding team and the officer read decisions, whoever broke an alert's glass those on it.
drop policy safeguarding_team on reviews;
create policy seen on reviews for select to wcc_app
    using (tenant_id = (select app.tenant())
        and ((select app.tenant_for('{safeguarding_lead, reviewer, data_protection_officer}')) is not null
            or alert_id = any ((select app.alerts_opened())::uuid[])));
-- The safeguarding team adds decisions; nobody changes one.
create policy added_by_team on reviews for insert to wcc_app
    with check (tenant_id = (select app.tenant_for('{safeguarding_lead, reviewer}'))
        and reviewer_id = (select app.actor()));

-- care context --------------------------------------------------------------------------------------------------------
-- The rule, and the only place of it. Who needs to know what a session is about: whoever takes or took part in it,
-- whoever made it, the manager of the home that it belongs to, those whose role answers for safeguarding, the
-- platform's own programs and its door, and for a while whoever broke the glass, giving a reason.
create function app.needs_care_context(wanted uuid) returns boolean language sql stable
    begin atomic
        select app.actor_role() in ('safeguarding_lead', 'reviewer', 'data_protection_officer', 'service', 'door')
            or exists (select from session_participants p
                where p.tenant_id = app.tenant() and p.session_id = wanted and p.user_id = app.actor())
            or exists (select from communication_sessions s
                where s.tenant_id = app.tenant() and s.id = wanted and (s.created_by = app.actor()
                    or app.actor_role() = 'care_manager' and s.home_id = (select u.home_id from users u
                        where u.tenant_id = app.tenant() and u.id = app.actor())))
            or exists (select from broken_glass g
                where g.tenant_id = app.tenant() and g.user_id = app.actor() and g.session_id = wanted
                    and g.expires_at > now());
    end;

create table care_contexts (
    tenant_id uuid not null,
    session_id uuid not null,
    description text,
    incidents text[] not null default '{}', -- references of incidents, codes, no words
    earlier jsonb,                          -- what was written freely before there was a shape; never written any more
    primary key (tenant_id, session_id),
    foreign key (tenant_id, session_id) references communication_sessions (tenant_id, id)
);
alter table communication_sessions no force row level security;
insert into care_contexts (tenant_id, session_id, description, earlier)
    select tenant_id, id, description, nullif(care_context, '{}') from communication_sessions
    where description is not null or care_context <> '{}';
alter table communication_sessions force row level security;
alter table communication_sessions drop column description;
alter table communication_sessions drop column care_context;
alter table care_contexts enable row level security;
alter table care_contexts force row level security;
grant select, insert, update on care_contexts to wcc_app;
-- Those who need to know (the rule above) see it, and they alone write it.
create policy need_to_know on care_contexts to wcc_app
    using (tenant_id = (select app.tenant()) and app.needs_care_context(session_id))
    with check (tenant_id = (select app.tenant()) and app.needs_care_context(session_id));

create table care_context_residents (
    tenant_id uuid not null,
    session_id uuid not null,
    user_id uuid not null,
    primary key (tenant_id, session_id, user_id),
    foreign key (tenant_id, session_id) references care_contexts (tenant_id, session_id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create index care_context_residents_user on care_context_residents (tenant_id, user_id);
alter table care_context_residents enable row level security;
alter table care_context_residents force row level security;
grant select, insert, delete on care_context_residents to wcc_app;
-- As care_contexts.
create policy need_to_know on care_context_residents to wcc_app
    using (tenant_id = (select app.tenant()) and app.needs_care_context(session_id))
    with check (tenant_id = (select app.tenant()) and app.needs_care_context(session_id));

-- Who takes part needs to know: so those alone who need to know themselves add somebody, or anybody could add themselves.
create policy added_by_those_who_know on session_participants as restrictive for insert to wcc_app
    with check (app.needs_care_context(session_id));

-- a participant's switches ------------------------------------------------------------------------------------------------
alter table session_participants add column removed_at timestamptz;    -- by somebody else: they do not come back alone
-- They have names now: of what was written freely before, those that are known and say yes or no stay.
alter table session_participants no force row level security;
update session_participants p set permissions = (
    select coalesce(jsonb_object_agg(s.key, s.value), '{}') from jsonb_each(p.permissions) s
    where s.key in ('camera', 'microphone', 'screen', 'chat', 'record') and jsonb_typeof(s.value) = 'boolean')
where jsonb_typeof(p.permissions) = 'object' and p.permissions <> '{}';
update session_participants set permissions = '{}' where jsonb_typeof(permissions) <> 'object';
alter table session_participants force row level security;
