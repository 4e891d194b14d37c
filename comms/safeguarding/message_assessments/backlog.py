"""How far the reading of messages lags behind, for whoever runs the house: numbers over all tenants, never whose."""

from math import nan

from comms.web.context import AppContext
from models.contract.errors import WriteCareError


async def update_lag_gauges(ctx: AppContext) -> None:
    """Sets the process's gauges to what waits now; to NaN where the database does not answer."""
    unread, seconds = nan, nan
    try:
        async with ctx.database.without_tenant() as conn:
            found = await (await conn.execute("select unread, seconds from app.reading_lag()")).fetchall()
        unread, seconds = found[0]["unread"], found[0]["seconds"]
    except WriteCareError:
        pass  # measurements are asked for above all when something is down
    ctx.metrics.messages_unread.set(unread)
    ctx.metrics.reading_lag_seconds.set(seconds)
