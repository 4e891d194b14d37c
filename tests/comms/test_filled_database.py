"""What was written by the first version: every later migration on a database that is filled, 0009 looked at closely."""

import uuid
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from comms.database import Actor, Database
from comms.provision import Databases, steps
from comms.sessions.care_context import CareContext
from comms.sessions.queries import CallPermissions, read_session

pytestmark = pytest.mark.anyio

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
    select t.tenant_id, t.id, 0, p.id, 0, 1, 'x', 1 from transcriptions t, session_participants p
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


def _at(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


@pytest.fixture(scope="module")
def carried_over(databases: Databases) -> str:
    """A database that was filled by the first version, by its name."""
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
            admin.execute("set role wcc_owner")
            admin.execute(statements.encode())
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
