"""Every migration after the baseline runs on databases that hold data, and what they held is still there and works.

`older` holds a small story, written on the baseline. `full` holds a row of two tenants in every table. A new migration
runs on both without a change here. If it takes rows away on purpose, name the table in `MOVED`; if its test needs more
rows, add them to `STORY`.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg.rows import TupleRow

from comms.calls.sessions.queries import read_session
from comms.governance.audit.sealer import seal_batch
from comms.governance.audit.verification import verify_chain
from comms.kernel.database import Actor, Database
from comms.outbox.jobs import job_queue
from comms.outbox.relay import send_batch
from comms.web.context import AppContext
from instance.provisioning import Databases, steps
from tests.comms import audit_helpers as sealing
from tests.comms.database_catalogue import fill, tables

pytestmark = pytest.mark.anyio

BASELINE: Final = 1
MOVED: Final[frozenset[str]] = frozenset()  # tables from which a migration takes rows away on purpose

TENANT, MAKER, OTHER, SPEAKER, SESSION, ALERT, ANALYSIS = (uuid.uuid4() for _ in range(7))
STORY: Final = f"""
select set_config('app.tenant_id', '{TENANT}', true);  -- triggers write for the tenant that acts
insert into tenants (id, slug, name) values ('{TENANT}', 'old', 'Old');
insert into users (tenant_id, id, slug, display_name, role) values ('{TENANT}', '{MAKER}', 'm', 'm', 'care_manager'),
    ('{TENANT}', '{OTHER}', 'o', 'o', 'care_worker'), ('{TENANT}', '{SPEAKER}', 's', 's', 'care_worker');
insert into communication_sessions (tenant_id, id, session_type, title, created_by)
    values ('{TENANT}', '{SESSION}', 'meeting', 'Review', '{MAKER}');
insert into care_contexts (tenant_id, session_id, description) values ('{TENANT}', '{SESSION}', 'About Ann');
insert into session_participants (tenant_id, session_id, user_id, participant_type)
    values ('{TENANT}', '{SESSION}', '{SPEAKER}', 'staff');
insert into recordings (tenant_id, session_id, status, started_by)
    values ('{TENANT}', '{SESSION}', 'ready', '{MAKER}');
insert into transcriptions (tenant_id, recording_id, provider, word_count, duration_seconds, words, models)
    select tenant_id, id, 'test', 1, 1, '[]', '{{}}' from recordings;
insert into utterances (tenant_id, transcription_id, position, participant_id, start_seconds, end_seconds, text,
        confidence)
    select t.tenant_id, t.id, 0, p.id, 0, 1, 'Siân, ref. AB-1234/56', 1 from transcriptions t, session_participants p;
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
set session_replication_role = replica;  -- without system messages
insert into conversations (tenant_id, conversation_type, created_by, moment)
    values ('{TENANT}', 'group', '{MAKER}', uuidv7());
insert into messages (tenant_id, id, conversation_id, sender_id, sender_type, content, changed_id)
    select c.tenant_id, fresh.id, c.id, c.created_by, 'user', 'Ty\u0302 Gwyn, ref. AB-1234/56', fresh.id
    from conversations c, (select uuidv7() as id) fresh;
insert into message_attachments (tenant_id, conversation_id, uploaded_by, name, media_type, size_bytes, sha256,
        object_key, wrapped_key, key_id, text)
    select tenant_id, id, created_by, 'a.txt', 'text/plain', 1, '', 'x', '', 'k', 'Siân, ref. AB-1234/56'
    from conversations;
reset session_replication_role;
"""  # fmt: skip

Administrator = psycopg.Connection[TupleRow]


@dataclass(frozen=True)
class Migrated:
    """A database to which the migrations after the baseline were applied when it held rows, and how many it held."""

    name: str
    rows: dict[str, int]


def _at(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


def _count(conn: Administrator) -> dict[str, int]:
    """The rows of each table."""
    return {
        table.name: int(row[0])
        for table in tables(conn)
        for row in conn.execute(f"select count(*) from {table.name}".encode())
    }


def _migrated(databases: Databases, name: str, write: Callable[[Administrator, set[str]], object]) -> Migrated:
    """Makes a database by the baseline, has rows written there, and applies the migrations that follow.

    `write` is called with the new tables, after the baseline and after each migration that makes a table.
    """
    with psycopg.connect(databases.administrator, autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
    with psycopg.connect(_at(databases.administrator, name)) as admin:
        admin.execute("create extension vector")
        admin.execute("grant all on schema public to wcc_owner")
        admin.execute(f"grant create on database {name} to wcc_owner".encode())
        rows: dict[str, int] = {}
        for number, _, statements in steps():
            admin.execute("set role wcc_owner")
            admin.execute(statements.encode())
            admin.execute("reset role")
            new = {table.name for table in tables(admin)} - set(rows)
            if number >= BASELINE and new:
                write(admin, new)
                counts = _count(admin)
                rows |= {name: counts[name] for name in new}
    return Migrated(name, rows)


@pytest.fixture(scope="module")
def older(databases: Databases) -> Migrated:
    """A database that held the story."""

    def write(admin: Administrator, new: set[str]) -> None:
        if "tenants" in new:
            admin.execute(STORY.encode())

    return _migrated(databases, "older", write)


@pytest.fixture(scope="module")
def full(databases: Databases) -> Migrated:
    """A database that held a row of two tenants in every table, also in one that a later migration made."""
    two_tenants = (uuid.uuid4(), uuid.uuid4())

    def write(admin: Administrator, new: set[str]) -> None:
        for tenant in two_tenants:
            fill(admin, tenant, new)

    return _migrated(databases, "full_database", write)


@pytest.fixture
def administrator(databases: Databases, older: Migrated) -> Iterator[Administrator]:
    """The administrator of the database that held the story."""
    with psycopg.connect(_at(databases.administrator, older.name)) as conn:
        yield conn


def test_no_migration_loses_rows(databases: Databases, older: Migrated, full: Migrated) -> None:
    for migrated in (older, full):
        with psycopg.connect(_at(databases.administrator, migrated.name)) as admin:
            left = _count(admin)
        lost = {table for table, rows in migrated.rows.items() if left.get(table, 0) < rows}
        assert lost <= MOVED


def test_a_migration_that_fails_on_rows_fails_here_whichever_table_it_changes(
    databases: Databases, full: Migrated
) -> None:
    with psycopg.connect(_at(databases.administrator, full.name)) as admin:
        for table in tables(admin):
            with pytest.raises(psycopg.errors.NotNullViolation), admin.transaction():
                admin.execute(f"alter table {table.name} add column needed text not null".encode())


async def test_a_care_context_of_before_is_seen_by_those_who_need_to_and_by_nobody_else(
    databases: Databases, older: Migrated
) -> None:
    database = Database(_at(databases.app, older.name), most=1)
    await database.open()
    try:
        maker, other = Actor(TENANT, MAKER, "care_manager"), Actor(TENANT, OTHER, "care_worker")
        async with database.acting_as(maker) as conn:
            session = await read_session(conn, maker, SESSION)
        async with database.acting_as(other) as conn:
            withheld = await read_session(conn, other, SESSION)
    finally:
        await database.close()
    assert (session.description, session.care_context_withheld) == ("About Ann", False)
    assert (withheld.description, withheld.care_context, withheld.care_context_withheld) == (None, None, True)


async def test_acts_of_before_are_sealed_and_their_chain_is_whole(
    databases: Databases, older: Migrated, ctx: AppContext
) -> None:
    async with sealing.connected(_at(databases.sealer, older.name)) as sealer:
        while await seal_batch(sealer):
            pass
        found = await verify_chain(sealer, sealing.anchor_store_of(ctx), TENANT)
    assert (found.whole, found.sealed, found.waiting) == (True, 1, 0)


async def test_the_relay_goes_on_with_events_of_before(databases: Databases, older: Migrated) -> None:
    async with sealing.connected(_at(databases.relay, older.name)) as relay:
        assert await send_batch(relay, job_queue()) == 1
        assert await send_batch(relay, job_queue()) == 0


def test_words_of_before_are_found_without_accents_and_by_parts(administrator: Administrator) -> None:
    for table, asked in (
        ("messages", "ty gwyn"), ("messages", "Tŷ Gwyn"), ("messages", "1234"), ("messages", "AB-1234/56"),
        ("message_attachments", "sian"), ("message_attachments", "56"), ("utterances", "Sian"),
        ("utterances", "AB-1234"),
    ):  # fmt: skip
        found = administrator.execute(
            f"select count(*) from {table} where words @@ app.search_query(%s)".encode(), (asked,)
        ).fetchone()
        assert found == (1,), (table, asked)


def test_a_version_of_before_is_taken(administrator: Administrator) -> None:
    for again in (
        "insert into events (tenant_id, type, aggregate_type, aggregate_id, aggregate_version, data) "
        "select tenant_id, type, aggregate_type, aggregate_id, aggregate_version, '{}' from events",
        "insert into utterances (tenant_id, transcription_id, position, start_seconds, end_seconds, text, "
        "confidence) select tenant_id, transcription_id, position, 0, 1, 'x', 1 from utterances",
    ):
        with pytest.raises(psycopg.errors.UniqueViolation), administrator.transaction():
            administrator.execute(again.encode())
