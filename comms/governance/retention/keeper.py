"""The keeper: makes the months to come, has erased what has had its time, and drops the months that are empty then.

    python -m comms.governance.retention.keeper

A process of its own with a role that sees no row: it may call the database's functions, and those erase what the
tenant's rule lets go, whoever calls. One keeper at a time.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from psycopg import Error

from comms.governance.retention.erasure import erase_due
from comms.governance.retention.partitions import create_month_partitions, drop_empty_partitions
from comms.kernel.database import Connection, Database
from comms.kernel.processes.leader_election import run_as_leader, sleep_unless_stopping
from comms.kernel.processes.runner import run_until_signalled
from comms.kernel.settings import Settings
from models.contract.errors import WriteCareError

_LOCK: Final = 0x77636335  # one keeper at a time
_PAUSE_SECONDS: Final = 6 * 3600.0

_log = structlog.get_logger(__name__)


async def run_retention_forever(url: str, stopping: asyncio.Event) -> None:
    """Goes round until `stopping` is set; one keeper at a time."""
    database = Database(url, most=1)
    await database.open()
    try:
        await run_as_leader("keeper", url, _LOCK, lambda conn: _run_rounds(conn, database, stopping), stopping)
    finally:
        await database.close()


async def _run_rounds(conn: Connection, database: Database, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        await run_round(conn, database, stopping)
        await conn.execute("select 1")  # raises where the connection, and with it the turn, was lost meanwhile
        await sleep_unless_stopping(stopping, _PAUSE_SECONDS)


async def run_round(conn: Connection, database: Database, stopping: asyncio.Event) -> None:
    """Each piece of work once: one that fails is logged, keeps no other from being done, and is done next time."""
    await _run_task("make months", lambda: create_month_partitions(conn))
    await _run_task("sweep", lambda: erase_due(database, stopping))
    await _run_task("drop empty months", lambda: drop_empty_partitions(conn))


async def _run_task(work: str, do: Callable[[], Awaitable[object]]) -> None:
    try:
        _log.info("done", work=work, outcome=await do())
    except (WriteCareError, Error) as error:
        # the class alone: a driver's message may carry the values of a statement
        _log.warning("failed", work=work, error=type(error).__name__, problem=getattr(error, "slug", None))


async def run(_settings: Settings, url: str, stopping: asyncio.Event) -> None:
    """The process's work."""
    await run_retention_forever(url, stopping)


if __name__ == "__main__":
    sys.exit(run_until_signalled(run))
