"""All that a message says: its own words, and below them those inside the files that it came with.

The one place that joins the two: what the models read and what an alert shows must be the same characters.
"""

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from pydantic import Field

from comms.kernel.database import Connection
from models.contract.records import Record

_MOST_CHARACTERS: Final = 10_000  # of all files of a message, as of a message's own words
_BETWEEN: Final = "\n\n"


async def attachment_texts(conn: Connection, message_ids: Collection[UUID]) -> dict[UUID, str]:
    """The words inside the files of each message that has any, as far as whoever acts may see them."""
    found: dict[UUID, str] = {}
    for attached in await attached_texts(conn, list(message_ids)):
        before = found.get(attached.message_id)
        joined = attached.text if before is None else f"{before}{_BETWEEN}{attached.text}"
        found[attached.message_id] = joined[:_MOST_CHARACTERS]
    return found


def with_attachment_text(content: str, attachment_text: str | None) -> str:
    """What is read of a message: its words first, so that characters of them count from its beginning."""
    return _BETWEEN.join(part for part in (content, attachment_text) if part)


class AttachedText(Record):
    """The words inside an attachment of a message; `text_cut` where there are more than stand in `text`."""

    attachment_id: UUID
    message_id: UUID
    media_type: str
    text: str = Field(repr=False)
    text_cut: bool


async def attached_texts(conn: Connection, message_ids: Sequence[UUID]) -> list[AttachedText]:
    """The words inside the attachments of these messages, as far as the connection's actor may see them, in order."""
    found = await conn.execute(
        "select id as attachment_id, message_id, media_type, text, text_cut from message_attachments "
        "where message_id = any(%s) and text is not null order by message_id, position",
        (list(message_ids),),
    )
    return [AttachedText.model_validate(row) for row in await found.fetchall()]
