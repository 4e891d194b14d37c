"""Reactions to messages, each made by one user.

Each change takes the conversation's next clock value, so only users who were members at that time receive its event.
"""

from typing import Literal
from uuid import UUID

from pydantic import Field

from comms.kernel.database import Actor, Connection
from comms.kernel.text_types import Name
from comms.messaging.conversation_clock import ClockTick, advance_clock
from comms.messaging.message_records import Message
from comms.messaging.messages.queries import read_message
from comms.outbox.queries import emit
from models.contract.errors import conflict
from models.contract.records import Record


class NewReaction(Record):
    """An emoji or a short word."""

    reaction: Name = Field(min_length=1, max_length=50, repr=False)


async def add_reaction(conn: Connection, actor: Actor, message_id: UUID, new: NewReaction) -> Message:
    """Adds the actor's reaction and returns the message. A repeated reaction changes nothing. Raises `missing`, a
    conflict (`message-deleted`).
    """
    message = await read_message(conn, message_id)
    tick = await advance_clock(conn, actor, message.conversation_id)
    # read again: it may have changed while this transaction waited for the lock
    message = await read_message(conn, message_id)
    if message.deleted_at is not None:
        raise conflict("message-deleted", "The message is deleted: you cannot react to it.")
    added = await conn.execute(
        "insert into message_reactions (tenant_id, message_id, user_id, reaction, conversation_id) "
        "values (%s, %s, %s, %s, %s) on conflict do nothing returning 1",
        (actor.tenant_id, message_id, actor.user_id, new.reaction, message.conversation_id),
    )
    if await added.fetchone() is not None:
        await _emit(conn, actor, "message.reaction.added", message, tick)
    return await read_message(conn, message_id)


async def take_reaction_back(conn: Connection, actor: Actor, message_id: UUID, reaction: str) -> None:
    """Removes the actor's own reaction. If it does not exist, nothing happens. Raises `missing` (message,
    conversation).
    """
    message = await read_message(conn, message_id)
    tick = await advance_clock(conn, actor, message.conversation_id)
    taken = await conn.execute(
        "delete from message_reactions where message_id = %s and user_id = %s and reaction = %s returning 1",
        (message_id, actor.user_id, reaction),
    )
    if await taken.fetchone() is not None:
        await _emit(conn, actor, "message.reaction.removed", message, tick)


async def _emit(
    conn: Connection,
    actor: Actor,
    what: Literal["message.reaction.added", "message.reaction.removed"],
    message: Message,
    tick: ClockTick,
) -> None:
    """Emits an event without the reaction itself, because that may be a word."""
    data = {
        "conversation_id": str(message.conversation_id), "message_id": str(message.id), "moment": str(tick.id),
        "user_id": str(actor.user_id),
    }  # fmt: skip
    of = ("conversation", message.conversation_id)
    await emit(conn, actor, what, aggregate=of, version=tick.event_version, data=data)
