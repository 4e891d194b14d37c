-- An invented tenant's messaging: nobody in it lives, nothing in it was said; the words are turns of the invented care
-- conversations. Run by benchmarks/seeding.py after seeding.sql, with the number of messages in `seed.messages`. Over
-- twelve months, more in some conversations than in others; every tenth message with its act, the last quarter's with
-- their events, two in a hundred edited.

create temporary table spoken on commit drop as
    select n, pg_temp.message_id(n) as id, pg_temp.sent_at(n) as at,
        1 + floor(200 * power((hashint4(n) & 16777215) / 16777216.0, 2))::int as conversation, (n * 7) % 5 as member
    from generate_series(1, current_setting('seed.messages')::int) n;
insert into conversations (tenant_id, id, conversation_type, title, created_by, moment, event_version, created_at)
    select pg_temp.tenant(), pg_temp.seeded_id('conversation', c), (array['group', 'care_team', 'family'])[1 + c % 3],
        'Conversation ' || c, pg_temp.seeded_id('user', 1 + c % 60), coalesce(last.id, pg_temp.message_id(0)),
        coalesce(last.number, 0), pg_temp.sent_at(0)
    from generate_series(1, 200) c
        left join (select conversation, (array_agg(id order by n desc))[1] as id, count(*) as number from spoken
            group by conversation) last on last.conversation = c;
insert into conversation_members (tenant_id, id, conversation_id, user_id, added_by, after_id, joined_at)
    select pg_temp.tenant(), pg_temp.seeded_id('member', c * 5 + m), pg_temp.seeded_id('conversation', c),
        pg_temp.seeded_id('user', 1 + (c + m * 11) % 60), pg_temp.seeded_id('user', 1 + c % 60),
        pg_temp.message_id(0), pg_temp.sent_at(0)
    from generate_series(1, 200) c, generate_series(0, 4) m;
insert into messages (tenant_id, id, conversation_id, sender_id, sender_type, content, version, changed_id, edited_at,
    created_at)
    select pg_temp.tenant(), s.id, pg_temp.seeded_id('conversation', s.conversation),
        pg_temp.seeded_id('user', 1 + (s.conversation + s.member * 11) % 60), 'user',
        t.words, case when s.n % 50 = 0 then 2 else 1 end, s.id, case when s.n % 50 = 0 then s.at end, s.at
    from spoken s join pg_temp.turns t on t.number = s.n % (select count(*) from pg_temp.turns);
insert into message_versions (tenant_id, message_id, standing, version, content, written_by, written_at)
    select pg_temp.tenant(), s.id, 'former', 1, 'As it was first written.',
        pg_temp.seeded_id('user', 1 + (s.conversation + s.member * 11) % 60), s.at
    from spoken s where s.n % 50 = 0;
insert into message_mentions (tenant_id, message_id, user_id)
    select pg_temp.tenant(), s.id, pg_temp.seeded_id('user', 1 + (s.conversation + ((s.member + 1) % 5) * 11) % 60)
    from spoken s where s.n % 20 = 0;
insert into message_reactions (tenant_id, message_id, user_id, reaction, conversation_id, created_at)
    select pg_temp.tenant(), s.id, pg_temp.seeded_id('user', 1 + (s.conversation + ((s.member + 1) % 5) * 11) % 60), '+1',
        pg_temp.seeded_id('conversation', s.conversation), s.at
    from spoken s where s.n % 10 = 0;
-- Everybody has read every twentieth message, but for the last ones of each conversation.
insert into conversation_receipts (tenant_id, conversation_id, user_id, kind, up_to, created_at)
    select pg_temp.tenant(), pg_temp.seeded_id('conversation', s.conversation),
        pg_temp.seeded_id('user', 1 + (s.conversation + m * 11) % 60), k, s.id, s.at
    from (select *, row_number() over (partition by conversation order by n) as number,
            row_number() over (partition by conversation order by n desc) as from_last from spoken) s,
        generate_series(0, 4) m, unnest(array['delivered', 'read']) k
    where s.number % 20 = 0 and s.from_last > 5;
insert into events (tenant_id, id, type, aggregate_type, aggregate_id, aggregate_version, data, occurred_at, position,
    sent_at)
    select pg_temp.tenant(), s.id, 'message.sent', 'conversation', pg_temp.seeded_id('conversation', s.conversation),
        s.n, jsonb_build_object('conversation_id', pg_temp.seeded_id('conversation', s.conversation),
        'message_id', s.id), s.at, nextval('events_position'), s.at
    from spoken s where s.n > 0.75 * current_setting('seed.messages')::int;
insert into audit_log (tenant_id, id, actor_id, actor_role, action, object_type, object_id, details, created_at)
    select pg_temp.tenant(), s.id, pg_temp.seeded_id('user', 1 + (s.conversation + s.member * 11) % 60), 'care_worker',
        'message.sent', 'message', s.id,
        jsonb_build_object('conversation_id', pg_temp.seeded_id('conversation', s.conversation)), s.at
    from spoken s where s.n % 10 = 0;
insert into audit_unsealed (tenant_id, audit_id)
    select pg_temp.tenant(), s.id
    from spoken s where s.n % 10 = 0;
