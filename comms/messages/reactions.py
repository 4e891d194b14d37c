"""Reactions: a sign under a message, each person's own."""

from uuid import UUID

from pydantic import Field

from comms.database import Actor, Connection
from comms.messages.queries import read_message
from comms.messages.records import Message
from models.errors import conflict, missing
from models.records import Record


class NewReaction(Record):
    """A sign or a short word."""

    reaction: str = Field(min_length=1, max_length=50, repr=False)


async def add_reaction(conn: Connection, actor: Actor, message_id: UUID, new: NewReaction) -> Message:
    """The message with the actor's reaction; given twice it is there once. Raises `missing`, a conflict
    (`message-deleted`)."""
    message = await read_message(conn, message_id)
    await _refuse_left(conn, actor, message.conversation_id)
    if message.deleted_at is not None:
        raise conflict("message-deleted", "The message was deleted: nobody can react to it any more.")
    await conn.execute(
        "insert into message_reactions (tenant_id, message_id, user_id, reaction, conversation_id) "
        "values (%s, %s, %s, %s, %s) on conflict do nothing",
        (actor.tenant_id, message_id, actor.user_id, new.reaction, message.conversation_id),
    )
    return await read_message(conn, message_id)


async def take_reaction_back(conn: Connection, actor: Actor, message_id: UUID, reaction: str) -> None:
    """Takes the actor's own away; one that is not there is no error. Raises `missing` (message)."""
    await read_message(conn, message_id)
    await conn.execute(
        "delete from message_reactions where message_id = %s and user_id = %s and reaction = %s",
        (message_id, actor.user_id, reaction),
    )


async def _refuse_left(conn: Connection, actor: Actor, conversation_id: UUID) -> None:
    """Holds the actor's stay, so that it cannot end between this check and the reaction."""
    found = await conn.execute(
        "select 1 from conversation_members where conversation_id = %s and user_id = %s and until_id is null for share",
        (conversation_id, actor.user_id),
    )
    if await found.fetchone() is None:
        raise missing("message")
