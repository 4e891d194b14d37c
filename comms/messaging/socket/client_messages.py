"""What a client says on the messaging socket: which conversations it has open, that somebody types, what has arrived.

    {"type": "enter", "conversation_id": …}    it is told who else is there, who types, who receives and reads
    {"type": "leave", "conversation_id": …}
    {"type": "typing", "conversation_id": …}   said anew every few seconds, while somebody does
    {"type": "delivered", "position": …}       all messages up to this event have reached the device

What cannot be done is answered with `{"type": "problem", "problem": <slug>, "about": <what was said>}`.
"""

import json
from contextlib import AsyncExitStack
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter, ValidationError

from comms.kernel.database import Connection, Database
from comms.live.presence.leases import Place
from comms.live.presence.tracker import Roll, Seat
from comms.live.subscription import Subscription
from comms.messaging.conversations.members import refuse_strangers
from comms.messaging.conversations.receipts import note_delivered
from models.contract.errors import WriteCareError, conflict, invalid
from models.contract.records import Record

MOST_OPEN: Final = 10  # conversations that one socket has open


class _OfConversation(Record):
    """Somebody opens or closes a conversation, or types in it."""

    type: Literal["enter", "leave", "typing"]
    conversation_id: UUID


class _Delivered(Record):
    """Everything up to this position has arrived."""

    type: Literal["delivered"]
    position: int = Field(ge=0, le=2**63 - 1)


_SAID: Final[TypeAdapter[_OfConversation | _Delivered]] = TypeAdapter(
    Annotated[_OfConversation | _Delivered, Field(discriminator="type")]
)


class Visits:
    """One a socket: the conversations that it has open, and up to where it has said that events arrived."""

    def __init__(self, database: Database, roll: Roll, subscription: Subscription, arrived: int) -> None:
        self._database = database
        self._roll = roll
        self._actor = subscription.actor
        self._say = subscription.say
        self._arrived = arrived
        self._seats: dict[UUID, tuple[Seat, AsyncExitStack]] = {}

    async def hear(self, text: str) -> None:
        """Does what the client says; one thing after the other, so that who says much waits for themselves alone."""
        about: str | None = None
        try:
            said = _understood(text)
            about = said.type
            await self._do(said)
        except WriteCareError as error:
            self._say(json.dumps({"type": "problem", "problem": error.slug, "about": about}))

    async def end(self) -> None:
        """The socket is gone: it has nothing open any more."""
        for conversation_id in list(self._seats):
            await self._leave(conversation_id)

    async def _do(self, said: _OfConversation | _Delivered) -> None:
        if isinstance(said, _Delivered):
            async with self._database.acting_as(self._actor) as conn:
                await note_delivered(conn, self._actor, after=self._arrived, until=said.position)
            self._arrived = max(self._arrived, said.position)
        elif said.type == "enter":
            await self._enter(said.conversation_id)
        elif said.type == "leave":
            await self._leave(said.conversation_id)
        elif said.conversation_id in self._seats:
            await self._roll.typing(self._seats[said.conversation_id][0])
        else:
            raise conflict("conversation-not-open", "Enter the conversation before you type in it.")

    async def _enter(self, conversation_id: UUID) -> None:
        async def refuse(conn: Connection) -> None:
            await refuse_strangers(conn, self._actor, conversation_id)

        await self._leave(conversation_id)  # opened twice, it is told the list anew
        if len(self._seats) >= MOST_OPEN:
            raise conflict("too-many-open", "Leave a conversation before you enter another.")
        place = Place("conversation", conversation_id)
        async with AsyncExitStack() as stack:
            seat = await stack.enter_async_context(self._roll.at(self._actor, place, self._say, refuse))
            self._seats[conversation_id] = (seat, stack.pop_all())

    async def _leave(self, conversation_id: UUID) -> None:
        if conversation_id in self._seats:
            _, stack = self._seats.pop(conversation_id)
            await stack.aclose()


def _understood(text: str) -> _OfConversation | _Delivered:
    try:
        return _SAID.validate_json(text)
    except ValidationError:
        raise invalid("said-invalid", "This is none of what can be said here: see the documentation.") from None
