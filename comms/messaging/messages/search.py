"""Searches messages, attachments and transcripts of calls, by words and by meaning, as far as the actor may see them.

By words: English full-text search, newest first, with or without accents. By meaning: vectors nearest to the vector of
the query, up to a distance. By both: a ranking by words (any word matches; rare words count more) and a ranking by
meaning, fused into one. `highlights` gives the character ranges of words that match; results without such words have
none.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from comms.kernel.database import Connection, one
from comms.messaging.messages.folded_offsets import FoldedOffsets
from comms.messaging.messages.queries import COLUMNS
from comms.messaging.messages.search_records import (
    RESULT_KINDS,
    AnyFound,
    FoundAttachment,
    FoundBy,
    FoundMessage,
    FoundPage,
    FoundUtterance,
    Highlight,
    Hint,
    ResultKind,
    Scores,
    Search,
)
from comms.web.pagination import MAX_UUID
from models.contract.endpoints import SearchVector
from models.search.rank_fusion import RANK_CONSTANT, reciprocal_rank_fusion

Key = TypeVar("Key", bound=Hashable)

DEPTH: Final = 200  # length of each ranking, and so the last result that pages reach
# Minimum cosine similarity of a result by meaning: unrelated texts are about that similar (docs/decisions/0039 has the
# figures).
FLOOR: Final = 0.3
# PostgreSQL puts these around each match. They are private-use characters and no letters, so app.search_letters leaves
# none of them in the text.
_MARKS: Final = "\ue000\ue001"
_UNMARKED: Final = str.maketrans("", "", _MARKS)
_EXCERPT: Final = 400  # characters of a file's text to show if the offset of the match is not known


_RECORDS: Final[dict[ResultKind, type[AnyFound]]] = {
    "message": FoundMessage, "attachment": FoundAttachment, "utterance": FoundUtterance,
}  # fmt: skip


async def search(
    conn: Connection, wanted: Search, question: SearchVector | None, *, cursor: UUID | None, limit: int
) -> FoundPage:
    """One page of results after the result with the id `cursor`.

    `question` is the vector of the query. If it is None, only words are searched.
    """
    await conn.execute(ONE_PLAN)
    if wanted.mode == "words":
        found = await _newest(conn, wanted, cursor or MAX_UUID, limit + 1)
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
        return Hint(code="no-letters", detail="The search has no letters or digits: enter at least one.")
    return Hint(code="only-common-words", detail="These words are too common: add a less common word.")


# --- what is found, read under row-level security ---------------------------------------------------------------------

_EMPTY: Final = (
    b"select btrim(app.search_letters(%(words)s)) = '' as lacks_letters, "
    b"numnode(app.search_query(%(words)s)) = 0 as lacks_words"
)
_MARKED: Final = "ts_headline('english', app.search_letters({text}), q.query, {options}) as marked "
_SELECTS: Final[dict[ResultKind, str]] = {
    "message": f"select {COLUMNS}, {_MARKED.format(text='m.content', options='%(whole)s')}",
    "attachment": "select a.id, a.message_id, a.conversation_id, a.name, a.media_type, a.created_at, "
    "a.text as content, " + _MARKED.format(text="a.text", options="%(around)s"),
    "utterance": "select u.id, r.id as recording_id, r.session_id, u.speaker, u.participant_id, u.start_seconds, "
    "u.end_seconds, r.started_at as recorded_at, u.text as content, "
    + _MARKED.format(text="u.text", options="%(whole)s"),
}
_JOINS: Final[dict[ResultKind, str]] = {
    "message": "join messages m on m.id = f.id",
    "attachment": "join message_attachments a on a.id = f.id",
    "utterance": "join utterances u on u.id = f.id "
    "join transcriptions t on t.tenant_id = u.tenant_id and t.id = u.transcription_id "
    "join recordings r on r.tenant_id = t.tenant_id and r.id = t.recording_id",
}


def _placed(kind: ResultKind, statement: str) -> bytes:
    """The statement as bytes. For attachments it also returns `begin`, the offset of the excerpt in the text."""
    if kind != "attachment":
        return statement.encode()
    begin = "strpos(app.search_letters(found.content), translate(found.marked, %(marks)s, ''))"
    return f"select found.*, {begin} as begin from ({statement}) found".encode()  # noqa: S608


_FILTERS: Final = "%(conversation_id)s, %(sender_id)s, %(from_time)s, %(to_time)s, %(has_attachment)s"
# The functions find the rows (60_messaging.sql of the baseline explains why); row-level security checks them again.
_NEWEST: Final[dict[ResultKind, bytes]] = {
    kind: _placed(
        kind, f"{_SELECTS[kind]} from app.search_query(%(words)s) q(query), "
        f"app.search_{kind}s(q.query, {_FILTERS}, %(before)s, %(limit)s) f(id) {_JOINS[kind]}",
    )
    for kind in RESULT_KINDS
}  # fmt: skip
_CHOSEN: Final[dict[ResultKind, bytes]] = {
    kind: _placed(
        kind, f"{_SELECTS[kind]} from app.any_word(%(words)s) q(query), unnest(%(ids)s::uuid[]) f(id) {_JOINS[kind]}"
    )
    for kind in RESULT_KINDS
}  # fmt: skip
# One generic plan: to plan statements over many partitions and policies for each search takes longer than to run them.
ONE_PLAN: Final = b"select set_config('plan_cache_mode', 'force_generic_plan', true)"
_BY_WORDS: Final = (
    f"select kind, id, score from app.rank_words(%(words)s, %(kinds)s, {_FILTERS}, %(depth)s)".encode()  # noqa: S608
)
_BY_MEANING: Final = (
    f"select kind, id, 1 - distance as score from app.rank_meaning(%(vector)s::halfvec, %(model)s, "  # noqa: S608
    f"%(kinds)s, {_FILTERS}, %(depth)s)".encode()
)


async def _newest(conn: Connection, wanted: Search, before: UUID, limit: int) -> list[AnyFound]:
    """Results that contain the words, newest first, before the id `before`."""
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
    conn: Connection, wanted: Search, question: SearchVector | None, cursor: UUID | None, limit: int
) -> list[AnyFound]:
    """The best results of both rankings, or of the only one that is asked for or available, after the id `cursor`."""
    rankings = await rank(conn, wanted, question)
    order = fuse_rankings(rankings)
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
    conn: Connection, wanted: Search, question: SearchVector | None, floor: float = FLOOR
) -> dict[FoundBy, dict[tuple[ResultKind, UUID], float]]:
    """The rankings by words and by meaning, as far as asked for and available: the score of each result, best first."""
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


def fuse_rankings(rankings: Mapping[FoundBy, Iterable[Key]], constant: float = RANK_CONSTANT) -> list[Key]:
    """All keys of the rankings in one order, best first."""
    return [key for key, _ in reciprocal_rank_fusion(list(map(list, rankings.values())), constant=constant)]


def _values(wanted: Search) -> dict[str, Any]:
    marks = f'StartSel="{_MARKS[0]}", StopSel="{_MARKS[1]}"'
    return wanted.model_dump() | {
        "kinds": list(wanted.kinds), "marks": _MARKS, "whole": f"HighlightAll=true, {marks}",
        "around": f"MaxWords=40, MinWords=20, {marks}",
    }  # fmt: skip


def _found(kind: ResultKind, row: dict[str, Any], found_by: Sequence[FoundBy], scores: Scores) -> AnyFound:
    """Makes the record of a result; maps the marks in the folded text to offsets in the original text."""
    marked, written = row.pop("marked"), row["content"]
    begin = row.pop("begin", 1) - 1  # offset of the marked excerpt in the whole text
    places, end = FoldedOffsets(written), begin + len(marked.translate(_UNMARKED))
    known = begin >= 0 and end <= places.folded_length
    shown = range(places.start(begin), places.end(end)) if known else range(_EXCERPT)
    if kind == "attachment":
        row["content"] = written[shown.start : shown.stop]
    highlights = tuple(
        Highlight(start=places.start(begin + first) - shown.start, end=places.end(begin + last) - shown.start)
        for first, last in (_highlight_ranges(marked) if known else ())
    )
    return _RECORDS[kind].model_validate({**row, "found_by": found_by, "scores": scores, "highlights": highlights})


def _highlight_ranges(marked: str) -> Iterator[tuple[int, int]]:
    """The ranges between the marks, in offsets that do not count the marks."""
    pieces = marked.split(_MARKS[0])
    at = len(pieces[0])
    for piece in pieces[1:]:
        find, _, after = piece.partition(_MARKS[1])
        yield at, at + len(find)
        at += len(find) + len(after)
