"""Months of the tables that only grow: made ahead, since what has no month cannot be written, and dropped when empty.

Which tables those are the database's catalogue says (`app.make_partitions`).
"""

from comms.database import Connection, one


async def make_months(conn: Connection) -> int:
    """Makes the months to come that are missing; returns how many."""
    return int(one(await (await conn.execute("select app.make_partitions() as made")).fetchone())["made"])


async def drop_empty_months(conn: Connection) -> int:
    """Drops past months that hold no row any more; returns how many."""
    return int(one(await (await conn.execute("select app.drop_empty_months() as dropped")).fetchone())["dropped"])
