"""The waker: says to whoever listens, after commits, that there is something to read; once for however many.

A NOTIFY takes a lock on the whole database until its transaction is committed. So none is part of a change: a process
sends one at a time, in a transaction of its own that waits for no disk, and what is committed meanwhile shares the
next. A lost one costs a moment: relay and feed also look unasked.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

import structlog

from comms.kernel.database import Database
from comms.kernel.processes.background_tasks import end
from models.contract.errors import WriteCareError

_MAX_TENANTS_IN_PAYLOAD: Final = 200  # tenants in one notification, which carries 8,000 bytes

_log = structlog.get_logger(__name__)


class Notifier:
    """One a process and channel; `running_notifier` runs it."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._requested = asyncio.Event()
        self._tenants: set[UUID] = set()

    def notify(self, tenant_id: UUID | None = None) -> None:
        """Has the listeners told as soon as may be, and at which tenant to look; never waits."""
        if tenant_id is not None:
            self._tenants.add(tenant_id)
        self._requested.set()

    async def run(self, database: Database) -> None:
        """Tells whoever listens, until cancelled."""
        while True:
            await self._requested.wait()
            self._requested.clear()
            named, self._tenants = self._tenants, set()
            payload = ",".join(map(str, named)) if len(named) <= _MAX_TENANTS_IN_PAYLOAD else ""
            try:
                async with database.without_tenant() as conn:
                    await conn.execute("set local synchronous_commit = off")
                    await conn.execute("select pg_notify(%s, %s)", (self._channel, payload))
            except WriteCareError as error:
                _log.warning("nobody could be woken", channel=self._channel, problem=error.slug)


def parse_tenant_ids(payload: str) -> set[UUID]:
    """The tenants at which a notification says to look; none: it does not say, look at all."""
    return {UUID(tenant_id) for tenant_id in payload.split(",") if tenant_id}


@asynccontextmanager
async def running_notifier(notifier: Notifier, database: Database) -> AsyncIterator[None]:
    """The waker tells until the block ends."""
    running = asyncio.create_task(notifier.run(database))
    try:
        yield
    finally:
        await end({running})
