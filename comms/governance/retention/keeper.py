"""The retention process: creates coming monthly partitions, erases expired data, drops empty partitions.

    python -m comms.governance.retention.keeper

It is a process of its own, and its role cannot read any row. It may only call the database's functions; they erase only
what the tenant's rule permits, for any caller. Only one such process works at a time.
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

_LOCK: Final = 0x77636335  # the advisory lock of the leader
_PAUSE_SECONDS: Final = 6 * 3600.0

_log = structlog.get_logger(__name__)


async def run_retention_forever(url: str, stopping: asyncio.Event) -> None:
    """Runs rounds as the leader until `stopping` is set."""
    database = Database(url, most=1)
    await database.open()
    try:
        await run_as_leader("keeper", url, _LOCK, lambda conn: _run_rounds(conn, database, stopping), stopping)
    finally:
        await database.close()


async def _run_rounds(conn: Connection, database: Database, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        await run_round(conn, database, stopping)
        await conn.execute("select 1")  # raises if the connection, and with it the lock, was lost
        await sleep_unless_stopping(stopping, _PAUSE_SECONDS)


async def run_round(conn: Connection, database: Database, stopping: asyncio.Event) -> None:
    """Runs each task once. A task that fails is logged; the others still run, and the next round tries it again."""
    await _run_task("create monthly partitions", lambda: create_month_partitions(conn))
    await _run_task("erase expired data", lambda: erase_due(database, stopping))
    await _run_task("drop empty partitions", lambda: drop_empty_partitions(conn))


async def _run_task(work: str, do: Callable[[], Awaitable[object]]) -> None:
    try:
        _log.info("done", work=work, outcome=await do())
    except (WriteCareError, Error) as error:
        # only the class: a driver's message may contain the values of a statement
        _log.warning("failed", work=work, error=type(error).__name__, problem=getattr(error, "slug", None))


async def run(_settings: Settings, url: str, stopping: asyncio.Event) -> None:
    """Runs the retention process."""
    await run_retention_forever(url, stopping)


if __name__ == "__main__":
    sys.exit(run_until_signalled(run))
