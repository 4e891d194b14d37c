"""Runs outbox relays in tests, in this process or as a separate process."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import psycopg
from psycopg.rows import dict_row

from comms.kernel.database import Actor
from comms.outbox.queries import EventType, emit
from comms.outbox.relay import relay
from comms.web.context import AppContext
from instance.provisioning import Databases

ROOT = Path(__file__).parent.parent.parent


@asynccontextmanager
async def relaying(databases: Databases) -> AsyncIterator[None]:
    """A relay that runs until the block ends."""
    stopping = asyncio.Event()
    running = asyncio.create_task(relay(databases.relay, stopping))
    try:
        yield
    finally:
        stopping.set()
        await running


def start_relay(databases: Databases) -> subprocess.Popen[bytes]:
    """Starts a relay process as the launcher does."""
    wiring = {"WRITECARE_ROLE_DATABASE_URL": databases.relay, "PATH": os.environ["PATH"]}
    return subprocess.Popen([sys.executable, "-m", "comms.outbox.relay"], cwd=ROOT, env=wiring)


async def leaders_running(databases: Databases, how_many: int) -> bool:
    """Whether this many relays are connected."""
    found = await query_as_admin(
        databases, "select count(*) as n from pg_stat_activity where application_name = 'writecare-relay'"
    )
    return int(found[0]["n"]) >= how_many


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Waits until the condition is true. Only pytest's own timeout limits the wait, because machines differ in
    speed.
    """
    while not await true():  # noqa: ASYNC110 (what is waited for happens in another process)
        await anyio.sleep(0.02)


async def write(ctx: AppContext, actor: Actor, *events: tuple[EventType, UUID, int, dict[str, Any]]) -> None:
    """Emits events about recordings in one transaction."""
    async with ctx.database.acting_as(actor) as conn:
        for type, aggregate_id, version, data in events:
            await emit(conn, actor, type, aggregate=("recording", aggregate_id), version=version, data=data)


async def sent(databases: Databases, tenant_id: UUID) -> list[dict[str, Any]]:
    """The tenant's sent events, ordered by position."""
    return await query_as_admin(
        databases,
        "select type, aggregate_id, aggregate_version as version, position from events "
        "where tenant_id = %s and sent_at is not null order by position",
        tenant_id,
    )


async def unsent(databases: Databases) -> int:
    """The number of committed events of all tenants that are not sent."""
    return int((await query_as_admin(databases, "select count(*) as n from events where sent_at is null"))[0]["n"])


async def jobs_of(databases: Databases, tenant_id: UUID) -> list[dict[str, Any]]:
    """The tenant's jobs in the queue."""
    return await query_as_admin(
        databases,
        "select task_name, lock, args from procrastinate.procrastinate_jobs "
        "where args ->> 'tenant_id' = %s order by id",
        str(tenant_id),
    )


async def query_as_admin(databases: Databases, statement: str, *values: Any) -> list[dict[str, Any]]:
    """Runs the statement as the administrator, without row-level security."""
    async with await psycopg.AsyncConnection.connect(databases.administrator, row_factory=dict_row) as admin:
        return await (await admin.execute(statement.encode(), values)).fetchall()
