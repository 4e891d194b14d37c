"""All that a message says: its own words, and below them those inside the files that it came with.

The one place that joins the two: what the models read and what an alert shows must be the same characters.
"""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from comms.attachments.queries import attached_texts
from comms.database import Connection

_MOST_CHARACTERS: Final = 10_000  # of all files of a message, as of a message's own words
_BETWEEN: Final = "\n\n"


async def words_inside(conn: Connection, message_ids: Collection[UUID]) -> dict[UUID, str]:
    """The words inside the files of each message that has any, as far as whoever acts may see them."""
    found: dict[UUID, str] = {}
    for attached in await attached_texts(conn, list(message_ids)):
        before = found.get(attached.message_id)
        joined = attached.text if before is None else f"{before}{_BETWEEN}{attached.text}"
        found[attached.message_id] = joined[:_MOST_CHARACTERS]
    return found


def all_words(content: str, inside: str | None) -> str:
    """What is read of a message: its words first, so that characters of them count from its beginning."""
    return _BETWEEN.join(part for part in (content, inside) if part)
