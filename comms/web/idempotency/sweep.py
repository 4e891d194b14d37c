"""Deletes expired stored answers: they may contain what people wrote, and nobody can request them any more."""

import asyncio
from typing import Final

import structlog

from comms.kernel.database import Database
from comms.web.idempotency.stored_answers import delete_expired_answers
from models.contract.errors import WriteCareError

_PAUSE_SECONDS: Final = 600.0

_log = structlog.get_logger(__name__)


async def delete_expired_answers_forever(database: Database) -> None:
    """Deletes expired answers every ten minutes, until it is cancelled."""
    while True:
        try:
            async with database.without_tenant() as conn:
                forgotten = await delete_expired_answers(conn)
            if forgotten:
                _log.info("deleted expired answers", forgotten=forgotten)
        except WriteCareError as error:
            _log.warning("expired answers could not be deleted", problem=error.slug)
        await asyncio.sleep(_PAUSE_SECONDS)
