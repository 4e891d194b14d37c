"""Returns the whole text of a message: its content, followed by the text of its attachments.

Only this module joins the two: the models and the alert must see the same characters.
"""

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from pydantic import Field

from comms.kernel.database import Connection
from models.contract.records import Record

_MOST_CHARACTERS: Final = 10_000  # of all attachments of a message; the content has the same limit
_BETWEEN: Final = "\n\n"


async def attachment_texts(conn: Connection, message_ids: Collection[UUID]) -> dict[UUID, str]:
    """Returns the attachment text of each message that has any and that the actor may see."""
    found: dict[UUID, str] = {}
    for attached in await attached_texts(conn, list(message_ids)):
        before = found.get(attached.message_id)
        joined = attached.text if before is None else f"{before}{_BETWEEN}{attached.text}"
        found[attached.message_id] = joined[:_MOST_CHARACTERS]
    return found


def with_attachment_text(content: str, attachment_text: str | None) -> str:
    """Returns the text that the models read. The content comes first, so that its character offsets do not change."""
    return _BETWEEN.join(part for part in (content, attachment_text) if part)


class AttachedText(Record):
    """The text of an attachment of a message; `text_cut` if there is more than `text` contains."""

    attachment_id: UUID
    message_id: UUID
    media_type: str
    text: str = Field(repr=False)
    text_cut: bool


async def attached_texts(conn: Connection, message_ids: Sequence[UUID]) -> list[AttachedText]:
    """Returns the texts of the attachments of these messages that the actor of the connection may see, in order."""
    found = await conn.execute(
        "select id as attachment_id, message_id, media_type, text, text_cut from message_attachments "
        "where message_id = any(%s) and text is not null order by message_id, position",
        (list(message_ids),),
    )
    return [AttachedText.model_validate(row) for row in await found.fetchall()]
