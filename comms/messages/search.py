"""Search over what may be seen: messages, and what was said in recorded calls, by words and by meaning.

By words: full text in English, newest first, with or without accents. By meaning: the vector of what is asked and those
of what was written and said, nearest first, as far as they are near. By both: two rankings, the words' (any word will
do, rare ones count for more) and the meaning's, made one. What is found is marked as ranges of characters where it
holds words that were looked for, and only there.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from comms.database import Connection, one
from comms.messages.folding import Places
from comms.messages.found import (
    KINDS,
    AnyFound,
    FoundAttachment,
    FoundBy,
    FoundMessage,
    FoundPage,
    FoundUtterance,
    Highlight,
    Hint,
    Kind,
    Scores,
    Search,
)
from comms.messages.queries import COLUMNS
from comms.pages import LAST_ID
from models.endpoints import QuestionVector
from models.retrieval import RANK_CONSTANT, reciprocal_rank_fusion

Key = TypeVar("Key", bound=Hashable)

DEPTH: Final = 200  # of each ranking: as far as one can turn the pages
# Cosine similarity below which meaning finds nothing: words that have nothing to do with each other are that near
# (docs/decisions/0039 has the figures).
FLOOR: Final = 0.3
# Around each find in PostgreSQL's answer: characters of the private use area, which are no letters, so that
# app.search_letters leaves none of them.
_MARKS: Final = "\ue000\ue001"
_UNMARKED: Final = str.maketrans("", "", _MARKS)
_EXCERPT: Final = 400  # characters of a file's words where the place of what was found is not known


_RECORDS: Final[dict[Kind, type[AnyFound]]] = {
    "message": FoundMessage, "attachment": FoundAttachment, "utterance": FoundUtterance,
}  # fmt: skip


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
    semantic = wanted.mode != "words" and question is not None
    return FoundPage(
        items=items,
        next=items[-1].id if len(found) > limit else None,
        semantic=semantic,
        hint=None if items or cursor or semantic else await _hint(conn, wanted.words),
    )


async def _hint(conn: Connection, words: str) -> Hint | None:
    row = one(await (await conn.execute(_EMPTY, {"words": words})).fetchone())
    if not row["lacks_letters"] and not row["lacks_words"]:
        return None
    if row["lacks_letters"]:
        return Hint(code="no-letters", detail="There are no letters and no digits in it: only those can be found.")
    return Hint(code="only-common-words", detail="These words are in nearly everything: add one that is not.")


# --- what is found, read under row-level security ---------------------------------------------------------------------

_EMPTY: Final = (
    b"select btrim(app.search_letters(%(words)s)) = '' as lacks_letters, "
    b"numnode(app.search_query(%(words)s)) = 0 as lacks_words"
)
_MARKED: Final = "ts_headline('english', app.search_letters({text}), q.query, {options}) as marked "
_SELECTS: Final[dict[Kind, str]] = {
    "message": f"select {COLUMNS}, {_MARKED.format(text='m.content', options='%(whole)s')}",
    "attachment": "select a.id, a.message_id, a.conversation_id, a.name, a.media_type, a.created_at, "
    "a.text as content, " + _MARKED.format(text="a.text", options="%(around)s"),
    "utterance": "select u.id, r.id as recording_id, r.session_id, u.speaker, u.participant_id, u.start_seconds, "
    "u.end_seconds, r.started_at as recorded_at, u.text as content, "
    + _MARKED.format(text="u.text", options="%(whole)s"),
}
_JOINS: Final[dict[Kind, str]] = {
    "message": "join messages m on m.id = f.id",
    "attachment": "join message_attachments a on a.id = f.id",
    "utterance": "join utterances u on u.id = f.id "
    "join transcriptions t on t.tenant_id = u.tenant_id and t.id = u.transcription_id "
    "join recordings r on r.tenant_id = t.tenant_id and r.id = t.recording_id",
}


def _placed(kind: Kind, statement: str) -> bytes:
    """The statement; of a file, of which a piece is shown, with the place where that begins."""
    if kind != "attachment":
        return statement.encode()
    begin = "strpos(app.search_letters(found.content), translate(found.marked, %(marks)s, ''))"
    return f"select found.*, {begin} as begin from ({statement}) found".encode()  # noqa: S608


_FILTERS: Final = "%(conversation_id)s, %(sender_id)s, %(from_time)s, %(to_time)s, %(has_attachment)s"
# The functions find (60_messaging.sql of the baseline says why they must), row-level security decides once more.
_NEWEST: Final[dict[Kind, bytes]] = {
    kind: _placed(
        kind, f"{_SELECTS[kind]} from app.search_query(%(words)s) q(query), "
        f"app.search_{kind}s(q.query, {_FILTERS}, %(before)s, %(limit)s) f(id) {_JOINS[kind]}",
    )
    for kind in KINDS
}  # fmt: skip
_CHOSEN: Final[dict[Kind, bytes]] = {
    kind: _placed(
        kind, f"{_SELECTS[kind]} from app.any_word(%(words)s) q(query), unnest(%(ids)s::uuid[]) f(id) {_JOINS[kind]}"
    )
    for kind in KINDS
}  # fmt: skip
# Planned anew for every search, statements over many months and policies take longer to plan than to answer.
ONE_PLAN: Final = b"select set_config('plan_cache_mode', 'force_generic_plan', true)"
_BY_WORDS: Final = (
    f"select kind, id, score from app.rank_words(%(words)s, %(kinds)s, {_FILTERS}, %(depth)s)".encode()  # noqa: S608
)
_BY_MEANING: Final = (
    f"select kind, id, 1 - distance as score from app.rank_meaning(%(vector)s::halfvec, %(model)s, "  # noqa: S608
    f"%(kinds)s, {_FILTERS}, %(depth)s)".encode()
)


async def _newest(conn: Connection, wanted: Search, before: UUID, limit: int) -> list[AnyFound]:
    """What holds the words, newest first, from before the id."""
    asked = _values(wanted) | {"before": before, "limit": limit}
    answers = [await conn.execute(_NEWEST[kind], asked) for kind in wanted.kinds]
    found = [
        _found(kind, row, ("words",), Scores())
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
            scores = {by: ranking[kind, row["id"]] for by, ranking in rankings.items() if (kind, row["id"]) in ranking}
            if row["marked"] is not None:
                found[kind, row["id"]] = _found(kind, row, tuple(scores), Scores(**scores))
    return [found[key] for key in chosen if key in found]


async def rank(
    conn: Connection, wanted: Search, question: QuestionVector | None, floor: float = FLOOR
) -> dict[FoundBy, dict[tuple[Kind, UUID], float]]:
    """What is nearest in words and in meaning with its scores, each best first, as far as asked for and to be had."""
    asked = _values(wanted) | {"depth": DEPTH}
    answers: dict[FoundBy, Any] = {}
    if wanted.mode == "both" or question is None:
        answers["words"] = await conn.execute(_BY_WORDS, asked)
    if question is not None:
        vector = "[" + ",".join(map(repr, question.vector)) + "]"
        answers["meaning"] = await conn.execute(_BY_MEANING, asked | {"vector": vector, "model": question.model})
    return {
        by: {
            (row["kind"], row["id"]): row["score"]
            for row in await answer.fetchall()
            if by == "words" or row["score"] >= floor
        }
        for by, answer in answers.items()
    }


def fuse(rankings: Mapping[FoundBy, Iterable[Key]], constant: float = RANK_CONSTANT) -> list[Key]:
    """What is in any of the rankings, best first."""
    return [key for key, _ in reciprocal_rank_fusion(list(map(list, rankings.values())), constant=constant)]


def _values(wanted: Search) -> dict[str, Any]:
    marks = f'StartSel="{_MARKS[0]}", StopSel="{_MARKS[1]}"'
    return wanted.model_dump() | {
        "kinds": list(wanted.kinds), "marks": _MARKS, "whole": f"HighlightAll=true, {marks}",
        "around": f"MaxWords=40, MinWords=20, {marks}",
    }  # fmt: skip


def _found(kind: Kind, row: dict[str, Any], found_by: Sequence[FoundBy], scores: Scores) -> AnyFound:
    """The record, with the marks of the folded text laid over what was written."""
    marked, written = row.pop("marked"), row["content"]
    begin = row.pop("begin", 1) - 1  # of what is marked, in all that was written
    places, end = Places(written), begin + len(marked.translate(_UNMARKED))
    known = begin >= 0 and end <= places.folded_length
    shown = range(places.start(begin), places.end(end)) if known else range(_EXCERPT)
    if kind == "attachment":
        row["content"] = written[shown.start : shown.stop]
    highlights = tuple(
        Highlight(start=places.start(begin + first) - shown.start, end=places.end(begin + last) - shown.start)
        for first, last in (_places(marked) if known else ())
    )
    return _RECORDS[kind].model_validate({**row, "found_by": found_by, "scores": scores, "highlights": highlights})


def _places(marked: str) -> Iterator[tuple[int, int]]:
    """Where the marks lie, counted without the marks themselves."""
    pieces = marked.split(_MARKS[0])
    at = len(pieces[0])
    for piece in pieces[1:]:
        find, _, after = piece.partition(_MARKS[1])
        yield at, at + len(find)
        at += len(find) + len(after)
