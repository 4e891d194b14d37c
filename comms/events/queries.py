"""The outbox: an event is a row written in the same transaction as the change that it tells of.

Nothing else leaves the house. The relay (`comms/events/relay.py`) sends what was committed, at least once, in
order within an aggregate.
"""

from typing import Any, Final, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from comms.database import Actor, Connection

EventType = Literal[
    "session.created", "session.started", "session.ended", "session.participant.joined", "session.participant.left",
    "session.recording.started", "session.recording.stopped", "message.sent", "message.edited", "message.deleted",
    "recording.processed", "transcript.ready", "consent.changed", "safeguarding.alert",
    "safeguarding.alert.high_priority", "alert.reviewed", "model.promoted", "integration.sync", "glass.broken",
]  # fmt: skip

CHANNEL: Final = "events"  # where the relay says, without payload, that something was sent
OUTBOX: Final = (
    "outbox"  # where a process of writers says, without payload, that something waits (comms/events/waker.py)
)


async def emit(
    conn: Connection,
    actor: Actor,
    type: EventType,  # the CloudEvents attribute's name
    *,
    aggregate: tuple[str, UUID],
    version: int,
    data: dict[str, Any],
) -> None:
    """Writes an event about `aggregate` (its kind and id) at `version`, taken under the aggregate's row lock.

    `data` holds ids and codes alone, never words or names: otherwise erasure would be impossible.
    """
    await conn.execute(
        "insert into events (tenant_id, type, aggregate_type, aggregate_id, aggregate_version, data) "
        "values (%s, %s, %s, %s, %s, %s)",
        (actor.tenant_id, type, aggregate[0], aggregate[1], version, Jsonb(data)),
    )
    conn.emitted = True
