"""Tests the migrations on a database with data of the first version, migrations 0009 and 0015 in detail."""

import uuid
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from comms.calls.sessions.care_context import CareContext
from comms.calls.sessions.queries import CallPermissions, read_session
from comms.governance.audit.sealer import seal_batch
from comms.governance.audit.verification import verify_chain
from comms.kernel.database import Actor, Database
from comms.outbox.jobs import job_queue
from comms.outbox.relay import send_batch
from comms.web.context import AppContext
from instance.provisioning import Databases, steps
from tests.comms import audit_helpers

pytestmark = pytest.mark.anyio

TALKED_BEFORE: Final = 28  # this migration builds the search index again; messages and files exist already
TALK: Final = """
set session_replication_role = replica;  -- what triggers would add is not looked at here
insert into conversations (tenant_id, conversation_type, created_by, moment)
    select tenant_id, 'group', id, uuidv7() from users where slug = 'm';
insert into messages (tenant_id, id, conversation_id, sender_id, sender_type, content, changed_id)
    select c.tenant_id, fresh.id, c.id, c.created_by, 'user', 'Ty\u0302 Gwyn, ref. AB-1234/56', fresh.id
    from conversations c, (select uuidv7() as id) fresh;
insert into message_attachments (tenant_id, conversation_id, uploaded_by, name, media_type, size_bytes, sha256,
        object_key, wrapped_key, key_id, text)
    select tenant_id, id, created_by, 'a.txt', 'text/plain', 1, '', 'x', '', 'k', 'Siân, ref. AB-1234/56'
    from conversations;
reset session_replication_role;
"""
TENANT, MAKER, OTHER, SPEAKER, SESSION, PLAIN, ALERT, ANALYSIS = (uuid.uuid4() for _ in range(8))
FILLED_BEFORE = 5  # the first migration after the first version
FILL = f"""
insert into tenants (id, slug, name) values ('{TENANT}', 'old', 'Old');
insert into users (tenant_id, id, slug, display_name, role) values ('{TENANT}', '{MAKER}', 'm', 'm', 'care_manager'),
    ('{TENANT}', '{OTHER}', 'o', 'o', 'care_worker'), ('{TENANT}', '{SPEAKER}', 's', 's', 'care_worker');
insert into communication_sessions (tenant_id, id, session_type, title, description, care_context, created_by) values
    ('{TENANT}', '{SESSION}', 'meeting', 'Review', 'About Ann', '{{"note": "free", "who": ["Ann"]}}', '{MAKER}'),
    ('{TENANT}', '{PLAIN}', 'meeting', 'Plain', null, '{{}}', '{MAKER}');
insert into session_participants (tenant_id, session_id, user_id, participant_type, permissions) values
    ('{TENANT}', '{SESSION}', '{SPEAKER}', 'staff', '{{"camera": false, "record": "yes", "dance": true}}'),
    ('{TENANT}', '{PLAIN}', '{SPEAKER}', 'staff', '[1]');
insert into recordings (tenant_id, session_id, status, started_by)
    values ('{TENANT}', '{SESSION}', 'ready', '{MAKER}');
insert into transcriptions (tenant_id, recording_id, provider, word_count, duration_seconds, words, models)
    select tenant_id, id, 'test', 1, 1, '[]', '{{}}' from recordings;
insert into utterances (tenant_id, transcription_id, position, participant_id, start_seconds, end_seconds, text,
        confidence)
    select t.tenant_id, t.id, 0, p.id, 0, 1, 'Siân, ref. AB-1234/56', 1 from transcriptions t, session_participants p
    where p.session_id = '{SESSION}';
insert into analyses (tenant_id, id, recording_id, transcription_id, risk_level, risk_score, confidence_level,
        document, models)
    select tenant_id, '{ANALYSIS}', recording_id, id, 'high', 1, 1, '{{}}', '{{}}' from transcriptions;
insert into alerts (tenant_id, id, session_id, recording_id, analysis_id, severity, categories, probability, models)
    select tenant_id, '{ALERT}', '{SESSION}', recording_id, id, 'high', '{{neglect}}', 1, '{{}}' from analyses;
insert into alert_evidence (tenant_id, alert_id, utterance_id, category, severity, probability, threshold, model,
        model_version)
    select tenant_id, '{ALERT}', id, 'neglect', 'high', 1, 0, 'm', '1' from utterances;
insert into events (tenant_id, type, aggregate_type, aggregate_id, aggregate_version, data)
    values ('{TENANT}', 'session.created', 'session', '{SESSION}', 1, '{{}}');
insert into audit_log (tenant_id, actor_id, actor_role, action, object_type, object_id)
    values ('{TENANT}', '{MAKER}', 'care_manager', 'session.created', 'session', '{SESSION}');
insert into ws_tickets (tenant_id, user_id, role, secret_hash, expires_at)
    values ('{TENANT}', '{MAKER}', 'care_manager', '', now());
"""  # fmt: skip

LAID_IN_MONTHS: Final = 15  # the migration to monthly partitions
IN_MONTHS: Final = ("utterances", "audit_log", "events")
# The objects on a table, in the same form before and after the migration.
STANDING: Final = """
select 'policy ' || row(policyname, permissive, roles, cmd, qual, with_check)::text from pg_policies
    where schemaname = 'public' and tablename = %(table)s
union all select 'grant ' || row(grantee, column_name, privilege_type)::text from information_schema.column_privileges
    where table_schema = 'public' and table_name = %(table)s and grantee <> 'wcc_owner'
union all select pg_get_triggerdef(oid) from pg_trigger where tgrelid = %(table)s::regclass and not tgisinternal
union all select conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) from pg_constraint
    where %(table)s::regclass in (conrelid, confrelid) and contype <> 'u' and conparentid = 0
union all select replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') from pg_index
    where indrelid = %(table)s::regclass and (indisprimary or not indisunique)
union all select row(column_name, data_type, is_nullable, column_default)::text from information_schema.columns
    where table_schema = 'public' and table_name = %(table)s
"""


def _at(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def _standing(conn: "psycopg.Connection[tuple[object, ...]]") -> dict[str, set[object]]:
    """The objects on each of the tables that get partitions."""
    return {
        table: {said for (said,) in conn.execute(STANDING.encode(), {"table": table}).fetchall()} for table in IN_MONTHS
    }


@pytest.fixture(scope="module")
def catalogue_before() -> dict[str, set[object]]:
    """The objects on the tables before they got partitions; filled by `carried_over`."""
    return {}


@pytest.fixture(scope="module")
def catalogue_after() -> dict[str, set[object]]:
    """The objects on the tables right after that, before later migrations; filled by `carried_over`."""
    return {}


@pytest.fixture(scope="module")
def carried_over(
    databases: Databases, catalogue_before: dict[str, set[object]], catalogue_after: dict[str, set[object]]
) -> str:
    """The name of a database with data of the first version, migrated to this version."""
    with psycopg.connect(databases.administrator, autocommit=True) as admin:
        admin.execute("create database before_need_to_know")
    with psycopg.connect(_at(databases.administrator, "before_need_to_know")) as admin:
        admin.execute("create extension vector")
        admin.execute("grant all on schema public to wcc_owner")
        admin.execute("grant create on database before_need_to_know to wcc_owner")
        for number, _, statements in steps():
            if number == FILLED_BEFORE:
                admin.execute("reset role")
                admin.execute(FILL.encode())
            if number == TALKED_BEFORE:
                admin.execute("reset role")
                admin.execute(TALK.encode())
            if number == LAID_IN_MONTHS:
                catalogue_before |= _standing(admin)
            admin.execute("set role wcc_owner")
            admin.execute(statements.encode())
            if number == LAID_IN_MONTHS:
                catalogue_after |= _standing(admin)
    return "before_need_to_know"


def test_who_spoke_what_older_alerts_cite_is_presumed_to_be_meant(databases: Databases, carried_over: str) -> None:
    with psycopg.connect(_at(databases.administrator, carried_over)) as admin:
        subjects = admin.execute("select alert_id, user_id, standing from alert_subjects").fetchall()
    assert subjects == [(ALERT, SPEAKER, "presumed")]


async def test_free_contexts_of_before_are_seen_by_those_who_need_to_and_by_nobody_else(
    databases: Databases, carried_over: str
) -> None:
    database = Database(_at(databases.app, carried_over), most=1)
    await database.open()
    try:
        maker, other = Actor(TENANT, MAKER, "care_manager"), Actor(TENANT, OTHER, "care_worker")
        async with database.acting_as(maker) as conn:
            session = await read_session(conn, maker, SESSION)
            plain = await read_session(conn, maker, PLAIN)
        async with database.acting_as(other) as conn:
            withheld = await read_session(conn, other, SESSION)
    finally:
        await database.close()
    assert (session.description, session.care_context) == (
        "About Ann", CareContext(earlier={"note": "free", "who": ["Ann"]}),
    )  # fmt: skip
    assert session.participants[0].permissions == CallPermissions(camera=False)
    assert (plain.description, plain.care_context) == (None, CareContext())
    assert plain.participants[0].permissions == CallPermissions()
    assert (withheld.description, withheld.care_context, withheld.care_context_withheld) == (None, None, True)


def test_what_stood_on_a_table_stands_on_it_in_months(
    carried_over: str, catalogue_before: dict[str, set[object]], catalogue_after: dict[str, set[object]]
) -> None:
    for table in IN_MONTHS:
        assert catalogue_before[table] - catalogue_after[table] == set(), table
        assert len(catalogue_before[table]) > 15


def test_rows_of_before_lie_in_the_first_month_each_once(databases: Databases, carried_over: str) -> None:
    with psycopg.connect(_at(databases.administrator, carried_over)) as admin:
        for table in IN_MONTHS:
            found = admin.execute(f"select tableoid::regclass::text from {table}".encode()).fetchall()
            assert found == [(f"partitions.{table}_before",)]


async def test_acts_of_before_are_sealed_and_their_chain_is_whole(
    databases: Databases, carried_over: str, ctx: AppContext
) -> None:
    async with audit_helpers.connected(_at(databases.sealer, carried_over)) as sealer:
        while await seal_batch(sealer):
            pass
        found = await verify_chain(sealer, audit_helpers.anchor_store_of(ctx), TENANT)
    assert (found.whole, found.sealed, found.waiting) == (True, 1, 0)


async def test_the_relay_goes_on_with_events_of_before(databases: Databases, carried_over: str) -> None:
    async with audit_helpers.connected(_at(databases.relay, carried_over)) as relay:
        assert await send_batch(relay, job_queue()) == 1
        assert await send_batch(relay, job_queue()) == 0


def test_words_of_before_are_found_without_accents_and_by_parts(databases: Databases, carried_over: str) -> None:
    with psycopg.connect(_at(databases.administrator, carried_over)) as admin:
        for table, asked in (
            ("messages", "ty gwyn"), ("messages", "Tŷ Gwyn"), ("messages", "1234"), ("messages", "AB-1234/56"),
            ("message_attachments", "sian"), ("message_attachments", "56"), ("utterances", "Sian"),
            ("utterances", "AB-1234"),
        ):  # fmt: skip
            found = admin.execute(
                f"select count(*) from {table} where words @@ app.search_query(%s)".encode(), (asked,)
            ).fetchone()
            assert found == (1,), (table, asked)


def test_a_version_of_before_is_taken(databases: Databases, carried_over: str) -> None:
    with psycopg.connect(_at(databases.administrator, carried_over)) as admin:
        for again in (
            "insert into events (tenant_id, type, aggregate_type, aggregate_id, aggregate_version, data) "
            "select tenant_id, type, aggregate_type, aggregate_id, aggregate_version, '{}' from events",
            "insert into utterances (tenant_id, transcription_id, position, start_seconds, end_seconds, text, "
            "confidence) select tenant_id, transcription_id, position, 0, 1, 'x', 1 from utterances",
        ):
            with pytest.raises(psycopg.errors.UniqueViolation), admin.transaction():
                admin.execute(again.encode())
