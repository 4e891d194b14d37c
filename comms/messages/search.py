"""Search over messages: full text in English, newest first, what was found marked as ranges of characters."""

from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

from pydantic import AwareDatetime, Field

from comms.database import Connection
from comms.messages.queries import COLUMNS
from comms.messages.records import Message
from models.records import Record

# Around each find in PostgreSQL's answer: characters of the private use area, exchanged in what people wrote.
_MARKS: Final = "\ue000\ue001"
_EXCHANGED: Final = "??"


class MessageSearch(Record):
    """What is looked for ("quoted", or, -not are understood) and which messages come into question."""

    words: str = Field(repr=False)
    conversation_id: UUID | None = None
    sender_id: UUID | None = None
    from_time: AwareDatetime | None = None
    to_time: AwareDatetime | None = None


class Highlight(Record):
    """Characters of `content` (Unicode code points) that were looked for: from `start` to before `end`."""

    start: int
    end: int


class FoundMessage(Message):
    """A message with the places of what was looked for."""

    highlights: tuple[Highlight, ...]


# The function finds (comms/migrations/0011_messaging.sql says why it must), row-level security decides once more.
_SEARCH: Final = (
    f"select {COLUMNS}, ts_headline("  # noqa: S608 (constants)
    "'english', translate(m.content, %(marks)s, %(exchanged)s), q.query, %(options)s) as marked "
    "from websearch_to_tsquery('english', %(words)s) q(query), "
    "app.search_messages(q.query, %(conversation_id)s, %(sender_id)s, %(from_time)s, %(to_time)s, %(before)s, "
    "%(limit)s) f(id) join messages m on m.id = f.id order by m.id desc"
)


async def search_messages(conn: Connection, wanted: MessageSearch, *, before: UUID, limit: int) -> list[FoundMessage]:
    """Messages that the actor may see and that hold the words, newest first, from before the id."""
    options = f'HighlightAll=true, StartSel="{_MARKS[0]}", StopSel="{_MARKS[1]}"'
    values: dict[str, Any] = {
        **wanted.model_dump(), "before": before, "limit": limit, "marks": _MARKS, "exchanged": _EXCHANGED,
        "options": options,
    }  # fmt: skip
    found = await conn.execute(_SEARCH.encode(), values)
    return [
        FoundMessage.model_validate({**row, "highlights": tuple(_places(marked))})
        for row in await found.fetchall()
        if (marked := row.pop("marked")) is not None
    ]


def _places(marked: str) -> Iterator[Highlight]:
    """Where the marks lie, counted without the marks themselves."""
    pieces = marked.split(_MARKS[0])
    at = len(pieces[0])
    for piece in pieces[1:]:
        find, _, after = piece.partition(_MARKS[1])
        yield Highlight(start=at, end=at + len(find))
        at += len(find) + len(after)
