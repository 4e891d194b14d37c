"""Tests a worker that is killed while it assesses messages, or between alert and evidence: nothing is lost or done
twice.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import psycopg
import pytest

from comms.kernel.database import Actor
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories
from tests.comms.messaging_fixtures import MessagingClient
from tests.journeys.kill_processes import RestartableProcess, seen

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

KILLED_AT = ("sentiment", "evidence") * 3
LINES = ("Morning.", "He grabbed me.", "Did he?", "He grabbed her, too.")


async def test_each_message_is_read_once_and_each_concern_told_of_and_explained_once(
    client: httpx.AsyncClient, ctx: AppContext, databases: Databases, tmp_path: Path
) -> None:
    talk = MessagingClient(client, ctx)
    manager = await factories.make_actor(ctx, "care_manager")
    await factories.put_in_force(ctx, manager, "analyse", "public_task")
    conversation = await talk.begin(manager, await talk.person(manager))
    worker = RestartableProcess(
        "tests.journeys.worker_with_delays",
        {
            "WRITECARE_DATA_DIR": str(ctx.settings.data_dir), "WRITECARE_STALLED_AFTER_SECONDS": "1",
            "WRITECARE_ROLE_DATABASE_URL": databases.worker, "MARKS": str(tmp_path),
        },
    )  # fmt: skip
    worker.start()
    said = []
    try:
        for stage in KILLED_AT:
            before = marks(tmp_path, stage)
            said += [await talk.say(manager, conversation, line) for line in LINES]
            await until(partial(asked_since, tmp_path, stage, before))
            worker.kill()
            let_time_pass(databases, manager)
            worker.start()
        await until(lambda: not waiting(databases, manager))
    finally:
        worker.kill()
    found = seen(
        databases, "select m.id::text, count(distinct r.id) as readings, count(distinct e.id) as concerns, "
        "count(distinct e.id) filter (where e.spans_due_at is null and e.spans <> '[]') as explained, "
        "(select count(*) from events v where v.tenant_id = m.tenant_id and v.type = 'safeguarding.alert' "
        "    and v.data -> 'message_ids' ? m.id::text) as told "
        "from messages m left join message_readings r on r.tenant_id = m.tenant_id and r.message_id = m.id and "
        "not r.again left join alert_evidence e on e.tenant_id = m.tenant_id and e.message_id = m.id "
        "where m.tenant_id = %s and m.sender_type = 'user' group by m.tenant_id, m.id order by m.id",
        manager.tenant_id,
    )  # fmt: skip
    assert [row["id"] for row in found] == [message["id"] for message in said]
    assert {row["readings"] for row in found} == {1}
    concerning = ["grabbed" in message["content"] for message in said]
    for what in ("concerns", "explained", "told"):
        assert [row[what] for row in found] == concerning, what


def marks(folder: Path, capability: str) -> int:
    """The number of calls of this capability."""
    return len(list(folder.glob(f"{capability}-*")))


def asked_since(folder: Path, capability: str, before: int) -> bool:
    """Whether there were more calls of the capability than `before`."""
    return marks(folder, capability) > before


async def until(condition: Callable[[], bool]) -> None:
    """Waits until the condition is true, at most a minute."""
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 (it happens in another process)
            await asyncio.sleep(0.01)


def waiting(databases: Databases, manager: Actor) -> bool:
    """Whether a message waits for assessment or evidence waits for explanation."""
    [row] = seen(
        databases, "select exists (select from message_readings_due where tenant_id = %s) "
        "or exists (select from alert_evidence where tenant_id = %s and spans_due_at is not null) as waits",
        manager.tenant_id, manager.tenant_id,
    )  # fmt: skip
    return bool(row["waits"])


def let_time_pass(databases: Databases, manager: Actor) -> None:
    """Makes the queue entries due again that the killed worker had claimed."""
    with psycopg.connect(databases.administrator) as conn:
        for table, column in (("message_readings_due", "due_at"), ("alert_evidence", "spans_due_at")):
            conn.execute(
                f"update {table} set {column} = now() where tenant_id = %s and {column} is not null".encode(),
                (manager.tenant_id,),
            )
