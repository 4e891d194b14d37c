"""Search over what may be seen: messages, and what was said in recorded calls, by words and by meaning.

By words: full text in English, newest first. By meaning: the vector of what is asked and those of what was written and
said, nearest first. By both: two rankings, the words' (any word will do, rare ones count for more) and the meaning's,
made one. What is found is marked as ranges of characters where it holds words that were looked for, and only there.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar, get_args
from uuid import UUID

from pydantic import Field

from comms.database import Connection
from comms.messages.queries import COLUMNS
from comms.messages.records import Message
from comms.pages import LAST_ID
from comms.times import Time
from models.endpoints import QuestionVector
from models.records import Record
from models.retrieval import RANK_CONSTANT, reciprocal_rank_fusion

Key = TypeVar("Key", bound=Hashable)

Mode = Literal["words", "meaning", "both"]
Kind = Literal["message", "attachment", "utterance"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
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
    kinds: tuple[Kind, ...] = KINDS
    conversation_id: UUID | None = None
    sender_id: UUID | None = None
    from_time: Time | None = None
    to_time: Time | None = None
    has_attachment: bool | None = None


class Highlight(Record):
    """Characters of `content` (Unicode code points) that were looked for: from `start` to before `end`."""

    start: int
    end: int


class FoundMessage(Message):
    """A message with the places of what was looked for, and how it was found."""

    kind: Literal["message"] = "message"
    found_by: tuple[FoundBy, ...]
    highlights: tuple[Highlight, ...]


class FoundAttachment(Record):
    """A file beside a message that one may see: `content` is what stands around the words inside that were found."""

    kind: Literal["attachment"] = "attachment"
    id: UUID
    message_id: UUID
    conversation_id: UUID
    name: str = Field(repr=False)
    media_type: str
    content: str = Field(repr=False)
    created_at: datetime
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


AnyFound = FoundMessage | FoundAttachment | FoundUtterance
Found = Annotated[AnyFound, Field(discriminator="kind")]
_RECORDS: Final[dict[Kind, type[AnyFound]]] = {
    "message": FoundMessage, "attachment": FoundAttachment, "utterance": FoundUtterance,
}  # fmt: skip


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
    await conn.execute(ONE_PLAN)
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


# --- what is found, read under row-level security ---------------------------------------------------------------------

_MARKED: Final = "ts_headline('english', translate({text}, %(marks)s, %(exchanged)s), q.query, {options}) as marked "
_SELECTS: Final[dict[Kind, str]] = {
    "message": f"select {COLUMNS}, {_MARKED.format(text='m.content', options='%(whole)s')}",
    "attachment": "select a.id, a.message_id, a.conversation_id, a.name, a.media_type, a.created_at, "
    + _MARKED.format(text="a.text", options="%(around)s"),
    "utterance": "select u.id, r.id as recording_id, r.session_id, u.speaker, u.participant_id, u.start_seconds, "
    "u.end_seconds, r.started_at as recorded_at, " + _MARKED.format(text="u.text", options="%(whole)s"),
}
_JOINS: Final[dict[Kind, str]] = {
    "message": "join messages m on m.id = f.id",
    "attachment": "join message_attachments a on a.id = f.id",
    "utterance": "join utterances u on u.id = f.id "
    "join transcriptions t on t.tenant_id = u.tenant_id and t.id = u.transcription_id "
    "join recordings r on r.tenant_id = t.tenant_id and r.id = t.recording_id",
}
_FILTERS: Final = "%(conversation_id)s, %(sender_id)s, %(from_time)s, %(to_time)s, %(has_attachment)s"
# The functions find (comms/migrations/0011_messaging.sql says why they must), row-level security decides once more.
_NEWEST: Final[dict[Kind, bytes]] = {
    kind: f"{_SELECTS[kind]} from websearch_to_tsquery('english', %(words)s) q(query), "
    f"app.search_{kind}s(q.query, {_FILTERS}, %(before)s, %(limit)s) f(id) {_JOINS[kind]}".encode()
    for kind in KINDS
}
_CHOSEN: Final[dict[Kind, bytes]] = {
    kind: f"{_SELECTS[kind]} from app.any_word(%(words)s) q(query), unnest(%(ids)s::uuid[]) f(id) "
    f"{_JOINS[kind]}".encode()
    for kind in KINDS
}
# Planned anew for every search, statements over many months and policies take longer to plan than to answer.
ONE_PLAN: Final = b"select set_config('plan_cache_mode', 'force_generic_plan', true)"
_BY_WORDS: Final = (
    f"select kind, id from app.rank_words(%(words)s, %(kinds)s, {_FILTERS}, %(depth)s)".encode()  # noqa: S608
)
_BY_MEANING: Final = (
    f"select kind, id from app.rank_meaning(%(vector)s::halfvec, %(model)s, %(kinds)s, {_FILTERS}, "  # noqa: S608
    "%(depth)s)".encode()
)


async def _newest(conn: Connection, wanted: Search, before: UUID, limit: int) -> list[AnyFound]:
    """What holds the words, newest first, from before the id."""
    asked = _values(wanted) | {"before": before, "limit": limit}
    answers = [await conn.execute(_NEWEST[kind], asked) for kind in wanted.kinds]
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
) -> list[AnyFound]:
    """The best of both rankings, or of the one that is asked for and can be had, after the id `cursor`."""
    rankings = await rank(conn, wanted, question)
    order = fuse(rankings)
    if cursor is not None:
        order = order[next((at for at, (_, id) in enumerate(order, start=1) if id == cursor), len(order)) :]
    chosen = order[:limit]
    asked = [
        await conn.execute(_CHOSEN[kind], _values(wanted) | {"ids": [id for k, id in chosen if k == kind]})
        for kind in wanted.kinds
    ]
    found = {}
    for kind, answer in zip(wanted.kinds, asked, strict=True):
        for row in await answer.fetchall():
            found_by = tuple(by for by, ranking in rankings.items() if (kind, row["id"]) in ranking)
            if row["marked"] is not None:
                found[kind, row["id"]] = _found(kind, row, found_by)
    return [found[key] for key in chosen if key in found]


async def rank(
    conn: Connection, wanted: Search, question: QuestionVector | None
) -> dict[FoundBy, list[tuple[Kind, UUID]]]:
    """What is nearest in words and in meaning, each best first, as far as it is asked for and can be had."""
    asked = _values(wanted) | {"depth": DEPTH}
    answers: dict[FoundBy, Any] = {}
    if wanted.mode == "both" or question is None:
        answers["words"] = await conn.execute(_BY_WORDS, asked)
    if question is not None:
        vector = "[" + ",".join(map(repr, question.vector)) + "]"
        answers["meaning"] = await conn.execute(_BY_MEANING, asked | {"vector": vector, "model": question.model})
    return {by: [(row["kind"], row["id"]) for row in await answer.fetchall()] for by, answer in answers.items()}


def fuse(rankings: Mapping[FoundBy, Sequence[Key]], constant: float = RANK_CONSTANT) -> list[Key]:
    """What is in any of the rankings, best first."""
    return [key for key, _ in reciprocal_rank_fusion(list(rankings.values()), constant=constant)]


def _values(wanted: Search) -> dict[str, Any]:
    marks = f'StartSel="{_MARKS[0]}", StopSel="{_MARKS[1]}"'
    return wanted.model_dump() | {
        "kinds": list(wanted.kinds), "marks": _MARKS, "exchanged": _EXCHANGED, "whole": f"HighlightAll=true, {marks}",
        "around": f"MaxWords=40, MinWords=20, {marks}",
    }  # fmt: skip


def _found(kind: Kind, row: dict[str, Any], found_by: Sequence[FoundBy]) -> AnyFound:
    marked = row.pop("marked")
    content = marked.replace(_MARKS[0], "").replace(_MARKS[1], "")
    found = {"content": content, **row, "found_by": found_by, "highlights": tuple(_places(marked))}
    return _RECORDS[kind].model_validate(found)


def _places(marked: str) -> Iterator[Highlight]:
    """Where the marks lie, counted without the marks themselves."""
    pieces = marked.split(_MARKS[0])
    at = len(pieces[0])
    for piece in pieces[1:]:
        find, _, after = piece.partition(_MARKS[1])
        yield Highlight(start=at, end=at + len(find))
        at += len(find) + len(after)
