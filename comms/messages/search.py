"""Search over what may be seen: messages, and what was said in recorded calls, by words and by meaning.

By words: full text in English, newest first. By meaning: the vector of what is asked and those of what was written and
said, nearest first. By both: two rankings, the words' (any word will do, rare ones count for more) and the meaning's,
made one. What is found is marked as ranges of characters where it holds words that were looked for, and only there.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from comms.database import Connection
from comms.messages.queries import COLUMNS
from comms.messages.records import Message
from comms.pages import LAST_ID
from models.endpoints import QuestionVector
from models.records import Record
from models.retrieval import reciprocal_rank_fusion

Mode = Literal["words", "meaning", "both"]
Kind = Literal["message", "utterance"]
FoundBy = Literal["words", "meaning"]

DEPTH: Final = 200  # of each ranking: as far as one can turn the pages
# Around each find in PostgreSQL's answer: characters of the private use area, exchanged in what people wrote.
_MARKS: Final = "\ue000\ue001"
_EXCHANGED: Final = "??"


class Search(Record):
    """What is looked for ("quoted", or, -not are understood) and what comes into question.

    What was said in calls lies in no conversation; its sender is whoever is known to have spoken, its time the call's.
    """

    words: str = Field(repr=False)
    mode: Mode = "words"
    kinds: tuple[Kind, ...] = ("message", "utterance")
    conversation_id: UUID | None = None
    sender_id: UUID | None = None
    from_time: AwareDatetime | None = None
    to_time: AwareDatetime | None = None


class Highlight(Record):
    """Characters of `content` (Unicode code points) that were looked for: from `start` to before `end`."""

    start: int
    end: int


class FoundMessage(Message):
    """A message with the places of what was looked for, and how it was found."""

    kind: Literal["message"] = "message"
    found_by: tuple[FoundBy, ...]
    highlights: tuple[Highlight, ...]


class FoundUtterance(Record):
    """What somebody said in a recorded call: `content`, from `start_seconds` of the recording."""

    kind: Literal["utterance"] = "utterance"
    id: UUID
    recording_id: UUID
    session_id: UUID
    speaker: str | None = Field(repr=False)
    participant_id: UUID | None
    start_seconds: float
    end_seconds: float
    content: str = Field(repr=False)
    recorded_at: datetime
    found_by: tuple[FoundBy, ...]
    highlights: tuple[Highlight, ...]


Found = Annotated[FoundMessage | FoundUtterance, Field(discriminator="kind")]


class FoundPage(Record):
    """`semantic`: whether meaning was searched; not by words alone, nor while the models do not answer in time."""

    items: tuple[Found, ...] = Field(repr=False)
    next: UUID | None
    semantic: bool


async def search(
    conn: Connection, wanted: Search, question: QuestionVector | None, *, cursor: UUID | None, limit: int
) -> FoundPage:
    """A page of what the actor may see and looks for, after the item with the id `cursor`.

    `question` is where the meaning of the words lies, as far as it is known: without it, words alone are searched.
    """
    if wanted.mode == "words":
        found = await _newest(conn, wanted, cursor or LAST_ID, limit + 1)
    else:
        found = await _ranked(conn, wanted, question, cursor, limit + 1)
    items = tuple(found[:limit])
    return FoundPage(
        items=items,
        next=items[-1].id if len(found) > limit else None,
        semantic=wanted.mode != "words" and question is not None,
    )


# --- what is found, read under row-level security ----------------------------------------------------------------------

_MARKED: Final = "ts_headline('english', translate({text}, %(marks)s, %(exchanged)s), q.query, %(options)s) as marked "
_MESSAGE: Final = f"select {COLUMNS}, {_MARKED.format(text='m.content')}"
_UTTERANCE: Final = (
    "select u.id, r.id as recording_id, r.session_id, u.speaker, u.participant_id, u.start_seconds, u.end_seconds, "
    f"u.text as content, r.started_at as recorded_at, {_MARKED.format(text='u.text')}"
)
_WITH_RECORDING: Final = (
    "join transcriptions t on t.tenant_id = u.tenant_id and t.id = u.transcription_id "
    "join recordings r on r.tenant_id = t.tenant_id and r.id = t.recording_id "
)
_FILTERS: Final = "%(conversation_id)s, %(sender_id)s, %(from_time)s, %(to_time)s"
# The functions find (comms/migrations/0011_messaging.sql says why they must), row-level security decides once more.
_NEWEST: Final[dict[Kind, str]] = {
    "message": f"{_MESSAGE} from websearch_to_tsquery('english', %(words)s) q(query), "
    f"app.search_messages(q.query, {_FILTERS}, %(before)s, %(limit)s) f(id) join messages m on m.id = f.id",
    "utterance": f"{_UTTERANCE} from websearch_to_tsquery('english', %(words)s) q(query), "
    f"app.search_utterances(q.query, {_FILTERS}, %(before)s, %(limit)s) f(id) join utterances u on u.id = f.id "
    f"{_WITH_RECORDING}",
}
_RANKED: Final[dict[Kind, str]] = {
    "message": f"{_MESSAGE} from app.any_word(%(words)s) q(query), messages m where m.id = any(%(ids)s)",
    "utterance": f"{_UTTERANCE} from app.any_word(%(words)s) q(query), utterances u {_WITH_RECORDING} "
    "where u.id = any(%(ids)s)",
}
_BY_WORDS: Final = f"select kind, id from app.rank_words(%(words)s, %(kinds)s, {_FILTERS}, %(depth)s)"  # noqa: S608
_BY_MEANING: Final = (
    f"select kind, id from app.rank_meaning(%(vector)s::halfvec, %(model)s, %(kinds)s, {_FILTERS}, "  # noqa: S608
    "%(depth)s)"
)


async def _newest(conn: Connection, wanted: Search, before: UUID, limit: int) -> list[Any]:
    """What holds the words, newest first, from before the id."""
    asked = _values(wanted) | {"before": before, "limit": limit}
    answers = [await conn.execute(_NEWEST[kind].encode(), asked) for kind in wanted.kinds]
    by_words: tuple[FoundBy, ...] = ("words",)
    found = [
        _found(kind, row, by_words)
        for kind, answer in zip(wanted.kinds, answers, strict=True)
        for row in await answer.fetchall()
        if row["marked"] is not None
    ]
    return sorted(found, key=lambda one: one.id, reverse=True)[:limit]


async def _ranked(
    conn: Connection, wanted: Search, question: QuestionVector | None, cursor: UUID | None, limit: int
) -> list[Any]:
    """The best of both rankings, or of the one that is asked for and can be had, after the id `cursor`."""
    rankings = await _rank(conn, wanted, question)
    order = [key for key, _ in reciprocal_rank_fusion(list(rankings.values()))]
    if cursor is not None:
        order = order[next((at for at, (_, id) in enumerate(order, start=1) if id == cursor), len(order)) :]
    chosen = order[:limit]
    asked = [
        await conn.execute(_RANKED[kind].encode(), _values(wanted) | {"ids": [id for k, id in chosen if k == kind]})
        for kind in wanted.kinds
    ]
    found = {}
    for kind, answer in zip(wanted.kinds, asked, strict=True):
        for row in await answer.fetchall():
            found_by = tuple(by for by, ranking in rankings.items() if (kind, row["id"]) in ranking)
            if row["marked"] is not None:
                found[kind, row["id"]] = _found(kind, row, found_by)
    return [found[key] for key in chosen if key in found]


async def _rank(
    conn: Connection, wanted: Search, question: QuestionVector | None
) -> dict[FoundBy, list[tuple[Kind, UUID]]]:
    """What is nearest in words and in meaning, each best first."""
    asked = _values(wanted) | {"depth": DEPTH}
    answers = {}
    if wanted.mode == "both" or question is None:
        answers["words"] = await conn.execute(_BY_WORDS.encode(), asked)
    if question is not None:
        vector = "[" + ",".join(map(repr, question.vector)) + "]"
        answers["meaning"] = await conn.execute(
            _BY_MEANING.encode(), asked | {"vector": vector, "model": question.model}
        )
    return {by: [(row["kind"], row["id"]) for row in await answer.fetchall()] for by, answer in answers.items()}


def _values(wanted: Search) -> dict[str, Any]:
    options = f'HighlightAll=true, StartSel="{_MARKS[0]}", StopSel="{_MARKS[1]}"'
    return wanted.model_dump() | {
        "kinds": list(wanted.kinds), "marks": _MARKS, "exchanged": _EXCHANGED, "options": options,
    }  # fmt: skip


def _found(kind: Kind, row: dict[str, Any], found_by: Sequence[FoundBy]) -> FoundMessage | FoundUtterance:
    record = FoundMessage if kind == "message" else FoundUtterance
    given = {name: value for name, value in row.items() if name != "marked"}
    return record.model_validate(given | {"found_by": found_by, "highlights": tuple(_places(row["marked"]))})


def _places(marked: str) -> Iterator[Highlight]:
    """Where the marks lie, counted without the marks themselves."""
    pieces = marked.split(_MARKS[0])
    at = len(pieces[0])
    for piece in pieces[1:]:
        find, _, after = piece.partition(_MARKS[1])
        yield Highlight(start=at, end=at + len(find))
        at += len(find) + len(after)
