"""Records of messages: new messages, messages as read, and their earlier versions."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Discriminator, Field, Tag

from comms.kernel.text_types import Words
from comms.messaging.attachments.records import Attachment
from models.contract.records import Record

SenderType = Literal["user", "system", "integration"]
MessageType = Literal["text", "file", "voice", "system", "alert"]
Content = Annotated[Words, Field(min_length=1, max_length=10_000, repr=False)]


class NewMessage(Record):
    """A text message to send. Only the platform itself makes `system` and `alert` messages."""

    conversation_id: UUID
    content: Content
    message_type: Literal["text"] = "text"
    reply_to: UUID | None = None
    mentions: tuple[UUID, ...] = Field(default=(), max_length=50)


class NewFileMessage(Record):
    """Own uploads to send, with or without text. `voice`: exactly one voice recording."""

    conversation_id: UUID
    attachments: tuple[UUID, ...] = Field(min_length=1, max_length=10)
    content: Annotated[Words, Field(min_length=1, max_length=10_000)] | None = Field(default=None, repr=False)
    message_type: Literal["file", "voice"]
    reply_to: UUID | None = None
    mentions: tuple[UUID, ...] = Field(default=(), max_length=50)


def _kind_of(new: Any) -> str:
    said = new.get("message_type") if isinstance(new, dict) else getattr(new, "message_type", None)
    return "file" if said in ("file", "voice") else "text"


AnyNewMessage = Annotated[
    Annotated[NewMessage, Tag("text")] | Annotated[NewFileMessage, Tag("file")], Discriminator(_kind_of)
]


class MessageChange(Record):
    """The new text of a message."""

    content: Content


class Reaction(Record):
    """One user's reaction to a message."""

    user_id: UUID
    reaction: str = Field(repr=False)


class About(Record):
    """What a system message is about: the event, the user concerned, and the user who caused it. Clients word the
    text.
    """

    code: Literal["member_joined", "member_left", "renamed"]
    user_id: UUID | None = None
    by: UUID | None


class Message(Record):
    """A message. `content` is null after deletion, and empty for files without text. `version` goes into If-Match.
    `about` is set only in system messages.
    """

    id: UUID
    conversation_id: UUID
    sender_id: UUID | None
    sender_type: SenderType
    message_type: MessageType
    content: str | None = Field(repr=False)
    about: About | None = None
    reply_to: UUID | None
    mentions: tuple[UUID, ...] = ()
    reactions: tuple[Reaction, ...] = Field(default=(), repr=False)
    attachments: tuple[Attachment, ...] = ()
    version: int
    edited_at: datetime | None
    deleted_at: datetime | None
    created_at: datetime


class MessageVersion(Record):
    """One version of a message. `competing`: an edit based on `version` when that was no longer the current version."""

    id: UUID
    standing: Literal["current", "former", "competing"]
    version: int
    content: str = Field(repr=False)
    attachments: tuple[Attachment, ...]
    written_by: UUID | None
    written_at: datetime
