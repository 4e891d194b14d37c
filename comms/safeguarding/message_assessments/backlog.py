"""Measures the backlog of message assessments, as totals over all tenants that name no tenant."""

from math import nan

from comms.web.context import AppContext
from models.contract.errors import WriteCareError


async def update_lag_gauges(ctx: AppContext) -> None:
    """Sets the gauges of this process to the current backlog; to NaN if the database does not answer."""
    unread, seconds = nan, nan
    try:
        async with ctx.database.without_tenant() as conn:
            found = await (await conn.execute("select unread, seconds from app.reading_lag()")).fetchall()
        unread, seconds = found[0]["unread"], found[0]["seconds"]
    except WriteCareError:
        pass  # metrics must work when the database does not
    ctx.metrics.messages_unread.set(unread)
    ctx.metrics.reading_lag_seconds.set(seconds)
