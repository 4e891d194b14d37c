"""Handles client messages on the messaging socket: open conversations, typing, delivery receipts.

    {"type": "enter", "conversation_id": …}    opens it: the server sends who is present, types, receives and reads
    {"type": "leave", "conversation_id": …}    closes it
    {"type": "typing", "conversation_id": …}   the client repeats it every few seconds while the user types
    {"type": "delivered", "position": …}       the device has received all messages up to this event

If the server cannot do it, it answers `{"type": "problem", "problem": <slug>, "about": <the message's type>}`.
"""

import json
from contextlib import AsyncExitStack
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter, ValidationError

from comms.kernel.database import Connection, Database
from comms.live.presence.leases import PresenceScope
from comms.live.presence.tracker import PresenceLease, PresenceTracker
from comms.live.subscription import Subscription
from comms.messaging.conversations.members import require_member
from comms.messaging.conversations.receipts import note_delivered
from models.contract.errors import WriteCareError, conflict, invalid
from models.contract.records import Record

MAX_OPEN_CONVERSATIONS: Final = 10  # per socket


class _ConversationCommand(Record):
    """Opens or closes a conversation, or says that the user types in it."""

    type: Literal["enter", "leave", "typing"]
    conversation_id: UUID


class _DeliveredCommand(Record):
    """The device has received all events up to this position."""

    type: Literal["delivered"]
    position: int = Field(ge=0, le=2**63 - 1)


_COMMAND_ADAPTER: Final[TypeAdapter[_ConversationCommand | _DeliveredCommand]] = TypeAdapter(
    Annotated[_ConversationCommand | _DeliveredCommand, Field(discriminator="type")]
)


class MessagingSocketHandler:
    """Handles the client messages of one socket: its open conversations and its delivery receipts."""

    def __init__(
        self, database: Database, presence_tracker: PresenceTracker, subscription: Subscription, delivered_until: int
    ) -> None:
        self._database = database
        self._roll = presence_tracker
        self._actor = subscription.actor
        self._enqueue = subscription.enqueue
        self._delivered_until = delivered_until
        self._leases: dict[UUID, tuple[PresenceLease, AsyncExitStack]] = {}

    async def on_message(self, text: str) -> None:
        """Handles one client message. Messages are handled one after the other, so a client that sends many slows down
        only itself.
        """
        about: str | None = None
        try:
            command = _parse_command(text)
            about = command.type
            await self._execute(command)
        except WriteCareError as error:
            self._enqueue(json.dumps({"type": "problem", "problem": error.slug, "about": about}))

    async def end(self) -> None:
        """Closes all conversations; called when the socket has ended."""
        for conversation_id in list(self._leases):
            await self._close_conversation(conversation_id)

    async def _execute(self, command: _ConversationCommand | _DeliveredCommand) -> None:
        if isinstance(command, _DeliveredCommand):
            async with self._database.acting_as(self._actor) as conn:
                await note_delivered(conn, self._actor, after=self._delivered_until, until=command.position)
            self._delivered_until = max(self._delivered_until, command.position)
        elif command.type == "enter":
            await self._open_conversation(command.conversation_id)
        elif command.type == "leave":
            await self._close_conversation(command.conversation_id)
        elif command.conversation_id in self._leases:
            await self._roll.typing(self._leases[command.conversation_id][0])
        else:
            raise conflict("conversation-not-open", "Enter the conversation before you type in it.")

    async def _open_conversation(self, conversation_id: UUID) -> None:
        async def refuse(conn: Connection) -> None:
            await require_member(conn, self._actor, conversation_id)

        # if it is open already, the client gets the presence list again
        await self._close_conversation(conversation_id)
        if len(self._leases) >= MAX_OPEN_CONVERSATIONS:
            raise conflict("too-many-open", "Leave a conversation before you enter another.")
        scope = PresenceScope("conversation", conversation_id)
        async with AsyncExitStack() as stack:
            lease = await stack.enter_async_context(self._roll.open_lease(self._actor, scope, self._enqueue, refuse))
            self._leases[conversation_id] = (lease, stack.pop_all())

    async def _close_conversation(self, conversation_id: UUID) -> None:
        if conversation_id in self._leases:
            _, stack = self._leases.pop(conversation_id)
            await stack.aclose()


def _parse_command(text: str) -> _ConversationCommand | _DeliveredCommand:
    try:
        return _COMMAND_ADAPTER.validate_json(text)
    except ValidationError:
        raise invalid(
            "said-invalid",
            "This message is not understood: see the API documentation.",
        ) from None
