"""Deletes stored objects that no row refers to: the rest of interrupted uploads and interrupted deletions."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from comms.identity.bootstrap import BOOTSTRAP
from comms.kernel.database import Actor
from comms.web.context import AppContext
from models.contract.errors import WriteCareError

# Longer than an upload can take between writing its object and its row.
PATIENCE: Final = timedelta(hours=1)
_log = structlog.get_logger(__name__)


async def sweep_forever(ctx: AppContext, pause: timedelta = PATIENCE) -> None:
    """Sweeps now and after every pause. A failure is logged; the next round tries again."""
    while True:
        try:
            if removed := await sweep(ctx, PATIENCE):
                _log.info("removed objects without a row", removed=removed)
        except (WriteCareError, OSError) as error:
            _log.warning("sweep failed", error=type(error).__name__, problem=getattr(error, "slug", None))
        await asyncio.sleep(pause.total_seconds())


async def sweep(ctx: AppContext, older_than: timedelta) -> int:
    """Deletes objects older than `older_than` for which no track has a key; returns how many.

    It looks only at the tenants of this database. Another instance may share the storage, or an older database may have
    filled it: those objects have no row here either, but must not be deleted.
    """
    before = datetime.now(UTC) - older_than
    removed = 0
    for tenant_id in await _known_tenants(ctx):
        async for stored in ctx.objects.list_under(str(tenant_id)):
            if stored.changed_at < before and not await _is_needed(ctx, tenant_id, stored.key):
                await ctx.objects.delete(stored.key)
                removed += 1
        removed += await asyncio.to_thread(ctx.objects.delete_partial_files, str(tenant_id), before)
    return removed


async def _known_tenants(ctx: AppContext) -> list[UUID]:
    async with ctx.database.acting_as(BOOTSTRAP) as conn:
        found = await conn.execute("select id from tenants")
        return [row["id"] for row in await found.fetchall()]


async def _is_needed(ctx: AppContext, tenant_id: UUID, key: str) -> bool:
    async with ctx.database.acting_as(Actor(tenant_id, UUID(int=0), "service")) as conn:
        found = await conn.execute(
            "select 1 from recording_tracks where object_key = %s and wrapped_key is not null", (key,)
        )
        return await found.fetchone() is not None
