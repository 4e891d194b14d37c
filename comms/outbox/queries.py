"""The outbox: an event is a row that is written in the same transaction as the change that it reports.

No event leaves the platform in another way. The relay (`comms/outbox/relay.py`) sends committed events, at least once,
in order within an aggregate.
"""

from collections.abc import Collection
from typing import Any, Final, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from comms.kernel.database import Actor, Connection
from comms.outbox.envelope import SentEvent

EventType = Literal[
    "session.created", "session.started", "session.ended", "session.participant.joined", "session.participant.left",
    "session.recording.started", "session.recording.stopped", "message.sent", "message.edited", "message.deleted",
    "recording.processed", "transcript.ready", "consent.changed", "safeguarding.alert",
    "safeguarding.alert.high_priority", "alert.reviewed", "alert.subject.changed", "model.promoted", "integration.sync",
    "glass.broken",
    "message.reaction.added", "message.reaction.removed", "conversation.created", "conversation.changed",
    "conversation.member.joined", "conversation.member.left",
]  # fmt: skip

# Only members of the conversation receive these, and only of the time of their membership: each carries its clock value
# as `moment` (comms/messaging/conversation_clock.py).
CONVERSATION_EVENTS: Final[frozenset[EventType]] = frozenset(
    {
        "message.sent", "message.edited", "message.deleted", "message.reaction.added", "message.reaction.removed",
        "conversation.created", "conversation.changed", "conversation.member.joined", "conversation.member.left",
    }
)  # fmt: skip

EVENTS_CHANNEL: Final = "events"  # the relay notifies here that it has sent events, with the tenant ids
OUTBOX_CHANNEL: Final = (
    "outbox"  # writing processes notify here, without payload, that events wait (comms/outbox/notifier.py)
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
    """Writes an event about `aggregate` (its kind and id) at `version`, which was taken under the aggregate's row lock.

    `data` holds only ids and codes, never text or names: otherwise erasure would be impossible.
    """
    await conn.execute(
        "insert into events (tenant_id, type, aggregate_type, aggregate_id, aggregate_version, data) "
        "values (%s, %s, %s, %s, %s, %s)",
        (actor.tenant_id, type, aggregate[0], aggregate[1], version, Jsonb(data)),
    )
    conn.has_emitted = True


_COLUMNS: Final = (
    "tenant_id, id, type, aggregate_type, aggregate_id, aggregate_version, data, occurred_at, position, "
    "app.kept_from(type, data) as withheld_from, "
)
_SELECT_SENT: Final = (
    f"select {_COLUMNS} case when aggregate_type = 'conversation' "  # noqa: S608 (constants)
    "then app.heard_by(aggregate_id, (data ->> 'moment')::uuid) else '{}' end as heard_by "
    "from events where position > %(after)s order by position limit %(limit)s"
)
_SELECT_FOR_ACTOR: Final = (
    f"select * from (select {_COLUMNS} "  # noqa: S608 (constants)
    "array(select s.user_id from conversation_members s where s.tenant_id = e.tenant_id "
    "    and s.conversation_id = e.aggregate_id and s.user_id = (select app.actor()) "
    "    and s.after_id < (e.data ->> 'moment')::uuid "
    "    and (s.until_id is null or (e.data ->> 'moment')::uuid <= s.until_id)) as heard_by "
    "from events e where position > %(after)s and position <= %(until)s and type = any(%(types)s)) as told "
    "where type <> all(%(of_conversations)s) or heard_by <> '{}' order by position limit %(limit)s"
)


async def read_sent_events(conn: Connection, *, after: int, limit: int) -> list[SentEvent]:
    """The tenant's sent events after a position, in order, with their recipients; for the system actor only."""
    found = await conn.execute(_SELECT_SENT.encode(), {"after": after, "limit": limit})
    return [SentEvent(**row) async for row in found]


async def read_events_for_actor(
    conn: Connection, types: Collection[str], *, after: int, until: int, limit: int
) -> list[SentEvent]:
    """The events of these types in (`after`, `until`] that the actor may receive, in order.

    Of a conversation, these are the events of the time in which the actor was a member.
    """
    asked = {"after": after, "until": until, "types": list(types), "of_conversations": list(CONVERSATION_EVENTS)}
    found = await conn.execute(_SELECT_FOR_ACTOR.encode(), {**asked, "limit": limit})
    return [SentEvent(**row) async for row in found]
