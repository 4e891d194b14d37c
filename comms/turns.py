"""Turns: of several processes that could do a piece of work, one does it, and the next takes over when it is gone."""

import asyncio
from typing import Final

from comms.database import Connection

_WAIT_SECONDS: Final = 0.5


async def take_turn(conn: Connection, lock: int, stopping: asyncio.Event) -> bool:
    """Waits for the advisory lock, which is the connection's until it is closed; False where told to stop before.

    Tried again and again rather than waited for, so that a signal is heard in between.
    """
    while not stopping.is_set():
        row = await (await conn.execute("select pg_try_advisory_lock(%s) as ours", (lock,))).fetchone()
        if row is not None and row["ours"]:
            return True
        await pause(stopping, _WAIT_SECONDS)
    return False


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Waits so long, or until told to stop."""
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return
