"""Tests of retention: expired data is erased by tenant and category, held data is kept, and all of it is audited."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import httpx
import psycopg
import pytest

from comms.governance.audit.verification import verify_chain
from comms.governance.retention.erasure import count_held, erase_batch, erase_due
from comms.governance.retention.keeper import run_retention_forever
from comms.kernel.access.system_actor import NIL_UUID
from comms.kernel.database import Actor, Database
from comms.web.context import AppContext
from instance.provisioning import ROLES, Databases
from tests import factories
from tests.comms import audit_helpers, outbox_helpers
from tests.comms.messaging_fixtures import MessagingClient

pytestmark = pytest.mark.anyio

Administrator = psycopg.Connection[tuple[object, ...]]
LONG_AGO = "2020-05-17T00:00:00Z"


@pytest.fixture
def talk(client: httpx.AsyncClient, ctx: AppContext) -> MessagingClient:
    return MessagingClient(client, ctx)


@pytest.fixture
def administrator(databases: Databases) -> Administrator:
    conn = psycopg.connect(databases.administrator, autocommit=True)
    conn.execute("select app.make_month('messages', '2020-05-01T00:00:00Z')")
    return conn


@dataclass(frozen=True)
class Past:
    """A conversation with old messages, written by the person who created it."""

    writer: Actor
    path: str
    messages: list[uuid.UUID]

    @property
    def conversation_id(self) -> uuid.UUID:
        return uuid.UUID(self.path.rpartition("/")[2])

    @property
    def keeper(self) -> Actor:
        return Actor(self.writer.tenant_id, NIL_UUID, "service")


async def a_past(talk: MessagingClient, ctx: AppContext, administrator: Administrator, count: int = 3) -> Past:
    """A `Past` in a tenant of its own, whose rule erases messages after thirty days."""
    writer = await factories.make_actor(ctx, "care_manager")
    other = await talk.person(writer)
    past = Past(writer, await talk.begin(writer, other), [])
    administrator.execute("select set_config('app.tenant_id', %s, false)", (str(writer.tenant_id),))  # for triggers
    for message_id in sorted(first_id(administrator, LONG_AGO) for _ in range(count)):
        administrator.execute(
            "insert into messages (tenant_id, id, conversation_id, sender_id, sender_type, content, changed_id) "
            "values (%s, %s, %s, %s, 'user', 'long ago', %s)",
            (writer.tenant_id, message_id, past.conversation_id, writer.user_id, message_id),
        )
        past.messages.append(message_id)
    rule(administrator, writer, "messages", 30)
    return past


def first_id(administrator: Administrator, at: str) -> uuid.UUID:
    """Returns an id of that time that only this call returns."""
    found = administrator.execute("select app.first_id(%s)", (at,)).fetchone()
    assert found is not None
    assert isinstance(found[0], uuid.UUID)
    return uuid.UUID(int=found[0].int | uuid.uuid4().int & (2**60 - 1) << 8)


def rule(administrator: Administrator, actor: Actor, category: str, days: int) -> None:
    administrator.execute(
        "insert into retention_rules (tenant_id, category, days, decided_by) values (%s, %s, %s, %s)",
        (actor.tenant_id, category, days, actor.user_id),
    )


def hold(administrator: Administrator, past: Past, message: uuid.UUID | None) -> None:
    administrator.execute(
        "insert into retention_holds (tenant_id, conversation_id, message_id, reference, placed_by) "
        "values (%s, %s, %s, 'case-7', %s)",
        (past.writer.tenant_id, past.conversation_id, message, past.writer.user_id),
    )


def left(administrator: Administrator, past: Past) -> list[uuid.UUID]:
    found = administrator.execute(
        "select id from messages where tenant_id = %s and content = 'long ago' order by id", (past.writer.tenant_id,)
    )
    return [message for (message,) in found.fetchall() if isinstance(message, uuid.UUID)]


def swept(administrator: Administrator, actor: Actor) -> list[dict[str, Any]]:
    """Returns what the audit log says was erased, in order."""
    found = administrator.execute(
        "select details from audit_log where tenant_id = %s and action = 'retention.swept' order by id",
        (actor.tenant_id,),
    )
    return [cast(dict[str, Any], row[0]) for row in found.fetchall()]


@pytest.fixture
async def keepers(databases: Databases) -> AsyncIterator[Database]:
    """The database as the role of the retention process."""
    database = Database(databases.keeper, most=2)
    await database.open()
    yield database
    await database.close()


async def test_messages_go_when_their_time_is_over_with_all_that_belongs_to_them(
    talk: MessagingClient, ctx: AppContext, administrator: Administrator, keepers: Database
) -> None:
    past = await a_past(talk, ctx, administrator)
    tenant, writer, old = past.writer.tenant_id, past.writer.user_id, past.messages
    young = await talk.say(past.writer, past.path, "of today")
    administrator.execute("update messages set content = 'long ago', reply_to = %s where id = %s", (old[0], old[1]))
    administrator.execute("update messages set reply_to = %s where id = %s", (old[2], young["id"]))
    administrator.execute("update messages set content = 'changed', version = 2 where id = %s", (old[0],))
    administrator.execute("insert into message_mentions values (%s, %s, %s)", (tenant, old[0], writer))
    administrator.execute(
        "insert into message_reactions values (%s, %s, %s, '+1', %s)", (tenant, old[0], writer, past.conversation_id)
    )
    administrator.execute(
        "insert into conversation_receipts (tenant_id, conversation_id, user_id, kind, up_to) "
        "values (%s, %s, %s, 'read', %s)",
        (tenant, past.conversation_id, writer, old[2]),
    )
    await erase_due(keepers, asyncio.Event())
    assert await talk.read(past.writer, past.path) == ["of today"]
    assert (await talk.ask(past.writer, "GET", f"/api/messages/{young['id']}")).json()["reply_to"] is None
    for table in ("message_versions", "message_mentions", "message_reactions", "conversation_receipts"):
        counted = administrator.execute(f"select count(*) from {table} where tenant_id = %s".encode(), (tenant,))
        assert counted.fetchone() == (0,), table
    due = administrator.execute("select message_id from message_readings_due where tenant_id = %s", (tenant,))
    assert [str(message) for (message,) in due.fetchall()] == [young["id"]]
    assert swept(administrator, past.writer) == [{"category": "messages", "erased": 3}]


async def test_each_tenant_keeps_by_its_own_rule_and_by_the_houses_where_it_has_none(
    talk: MessagingClient, ctx: AppContext, administrator: Administrator, keepers: Database
) -> None:
    short, long, none = [await a_past(talk, ctx, administrator) for _ in range(3)]
    administrator.execute("update retention_rules set days = 36500 where tenant_id = %s", (long.writer.tenant_id,))
    administrator.execute("delete from retention_rules where tenant_id = %s", (none.writer.tenant_id,))
    await erase_due(keepers, asyncio.Event())
    assert [len(left(administrator, past)) for past in (short, long, none)] == [0, 3, 3]
    assert swept(administrator, long.writer) == swept(administrator, none.writer) == []


async def test_what_a_hold_names_stays_until_it_is_released_and_is_counted(
    talk: MessagingClient, ctx: AppContext, administrator: Administrator, keepers: Database
) -> None:
    message, whole = [await a_past(talk, ctx, administrator) for _ in range(2)]
    hold(administrator, message, message.messages[1])
    hold(administrator, whole, None)
    await erase_due(keepers, asyncio.Event())
    assert left(administrator, message) == [message.messages[1]]
    assert left(administrator, whole) == whole.messages
    for past, held in ((message, 1), (whole, 3)):
        async with keepers.acting_as(past.keeper) as conn:
            assert await count_held(conn) == held
    administrator.execute(
        "update retention_holds set released_at = now(), released_by = placed_by where tenant_id = any(%s)",
        ([message.writer.tenant_id, whole.writer.tenant_id],),
    )
    await erase_due(keepers, asyncio.Event())
    assert left(administrator, message) == left(administrator, whole) == []


async def test_what_an_alert_cites_stays_until_it_is_dismissed(
    talk: MessagingClient, ctx: AppContext, administrator: Administrator, keepers: Database
) -> None:
    past = await a_past(talk, ctx, administrator)
    tenant = past.writer.tenant_id
    alert = administrator.execute(
        "insert into alerts (tenant_id, conversation_id, severity, categories, probability, models) "
        "values (%s, %s, 'high', '{neglect}', 1, '{}') returning id",
        (tenant, past.conversation_id),
    ).fetchone()
    assert alert is not None
    administrator.execute(
        "insert into alert_evidence (tenant_id, alert_id, message_id, message_version, category, severity, "
        "probability, threshold, model, model_version) values (%s, %s, %s, 1, 'neglect', 'high', 1, 0, 'm', '1')",
        (tenant, alert[0], past.messages[0]),
    )
    for state in ("new", "claimed", "confirmed", "escalated", "referred"):
        administrator.execute("update alerts set state = %s where id = %s", (state, alert[0]))
        await erase_due(keepers, asyncio.Event())
        assert left(administrator, past) == [past.messages[0]], state
    administrator.execute("update alerts set state = 'dismissed' where id = %s", (alert[0],))
    await erase_due(keepers, asyncio.Event())
    assert left(administrator, past) == []
    assert administrator.execute("select count(*) from alerts where id = %s", (alert[0],)).fetchone() == (1,)


async def test_a_keeper_killed_in_a_batch_has_erased_and_logged_nothing_of_it(
    talk: MessagingClient, ctx: AppContext, administrator: Administrator, keepers: Database
) -> None:
    past = await a_past(talk, ctx, administrator)

    async def killed_before_its_commit() -> None:
        async with keepers.acting_as(past.keeper) as conn:
            assert await erase_batch(conn, past.keeper, "messages") == 3
            raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        await killed_before_its_commit()
    assert (left(administrator, past), swept(administrator, past.writer)) == (past.messages, [])
    async with keepers.acting_as(past.keeper) as conn:  # the first of several batches
        assert await erase_batch(conn, past.keeper, "messages", most=2) == 2
    await erase_due(keepers, asyncio.Event())  # the next process continues
    assert left(administrator, past) == []
    assert [told["erased"] for told in swept(administrator, past.writer)] == [2, 1]


async def test_a_chain_is_whole_after_a_sweep(
    talk: MessagingClient, ctx: AppContext, databases: Databases, administrator: Administrator, keepers: Database
) -> None:
    past = await a_past(talk, ctx, administrator)
    await talk.say(past.writer, past.path, "of today")
    await audit_helpers.seal(ctx, databases)
    await erase_due(keepers, asyncio.Event())
    await audit_helpers.seal(ctx, databases)
    async with audit_helpers.connected(databases.sealer) as conn:
        found = await verify_chain(conn, audit_helpers.anchor_store_of(ctx), past.writer.tenant_id)
    assert found.whole
    assert found.sealed == found.anchored > 0


async def test_events_go_once_they_were_sent_and_no_delivery_names_them(
    ctx: AppContext, administrator: Administrator, keepers: Database
) -> None:
    officer = await factories.make_actor(ctx, "platform_admin")
    tenant = officer.tenant_id
    sent, unsent, named, waiting = (first_id(administrator, LONG_AGO) for _ in range(4))
    webhook = administrator.execute(
        "insert into webhooks (tenant_id, url, event_types, created_by) values (%s, 'https://x.example', '{x}', %s) "
        "returning id",
        (tenant, officer.user_id),
    ).fetchone()
    assert webhook is not None
    for version, event in enumerate((sent, unsent, named, waiting)):
        at = None if event == unsent else LONG_AGO
        administrator.execute(
            "insert into events (tenant_id, id, type, aggregate_type, aggregate_id, aggregate_version, data, position, "
            "sent_at) values (%s, %s, 'session.created', 'session', %s, %s, '{}', %s, %s)",
            (tenant, event, tenant, version, None if at is None else version, at),
        )
    for event, state, ended in ((named, "delivered", LONG_AGO), (waiting, "waiting", None)):
        administrator.execute(
            "insert into webhook_deliveries (tenant_id, id, webhook_id, event_id, aggregate_id, position, state, "
            "ended_at) values (%s, %s, %s, %s, %s, 1, %s, %s)",
            (tenant, first_id(administrator, LONG_AGO), webhook[0], event, tenant, state, ended),
        )
    keeper = Actor(tenant, NIL_UUID, "service")
    async with keepers.acting_as(keeper) as conn:
        assert await erase_batch(conn, keeper, "events") == 1  # webhook deliveries refer to `named` and `waiting`
    await erase_due(keepers, asyncio.Event())
    stand = administrator.execute("select id from events where tenant_id = %s order by aggregate_version", (tenant,))
    assert stand.fetchall() == [(unsent,), (waiting,)]


async def test_sign_ins_go_when_they_have_been_over_for_long(
    ctx: AppContext, administrator: Administrator, keepers: Database
) -> None:
    person = await factories.make_actor(ctx)
    long_over, running_long = (first_id(administrator, LONG_AGO) for _ in range(2))
    for sign_in, expires in ((long_over, LONG_AGO), (running_long, "2100-01-01T00:00:00Z")):
        administrator.execute(
            "insert into sign_ins (tenant_id, id, user_id, role, kind, expires_at) "
            "values (%s, %s, %s, 'care_worker', 'local', %s)",
            (person.tenant_id, sign_in, person.user_id, expires),
        )
    administrator.execute(
        "insert into refresh_tokens (tenant_id, sign_in_id, family_hash, current_hash, expires_at) "
        "values (%s, %s, '', '', now())",
        (person.tenant_id, long_over),
    )
    await erase_due(keepers, asyncio.Event())
    stand = administrator.execute("select id from sign_ins where tenant_id = %s", (person.tenant_id,))
    assert stand.fetchall() == [(running_long,)]


async def test_no_login_deletes_a_message_and_the_owner_none_that_its_rule_keeps(
    talk: MessagingClient, ctx: AppContext, databases: Databases, administrator: Administrator
) -> None:
    past = await a_past(talk, ctx, administrator)
    hold(administrator, past, past.messages[0])
    for role in ROLES:
        may = administrator.execute("select has_table_privilege(%s, 'messages', 'delete')", (role,)).fetchone()
        assert may == (role == "wcc_owner",), role
    young = await talk.say(past.writer, past.path, "of today")
    with psycopg.connect(databases.owner) as owner:
        owner.execute("select set_config('app.tenant_id', %s, true)", (str(past.writer.tenant_id),))
        assert owner.execute("delete from messages").rowcount == 2
        owner.rollback()
        assert owner.execute("delete from messages").rowcount == 0  # of no tenant
    assert (await talk.ask(past.writer, "GET", f"/api/messages/{young['id']}")).status_code == 200


async def test_a_version_goes_with_its_message_alone(
    talk: MessagingClient, ctx: AppContext, administrator: Administrator
) -> None:
    past = await a_past(talk, ctx, administrator, count=0)
    message = await talk.say(past.writer, past.path, "first")
    await talk.ask(past.writer, "PUT", f"/api/messages/{message['id']}", json={"content": "second"})
    for statement in ("delete from message_versions", "update message_versions set content = 'other'"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            administrator.execute(f"{statement} where tenant_id = %s".encode(), (past.writer.tenant_id,))


async def test_what_points_at_a_message_gives_way_when_it_goes(administrator: Administrator) -> None:
    holding = administrator.execute(
        "select conrelid::regclass::text from pg_constraint where contype = 'f' and confrelid = 'messages'::regclass "
        "and confdeltype = 'a' and conparentid = 0"
    )
    assert holding.fetchall() == []


async def test_a_keeper_sweeps_and_ends_when_told(
    talk: MessagingClient, ctx: AppContext, databases: Databases, administrator: Administrator
) -> None:
    past = await a_past(talk, ctx, administrator)
    stopping = asyncio.Event()
    both = [
        asyncio.create_task(run_retention_forever(databases.keeper, stopping)) for _ in range(2)
    ]  # one waits for the lock

    async def erased() -> bool:
        return left(administrator, past) == []

    await outbox_helpers.until(erased)
    stopping.set()
    await asyncio.gather(*both)
    assert swept(administrator, past.writer) == [{"category": "messages", "erased": 3}]
