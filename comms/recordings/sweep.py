"""Removes from storage what no row can open: uploads that a crash cut off, and deletions that it cut off."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from comms.database import Actor
from comms.house import House
from models.errors import WriteCareError

# Longer than any upload may lie between its object and its row.
PATIENCE: Final = timedelta(hours=1)
_log = structlog.get_logger(__name__)


async def sweep_for_ever(house: House) -> None:
    """Sweeps now and every hour; a failure is logged and the next round tries again."""
    while True:
        try:
            if removed := await sweep(house, PATIENCE):
                _log.info("removed objects without a row", removed=removed)
        except WriteCareError as error:
            _log.warning("sweep failed", problem=error.slug)
        await asyncio.sleep(PATIENCE.total_seconds())


async def sweep(house: House, older_than: timedelta) -> int:
    """Deletes objects older than that which no track's key opens; returns how many."""
    before = datetime.now(UTC) - older_than
    removed = 0
    async for stored in house.objects.everything():
        tenant_id = _tenant_of(stored.key)
        if stored.changed_at < before and tenant_id is not None and not await _is_needed(house, tenant_id, stored.key):
            await house.objects.delete(stored.key)
            removed += 1
    return removed + await asyncio.to_thread(house.objects.remove_half_written, before)


def _tenant_of(key: str) -> UUID | None:
    """Whose object it is; None for one that is not ours to judge."""
    try:
        return UUID(key.partition("/")[0])
    except ValueError:
        return None


async def _is_needed(house: House, tenant_id: UUID, key: str) -> bool:
    async with house.database.acting_as(Actor(tenant_id, UUID(int=0), "service")) as conn:
        found = await conn.execute(
            "select 1 from recording_tracks where object_key = %s and wrapped_key is not null", (key,)
        )
        return await found.fetchone() is not None
