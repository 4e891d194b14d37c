"""A message as its reader sees it, what one sends, and what it was before."""

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
    """Words to send; `system` and `alert` come from the house alone."""

    conversation_id: UUID
    content: Content
    message_type: Literal["text"] = "text"
    reply_to: UUID | None = None
    mentions: tuple[UUID, ...] = Field(default=(), max_length=50)


class NewFileMessage(Record):
    """One's own uploads to send, with words or without; `voice` is one recording of somebody's voice."""

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
    """The words that are to stand instead."""

    content: Content


class Reaction(Record):
    """Somebody's sign under a message."""

    user_id: UUID
    reaction: str = Field(repr=False)


class About(Record):
    """What a message of the house itself tells of, for clients to put into words: whom it is about, by whose act."""

    code: Literal["member_joined", "member_left", "renamed"]
    user_id: UUID | None = None
    by: UUID | None


class Message(Record):
    """`content` is null once it is deleted, and empty of files without words; `version` goes into If-Match; `about`: of
    the house's own messages."""

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
    """What a message says or said. `competing`: an edit made from `version` when that was no longer the current one."""

    id: UUID
    standing: Literal["current", "former", "competing"]
    version: int
    content: str = Field(repr=False)
    attachments: tuple[Attachment, ...]
    written_by: UUID | None
    written_at: datetime
