"""Erasing what a tenant keeps no more, a batch at a time: the database's functions decide what that is, not this.

Each batch is a transaction with its own line in the log of acts, so that a keeper killed at any moment has erased a
batch and said so, or neither, and the next one goes on.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, Literal, get_args
from uuid import UUID

import structlog
from psycopg import Error

from comms.kernel.access.system_actor import NIL_UUID
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, Database, one

# In this order: deliveries to webhooks name events, and what is named stays.
Category = Literal["messages", "webhook_deliveries", "events", "sign_ins"]
CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)
BATCH: Final = 1000

_log = structlog.get_logger(__name__)


async def erase_batch(conn: Connection, keeper: Actor, category: Category, most: int = BATCH) -> int:
    """Erases the oldest of what the keeper's tenant keeps no more and nothing holds; returns how many."""
    found = await conn.execute(f"select app.erase_{category}(%s) as erased".encode(), (most,))
    erased = int(one(await found.fetchone())["erased"])
    if erased > 0:
        details: dict[str, Any] = {"category": category, "erased": erased}
        await record_act(conn, keeper, "retention.swept", ("tenant", keeper.tenant_id), details)
    return erased


async def count_held(conn: Connection) -> int:
    """Messages of the tenant that acts which are old enough to go and which an alert or a hold keeps."""
    return int(one(await (await conn.execute("select app.count_held_messages() as held")).fetchone())["held"])


async def erase_due(database: Database, stopping: asyncio.Event) -> None:
    """Every category of every tenant, until nothing is left to erase or the keeper is told to stop."""
    async for keeper in _tenant_actors(database):
        erased = {category: await _erase_all(database, keeper, category, stopping) for category in CATEGORIES}
        async with database.acting_as(keeper) as conn:
            held = await count_held(conn)
        if held or any(erased.values()):
            _log.info("swept", tenant_id=str(keeper.tenant_id), held_messages=held, **erased)
        if stopping.is_set():
            return


async def _erase_all(database: Database, keeper: Actor, category: Category, stopping: asyncio.Event) -> int:
    """How many; what the database refuses to let go (something that came later points at it) holds up nothing else."""
    erased, batch = 0, BATCH
    try:
        while batch == BATCH and not stopping.is_set():
            async with database.acting_as(keeper) as conn:
                batch = await erase_batch(conn, keeper, category)
            erased += batch
    except Error as error:
        # the class alone: a driver's message may carry values
        _log.error("cannot erase", tenant_id=str(keeper.tenant_id), category=category, error=type(error).__name__)
    return erased


async def _tenant_actors(database: Database) -> AsyncIterator[Actor]:
    """The keeper in the name of each tenant."""
    async with database.without_tenant() as conn:
        tenants: list[UUID] = [row["id"] for row in await (await conn.execute("select id from tenants")).fetchall()]
    for tenant_id in tenants:
        yield Actor(tenant_id, NIL_UUID, "service")
