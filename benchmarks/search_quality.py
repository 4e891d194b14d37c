"""Compares search by words and meaning together with search by each of them, on QMSum, through the product's search.

    python -m benchmarks.search_quality --qmsum DIR [--split val]

Each meeting of QMSum becomes a conversation and each utterance a message with a vector of the real encoder. A member of
the conversation sends each of the meeting's specific queries, unchanged, to `comms.messaging.messages.search`. A
message is a hit if it lies in the query's relevant spans. The metric is the mean over queries of 1 / rank of the first
hit (MRR), with an interval over meetings, and how often a hit is among the first ten. The baselines, asked in the same
run, are the ranking by words only and the ranking by meaning only.
"""

import argparse
import asyncio
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

from benchmarks.synthetic_messages import MODEL, as_text
from comms.kernel.database import Actor, Database
from comms.messaging.messages.search import fuse_rankings, rank
from comms.messaging.messages.search_records import FoundBy, Search
from instance.embedded_postgres import EmbeddedPostgres
from instance.provisioning import Databases, provision
from models.artefacts.weights import sentence_encoder
from models.contract.endpoints import SearchVector
from models.text.embedding import EmbeddingModel
from training.evaluate_search import Collection, Query, read_collection
from training.metrics import bootstrap_mean

CONSTANTS: Final = (1.0, 5.0, 10.0, 20.0, 60.0)  # of the rank fusion, tried with --tries
FIRST: Final = 10
_LONGEST: Final = 10_000  # characters of a message

_TENANT: Final = """
insert into tenants (id, slug, name) values ({tenant}, 'meetings', 'QMSum');
insert into users (tenant_id, id, slug, display_name, role)
    values ({tenant}, {person}, 'reader', 'Reader', 'care_manager');
"""
_CONVERSATION: Final = """
insert into conversations (tenant_id, id, conversation_type, created_by, moment)
    values ({tenant}, {conversation}, 'group', {person}, uuidv7());
insert into conversation_members (tenant_id, conversation_id, user_id, added_by, after_id)
    values ({tenant}, {conversation}, {person}, {person}, '00000000-0000-0000-0000-000000000000');
"""
_MESSAGE: Final = """
with sent as (insert into messages (tenant_id, id, conversation_id, sender_id, sender_type, content, changed_id)
    select %(tenant)s, fresh.id, %(conversation)s, %(person)s, 'user', %(content)s, fresh.id
    from (select uuidv7() as id) fresh returning id)
insert into message_vectors (tenant_id, message_id, conversation_id, embedding, model)
    select %(tenant)s, sent.id, %(conversation)s, %(vector)s::halfvec, %(model)s from sent returning message_id
"""


@dataclass(frozen=True)
class StoredMeetings:
    """The meetings in the database: the conversation of each meeting, and the position of each message in it."""

    actor: Actor
    conversations: tuple[uuid.UUID, ...]
    places: Mapping[uuid.UUID, int]


def store_meetings(administrator_url: str, collection: Collection, vectors: Mapping[str, str]) -> StoredMeetings:
    """Adds the meetings. Disables triggers and foreign keys: only for a database of its own."""
    actor = Actor(uuid.uuid4(), uuid.uuid4(), "care_manager")
    conversations, places = [], {}
    with psycopg.connect(administrator_url) as conn:
        conn.execute("set local session_replication_role = replica")
        named = {"tenant": sql.Literal(actor.tenant_id), "person": sql.Literal(actor.user_id)}
        conn.execute(sql.SQL(_TENANT).format(**named))
        for meeting in collection.meetings:
            conversation = uuid.uuid4()
            conversations.append(conversation)
            conn.execute(sql.SQL(_CONVERSATION).format(**named, conversation=sql.Literal(conversation)))
            with conn.cursor() as cursor:
                whose = {"tenant": actor.tenant_id, "person": actor.user_id, "conversation": conversation}
                said = [
                    whose | {"content": _words(line)[:_LONGEST], "vector": vectors[line], "model": MODEL}
                    for line in meeting
                ]
                cursor.executemany(_MESSAGE, said, returning=True)
                for at in range(len(said)):
                    row = cursor.fetchone()
                    assert row is not None, "one row per message"
                    places[row[0]] = at
                    cursor.nextset()
        conn.commit()
        conn.autocommit = True
        conn.execute("vacuum analyze")
    return StoredMeetings(actor, tuple(conversations), places)


def _words(line: str) -> str:
    """The text without the speaker's name: the sender is not part of a message's text."""
    return line.partition(": ")[2] or "-"


Ranking = tuple[int, ...]  # positions in the meeting, best first


async def ask(
    database: Database, stored: StoredMeetings, query: Query, vector: Sequence[float]
) -> dict[FoundBy, Ranking]:
    """Both rankings of one query, as the search computes them."""
    wanted = Search(words=query.text[:500], mode="both", conversation_id=stored.conversations[query.meeting])
    question = SearchVector(vector=tuple(vector), model=MODEL)
    async with database.acting_as(stored.actor) as conn:
        found = await rank(conn, wanted, question)
    return {by: tuple(stored.places[id] for _, id in ranking) for by, ranking in found.items()}


def reciprocal_rank(ranking: Sequence[int], query: Query) -> float:
    """1 / rank of the first hit; 0 if there is none."""
    for number, at in enumerate(ranking, start=1):
        if any(first <= at <= last for first, last in query.spans):
            return 1.0 / number
    return 0.0


def report(collection: Collection, rankings: Sequence[Mapping[FoundBy, Ranking]], constants: Sequence[float]) -> None:
    """Prints the figures of each way, and the gain of both together over each."""
    groups = np.asarray([query.meeting for query in collection.queries])
    ways: dict[str, list[Sequence[int]]] = {
        "words": [found["words"] for found in rankings],
        "meaning": [found["meaning"] for found in rankings],
        "both": [fuse_rankings(found) for found in rankings],
    }
    for constant in constants:
        ways[f"both, constant {constant:g}"] = [fuse_rankings(found, constant) for found in rankings]
    figures: dict[str, NDArray[np.float64]] = {}
    for name, found in ways.items():
        figures[name] = np.asarray(
            [reciprocal_rank(row, query) for row, query in zip(found, collection.queries, strict=True)]
        )
        mean = bootstrap_mean(groups, figures[name])
        print(
            f"{name:24} MRR {mean.value:.3f} ({mean.low:.3f} to {mean.high:.3f}), among the first {FIRST}: "
            f"{(figures[name] >= 1 / FIRST).mean():.3f}"
        )
    for name in ("words", "meaning"):
        gain = bootstrap_mean(groups, figures["both"] - figures[name])
        print(f"both minus {name:8} {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})")


async def measure(databases: Databases, collection: Collection, model: EmbeddingModel) -> list[dict[FoundBy, Ranking]]:
    """Seeds the database and runs every query."""
    lines = sorted({line for meeting in collection.meetings for line in meeting})
    vectors = dict(zip(lines, as_text(model.embed([_words(line) for line in lines])), strict=True))
    stored = store_meetings(databases.administrator, collection, vectors)
    print(f"{len(collection.meetings)} meetings, {len(stored.places)} messages, {len(collection.queries)} queries",
          file=sys.stderr)  # fmt: skip
    asked = model.embed([query.text for query in collection.queries]).tolist()
    database = Database(databases.app, most=1)
    await database.open()
    try:
        return [await ask(database, stored, *one) for one in zip(collection.queries, asked, strict=True)]
    finally:
        await database.close()


def main() -> int:
    """Runs in a database of its own, which is deleted afterwards."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.search_quality", description=__doc__)
    arguments.add_argument(
        "--qmsum", type=Path, required=True, metavar="DIR", help="the folder that holds train/, val/"
    )
    arguments.add_argument("--split", choices=("train", "val"), default="val")
    arguments.add_argument("--most", type=int, default=None, help="use only the first N meetings")
    arguments.add_argument("--tries", action="store_true", help="also try other constants of the rank fusion")
    options = arguments.parse_args()
    collection = read_collection(options.qmsum / options.split)
    if options.most is not None:
        collection = Collection(
            collection.meetings[: options.most], tuple(one for one in collection.queries if one.meeting < options.most)
        )
    with tempfile.TemporaryDirectory(prefix="writecare-meetings-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            databases = provision(server.url(), Path(folder) / "keys", maintenance_url=server.url("postgres"))
            rankings = asyncio.run(measure(databases, collection, EmbeddingModel.load(sentence_encoder())))
        finally:
            server.stop()
    report(collection, rankings, CONSTANTS if options.tries else ())
    return 0


if __name__ == "__main__":
    sys.exit(main())
