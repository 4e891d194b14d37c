"""Creates monthly partitions in advance and drops empty ones, for the tables that only grow.

A row cannot be written if its month has no partition. The database catalogue says which tables are partitioned
(`app.make_partitions`).
"""

from comms.kernel.database import Connection, one


async def create_month_partitions(conn: Connection) -> int:
    """Creates the missing partitions of the coming months; returns how many."""
    return int(one(await (await conn.execute("select app.make_partitions() as made")).fetchone())["made"])


async def drop_empty_partitions(conn: Connection) -> int:
    """Drops the partitions of past months that have no rows; returns how many."""
    return int(one(await (await conn.execute("select app.drop_empty_months() as dropped")).fetchone())["dropped"])
