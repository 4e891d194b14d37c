"""Deletes attachments that were not sent within a day, and stored objects without a row.

The rows and their keys are deleted first; then nobody can decrypt the objects. If the process dies before it deletes
the objects, the next round deletes them, because they have no row.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from comms.identity.bootstrap import BOOTSTRAP
from comms.kernel.database import Actor
from comms.messaging.attachments import queries
from comms.web.context import AppContext
from models.contract.errors import WriteCareError

# Longer than an upload can take between writing its object and its row.
PATIENCE: Final = timedelta(hours=1)
_BATCH: Final = 500
_log = structlog.get_logger(__name__)


async def sweep_attachments_forever(ctx: AppContext) -> None:
    """Sweeps now and every hour until it is cancelled. A failure is logged; the next round tries again."""
    while True:
        try:
            if removed := await sweep_attachments(ctx, PATIENCE):
                _log.info("removed unsent attachments", removed=removed)
        except (WriteCareError, OSError) as error:
            _log.warning("sweep failed", error=type(error).__name__, problem=getattr(error, "slug", None))
        await asyncio.sleep(PATIENCE.total_seconds())


async def sweep_attachments(ctx: AppContext, older_than: timedelta) -> int:
    """Deletes unsent attachments, and objects older than `older_than` without a row. Returns how many objects.

    It looks only at the tenants of this database, for the reason in `comms/calls/recordings/sweep.py`.
    """
    before = datetime.now(UTC) - older_than
    async with ctx.database.acting_as(BOOTSTRAP) as conn:
        tenants: list[UUID] = [row["id"] for row in await (await conn.execute("select id from tenants")).fetchall()]
    return sum([await _sweep_tenant(ctx, tenant_id, before) for tenant_id in tenants])


async def _sweep_tenant(ctx: AppContext, tenant_id: UUID, before: datetime) -> int:
    folder = queries.folder_of(tenant_id)
    sweeper = Actor(tenant_id, UUID(int=0), "service")
    async with ctx.database.acting_as(sweeper) as conn:
        unneeded = await queries.drop_unsent(conn)
    old = [stored.key async for stored in ctx.objects.list_under(folder) if stored.changed_at < before]
    for start in range(0, len(old), _BATCH):
        asked = old[start : start + _BATCH]
        async with ctx.database.acting_as(sweeper) as conn:
            kept = await queries.kept_objects(conn, asked)
        unneeded += [key for key in asked if key not in kept]
    for key in set(unneeded):
        await ctx.objects.delete(key)
    await asyncio.to_thread(ctx.objects.delete_partial_files, folder, before)
    return len(set(unneeded))
