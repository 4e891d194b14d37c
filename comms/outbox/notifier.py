"""Sends a NOTIFY after commits, so that listeners read the new rows at once. Several commits share one NOTIFY.

A NOTIFY takes a lock on the whole database until its transaction is committed. So it is never part of a change: a
process sends one at a time, in a separate transaction that does not wait for the disk. Commits that happen meanwhile
share the next one. A lost NOTIFY costs little: the relay and the fan-out also poll.
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

_MAX_TENANTS_IN_PAYLOAD: Final = 200  # the payload of a notification holds 8,000 bytes

_log = structlog.get_logger(__name__)


class Notifier:
    """One per process and channel; `running_notifier` runs it."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._requested = asyncio.Event()
        self._tenants: set[UUID] = set()

    def notify(self, tenant_id: UUID | None = None) -> None:
        """Asks for a NOTIFY as soon as possible, with the tenant id if given. Returns at once."""
        if tenant_id is not None:
            self._tenants.add(tenant_id)
        self._requested.set()

    async def run(self, database: Database) -> None:
        """Sends the requested notifications until it is cancelled."""
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
                _log.warning("NOTIFY failed", channel=self._channel, problem=error.slug)


def parse_tenant_ids(payload: str) -> set[UUID]:
    """The tenant ids in a NOTIFY payload. An empty set means: read all tenants."""
    return {UUID(tenant_id) for tenant_id in payload.split(",") if tenant_id}


@asynccontextmanager
async def running_notifier(notifier: Notifier, database: Database) -> AsyncIterator[None]:
    """Runs the notifier until the block ends."""
    running = asyncio.create_task(notifier.run(database))
    try:
        yield
    finally:
        await end({running})
