"""The waker: says to whoever listens, after commits, that there is something to read; once for however many.

A NOTIFY takes a lock on the whole database until its transaction is committed. So none is part of a change: a process
sends one at a time, in a transaction of its own that waits for no disk, and what is committed meanwhile shares the
next. A lost one costs a moment: relay and feed also look unasked.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from comms.database import Database
from comms.tasks import end
from models.errors import WriteCareError

_log = structlog.get_logger(__name__)


class Waker:
    """One a process and channel; `waking` runs it."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._wanted = asyncio.Event()

    def wake(self) -> None:
        """Has the listeners told as soon as may be; never waits."""
        self._wanted.set()

    async def run(self, database: Database) -> None:
        """Tells whoever listens, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                async with database.acting_for_nobody() as conn:
                    await conn.execute("set local synchronous_commit = off")
                    await conn.execute(f"notify {self._channel}".encode())
            except WriteCareError as error:
                _log.warning("nobody could be woken", channel=self._channel, problem=error.slug)


@asynccontextmanager
async def waking(waker: Waker, database: Database) -> AsyncIterator[None]:
    """The waker tells until the block ends."""
    running = asyncio.create_task(waker.run(database))
    try:
        yield
    finally:
        await end({running})
