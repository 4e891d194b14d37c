"""The months of messages are made ahead: a message whose month is missing could not be sent."""

import asyncio
from typing import Final

import structlog
from psycopg import Error

from comms.database import Connection, Database, one
from models.errors import WriteCareError

_PAUSE_SECONDS: Final = 6 * 3600.0

_log = structlog.get_logger(__name__)


async def make_partitions(conn: Connection) -> int:
    """Makes the partitions of the months to come that are missing; returns how many."""
    row = await (await conn.execute("select app.make_message_partitions() as made")).fetchone()
    return int(one(row)["made"])


async def make_partitions_for_ever(database: Database) -> None:
    """Until cancelled: makes what is missing, four times a day; a failure is logged and the next round tries again."""
    while True:
        try:
            async with database.acting_for_nobody() as conn:
                made = await make_partitions(conn)
            if made:
                _log.info("made partitions of messages", made=made)
        except (WriteCareError, Error) as error:
            problem = getattr(error, "slug", None)
            _log.warning("partitions of messages could not be made", error=type(error).__name__, problem=problem)
        await asyncio.sleep(_PAUSE_SECONDS)
