"""Turns: of several processes that could do a piece of work, one does it, and the next takes over when it is gone."""

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
    """Does `work` once it is this process's turn, until `stopping` is set; `lock` is the work's own.

    A lost connection is made anew, with growing pauses, and so it is where `work` raises one of `retry_on`. `options`
    are the connection's settings, as libpq takes them.
    """
    failures = 0
    while not stopping.is_set():
        try:
            async with await _connected(name, url, options) as conn:
                if await acquire_leadership(conn, lock, stopping):
                    _log.info("takes its turn", work=name)
                    failures = 0
                    await work(conn)
        except _LOST + retry_on as error:
            # the class alone: a driver's message may carry the values of a statement
            seconds = _BACK_OFF_SECONDS[min(failures, len(_BACK_OFF_SECONDS) - 1)]
            _log.warning("lost its server", work=name, error=type(error).__name__, pause_seconds=seconds)
            failures += 1
            await sleep_unless_stopping(stopping, seconds)


async def _connected(name: str, url: str, options: str) -> Connection:
    return await Connection.connect(
        url, autocommit=True, row_factory=dict_row, connect_timeout=10, application_name=f"writecare-{name}",
        options=options,
    )  # fmt: skip


async def acquire_leadership(conn: Connection, lock: int, stopping: asyncio.Event) -> bool:
    """Waits for the advisory lock, which is the connection's until it is closed; False where told to stop before.

    Tried again and again rather than waited for, so that a signal is heard in between.
    """
    while not stopping.is_set():
        row = await (await conn.execute("select pg_try_advisory_lock(%s) as ours", (lock,))).fetchone()
        if row is not None and row["ours"]:
            return True
        await sleep_unless_stopping(stopping, _WAIT_SECONDS)
    return False


async def sleep_unless_stopping(stopping: asyncio.Event, seconds: float) -> None:
    """Waits so long, or until told to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
