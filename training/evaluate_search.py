"""Evaluates search on meetings: full text, vectors, and both fused. `python -m training.evaluate_search --qmsum DIR`.

Every specific query of QMSum's `val` meetings is searched in the passages of its own meeting (windows over utterances,
`models/search/rank_fusion`). A passage is a hit if at least half of its words are in utterances of the query's
relevant spans. The metric is the mean over queries of 1 / rank of the first hit (MRR), 0 if none is found. Full text
uses a real PostgreSQL, started for this evaluation. Vectors are all-MiniLM-L6-v2 vectors of utterances, pooled.
"""

import argparse
import asyncio
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from comms.kernel.database import Connection, Database
from instance.embedded_postgres import EmbeddedPostgres
from models.artefacts.weights import sentence_encoder
from models.search.rank_fusion import Passage, pool_passages, reciprocal_rank_fusion, split_passages
from models.text.embedding import EmbeddingModel
from training.metrics import bootstrap_mean

_FRAME: Final = re.compile(  # words of the question form, not of its topic
    r"^(?:please\s+)?(?:summari[sz]e|describe|discuss|explain)\s+|\b(?:what|why|how|when|who|did|does|do|was|were|is|are|the"
    r"|think|say|said|about|discussion|meeting|group|team|discussed?|discussing|talk(?:ed|ing)?|mention(?:ed)?|opinion)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class SearchSettings:
    """How passages are cut and ranked. The defaults were chosen in training/LOG.md."""

    words: int = 15  # of a passage, at most, unless one utterance is longer
    overlap: float = 0.5
    depth: int = 50  # number of results of each ranking that are fused
    constant: float = 5.0  # lower than the usual 60, because only the first hit counts here
    text_weight: float = 1.0
    vector_weight: float = 1.0


@dataclass(frozen=True)
class Query:
    """`spans`: first and last relevant utterance of each span, both included."""

    meeting: int
    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Collection:
    """`meetings`: the utterances of each meeting, as 'Speaker: words'."""

    meetings: tuple[tuple[str, ...], ...]
    queries: tuple[Query, ...]


def read_collection(directory: Path) -> Collection:
    """Reads QMSum's files of one split, only their specific queries."""
    meetings: list[tuple[str, ...]] = []
    queries: list[Query] = []
    for file in sorted(directory.glob("*.json")):
        document = json.loads(file.read_text(encoding="utf-8"))
        said = document["meeting_transcripts"]
        for asked in document["specific_query_list"]:
            spans = tuple((int(first), int(last)) for first, last in asked["relevant_text_span"])
            queries.append(Query(len(meetings), asked["query"], spans))
        meetings.append(tuple(f"{turn['speaker']}: {turn['content']}" for turn in said))
    return Collection(tuple(meetings), tuple(queries))


def strip_question_words(query: str) -> str:
    """The topic words of the query. If none are left, the query itself."""
    return " ".join(_FRAME.sub(" ", query).split()) or query


def is_hit(passage: Passage, lengths: Sequence[int], spans: Sequence[tuple[int, int]]) -> bool:
    """Whether at least half of the passage's words are relevant."""
    inside = range(passage.first, passage.last + 1)
    relevant = sum(lengths[at] for at in inside if any(first <= at <= last for first, last in spans))
    return 2 * relevant >= max(1, sum(lengths[at] for at in inside))


def reciprocal_rank(ranking: Sequence[int], hits: NDArray[np.bool_]) -> float:
    """1 / rank of the first passage that is a hit; 0 if none is ranked."""
    return next((1.0 / rank for rank, at in enumerate(ranking, start=1) if hits[at]), 0.0)


async def rank_by_text(
    conn: Connection, texts: Sequence[Sequence[str]], asked: Sequence[tuple[int, str]]
) -> list[list[int]]:
    """For each (meeting, query) the meeting's passages that share a word with the query, best first.

    One shared word is enough. Each word is weighted by its rarity in the meeting, which `ts_rank` does not do.
    """
    await conn.execute(
        "create temporary table passage (meeting int, at int, document tsvector, primary key (meeting, at)) "
        "on commit drop"
    )
    async with conn.cursor() as cursor:
        await cursor.executemany(
            "insert into passage values (%s, %s, to_tsvector('english', %s))",
            [(meeting, at, text) for meeting, rows in enumerate(texts) for at, text in enumerate(rows)],
        )
    await conn.execute(
        "create temporary table word on commit drop as select meeting, lexeme, count(*) as passages "
        "from passage, unnest(tsvector_to_array(document)) as lexeme group by meeting, lexeme"
    )
    await conn.execute("create index on word (meeting, lexeme)")
    rankings = []
    for meeting, query in asked:
        found = await conn.execute(
            """
            with size as (select count(*)::float as passages from passage where meeting = %(meeting)s),
            asked as (
                select lexeme, ln(1 + (size.passages - word.passages + 0.5) / (word.passages + 0.5)) as rarity
                from word, size
                where meeting = %(meeting)s and lexeme = any (tsvector_to_array(to_tsvector('english', %(query)s)))
            )
            select at, sum(rarity * ts_rank(array[1, 1, 1, 1], document, quote_literal(lexeme)::tsquery)) as score
            from passage join asked on document @@ quote_literal(lexeme)::tsquery
            where meeting = %(meeting)s
            group by at order by score desc, at
            """,
            {"meeting": meeting, "query": query},
        )
        rankings.append([int(row["at"]) for row in await found.fetchall()])
    return rankings


def rank_by_vectors(query: NDArray[np.float32], rows: NDArray[np.float32]) -> list[int]:
    """All passages of `rows` (passages, dimensions), nearest to `query` first."""
    return [int(at) for at in np.argsort(-(rows @ query), kind="stable")]


def fuse_rankings(by_text: Sequence[int], by_vectors: Sequence[int], settings: SearchSettings) -> list[int]:
    """Fuses the first `settings.depth` results of both rankings into one ranking."""
    found = reciprocal_rank_fusion(
        [by_text[: settings.depth], by_vectors[: settings.depth]],
        [settings.text_weight, settings.vector_weight],
        settings.constant,
    )
    return [at for at, _ in found]


async def evaluate(
    collection: Collection, vectors: Mapping[str, NDArray[np.float32]], settings: SearchSettings, conn: Connection
) -> dict[str, Any]:
    """MRR of full text, vectors and both, with intervals over meetings, and the gain of the fusion over each.

    `vectors`: text -> vector, for every utterance and every unchanged query.
    """
    lengths = [[len(text.split()) for text in said] for said in collection.meetings]
    windows = [split_passages(sizes, settings.words, settings.overlap) for sizes in lengths]
    texts = [
        ["\n".join(said[window.first : window.last + 1]) for window in cut]
        for said, cut in zip(collection.meetings, windows, strict=True)
    ]
    rows = [
        pool_passages(np.stack([vectors[text] for text in said]), sizes, cut)
        for said, sizes, cut in zip(collection.meetings, lengths, windows, strict=True)
    ]
    by_text = await rank_by_text(
        conn, texts, [(query.meeting, strip_question_words(query.text)) for query in collection.queries]
    )
    by_vectors = [rank_by_vectors(vectors[query.text], rows[query.meeting]) for query in collection.queries]
    hits = [
        np.asarray([is_hit(window, lengths[query.meeting], query.spans) for window in windows[query.meeting]])
        for query in collection.queries
    ]
    found = {
        "full text": by_text,
        "vectors": by_vectors,
        "fused": [fuse_rankings(text, near, settings) for text, near in zip(by_text, by_vectors, strict=True)],
    }
    groups = np.asarray([query.meeting for query in collection.queries])
    ranks = {
        name: np.asarray([reciprocal_rank(row, hit) for row, hit in zip(rankings, hits, strict=True)])
        for name, rankings in found.items()
    }
    figures: dict[str, Any] = {
        "meetings": len(collection.meetings),
        "queries": len(collection.queries),
        "passages": sum(len(cut) for cut in windows),
        "hits by chance": float(np.mean([hit.mean() for hit in hits])),
    }
    for name, values in ranks.items():
        figures[name] = bootstrap_mean(groups, values).__dict__
    for name in ("full text", "vectors"):
        figures[f"fused minus {name}"] = bootstrap_mean(groups, ranks["fused"] - ranks[name]).__dict__
    return figures


def read_vectors(collection: Collection, model: EmbeddingModel) -> dict[str, NDArray[np.float32]]:
    """A vector for each utterance and each query."""
    lines = sorted({line for meeting in collection.meetings for line in meeting})
    queries = sorted({query.text for query in collection.queries})
    # only the words, without the speaker's name
    rows = model.embed([*(line.partition(": ")[2] for line in lines), *queries])
    return dict(zip([*lines, *queries], rows, strict=True))


async def with_postgres(
    collection: Collection, vectors: Mapping[str, NDArray[np.float32]], settings: SearchSettings
) -> Any:
    """Runs `evaluate` on a PostgreSQL that is started and stopped by this call."""
    with tempfile.TemporaryDirectory() as directory:
        server = EmbeddedPostgres(Path(directory))
        server.start()
        try:
            database = Database(server.url("postgres"), most=1)
            await database.open()
            try:
                async with database.without_tenant() as conn:
                    return await evaluate(collection, vectors, settings, conn)
            finally:
                await database.close()
        finally:
            server.stop()


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m training.evaluate_search", description=__doc__)
    arguments.add_argument("--qmsum", type=Path, required=True, metavar="DIR", help="the folder with val/")
    options = arguments.parse_args()
    collection = read_collection(options.qmsum / "val")
    vectors = read_vectors(collection, EmbeddingModel(sentence_encoder()))
    print(json.dumps(asyncio.run(with_postgres(collection, vectors, SearchSettings())), indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
