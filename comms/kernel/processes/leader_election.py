"""Leader election: of several processes, the one that holds an advisory lock does the work.

When it ends, another process takes over.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from psycopg import InterfaceError, OperationalError
from psycopg.rows import dict_row

from comms.kernel.database import Connection

_WAIT_SECONDS: Final = 0.5
_BACK_OFF_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_LOST: Final[tuple[type[Exception], ...]] = (OperationalError, InterfaceError)

_log = structlog.get_logger(__name__)


async def run_as_leader(
    name: str,
    url: str,
    lock: int,
    work: Callable[[Connection], Awaitable[None]],
    stopping: asyncio.Event,
    *,
    retry_on: tuple[type[Exception], ...] = (),
    options: str = "",
) -> None:
    """Runs `work` when this process becomes the leader, until `stopping` is set; `lock` is the id of its advisory lock.

    If the connection is lost, or `work` raises one of `retry_on`, it connects again after a pause that grows with each
    failure. `options` are the settings of the connection, in libpq's form.
    """
    failures = 0
    while not stopping.is_set():
        try:
            async with await _connected(name, url, options) as conn:
                if await acquire_leadership(conn, lock, stopping):
                    _log.info("became leader", work=name)
                    failures = 0
                    await work(conn)
        except _LOST + retry_on as error:
            # only the class: the driver's message may contain the values of a statement
            seconds = _BACK_OFF_SECONDS[min(failures, len(_BACK_OFF_SECONDS) - 1)]
            _log.warning("lost its connection", work=name, error=type(error).__name__, pause_seconds=seconds)
            failures += 1
            await sleep_unless_stopping(stopping, seconds)


async def _connected(name: str, url: str, options: str) -> Connection:
    return await Connection.connect(
        url, autocommit=True, row_factory=dict_row, connect_timeout=10, application_name=f"writecare-{name}",
        options=options,
    )  # fmt: skip


async def acquire_leadership(conn: Connection, lock: int, stopping: asyncio.Event) -> bool:
    """Waits for the advisory lock; the connection holds it until it is closed. False if `stopping` is set first.

    It tries the lock in a loop instead of waiting in the database, so that SIGTERM is noticed.
    """
    while not stopping.is_set():
        row = await (await conn.execute("select pg_try_advisory_lock(%s) as ours", (lock,))).fetchone()
        if row is not None and row["ours"]:
            return True
        await sleep_unless_stopping(stopping, _WAIT_SECONDS)
    return False


async def sleep_unless_stopping(stopping: asyncio.Event, seconds: float) -> None:
    """Waits for that many seconds, or until `stopping` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
