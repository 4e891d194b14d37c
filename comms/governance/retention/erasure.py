"""Erases a tenant's data past its retention period, in batches.

Database functions decide which data that is, not this module. Each batch is one transaction with its own audit entry.
So if the process is killed, a batch is erased and logged, or neither, and the next process continues.
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

# In this order: webhook deliveries refer to events, and an event with a delivery is not erased.
Category = Literal["messages", "webhook_deliveries", "events", "sign_ins"]
CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)
BATCH: Final = 1000

_log = structlog.get_logger(__name__)


async def erase_batch(conn: Connection, keeper: Actor, category: Category, most: int = BATCH) -> int:
    """Erases the oldest rows of the tenant that are past their retention period and not held; returns how many."""
    found = await conn.execute(f"select app.erase_{category}(%s) as erased".encode(), (most,))
    erased = int(one(await found.fetchone())["erased"])
    if erased > 0:
        details: dict[str, Any] = {"category": category, "erased": erased}
        await record_act(conn, keeper, "retention.swept", ("tenant", keeper.tenant_id), details)
    return erased


async def count_held(conn: Connection) -> int:
    """Returns how many expired messages of the acting tenant are kept by an alert or a hold."""
    return int(one(await (await conn.execute("select app.count_held_messages() as held")).fetchone())["held"])


async def erase_due(database: Database, stopping: asyncio.Event) -> None:
    """Erases every category of every tenant until nothing is left or `stopping` is set."""
    async for keeper in _tenant_actors(database):
        erased = {category: await _erase_all(database, keeper, category, stopping) for category in CATEGORIES}
        async with database.acting_as(keeper) as conn:
            held = await count_held(conn)
        if held or any(erased.values()):
            _log.info("expired data erased", tenant_id=str(keeper.tenant_id), held_messages=held, **erased)
        if stopping.is_set():
            return


async def _erase_all(database: Database, keeper: Actor, category: Category, stopping: asyncio.Event) -> int:
    """Erases one category and returns how many rows. If the database refuses (a later row refers to one of them), the
    other categories continue."""
    erased, batch = 0, BATCH
    try:
        while batch == BATCH and not stopping.is_set():
            async with database.acting_as(keeper) as conn:
                batch = await erase_batch(conn, keeper, category)
            erased += batch
    except Error as error:
        # only the class: a driver's message may contain values
        _log.error("erasure failed", tenant_id=str(keeper.tenant_id), category=category, error=type(error).__name__)
    return erased


async def _tenant_actors(database: Database) -> AsyncIterator[Actor]:
    """Yields the Actor of the retention process for each tenant."""
    async with database.without_tenant() as conn:
        tenants: list[UUID] = [row["id"] for row in await (await conn.execute("select id from tenants")).fetchall()]
    for tenant_id in tenants:
        yield Actor(tenant_id, NIL_UUID, "service")
