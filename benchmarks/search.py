"""Search over 50 tenants: what the visibility rule costs, and whether search by meaning finds the nearest messages.

    ./writecare bench search

Search by words: the route's statement as `wcc_app` under row-level security, compared with the same full-text search
written as a statement with the same conditions and run by a role without policies. Both alternate, prepared; prints the
median of the pairs' ratios. Search by meaning: how many of the ten nearest messages that a person may see are found
(recall@10), and the time over that of an exact search; for people in all of a tenant's conversations down to 1 in 512.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg

from benchmarks.synthetic_messages import MODEL, EmbeddedTurns, SyntheticTenant, as_text, noisy, read_words, seed_talk
from comms.messaging.messages.queries import COLUMNS
from comms.messaging.messages.search import _FILTERS, _NEWEST, ONE_PLAN, _values
from comms.messaging.messages.search_records import Search
from comms.web.pagination import MAX_UUID
from instance.embedded_postgres import EmbeddedPostgres
from instance.provisioning import Databases, provision
from models.artefacts.weights import sentence_encoder
from models.text.embedding import EmbeddingModel

SIZES: Final = (*[4_000] * 49, 40_000)
PAIRS: Final = 9
TIMES: Final = 10
QUESTIONS: Final = 40
WORDS: Final = ("bruise", "tablets", "heel OR bruise", '"left heel"', "night")

PsycopgConnection = psycopg.Connection[tuple[Any, ...]]

# The statement of app.search_messages and its caller, with tenant, person and rule written out.
_RAW: Final = f"""
with found as materialized (
    select s.id from messages s
    where s.words @@ app.search_query(%(words)s) and s.tenant_id = %(tenant)s and s.deleted_at is null
        and s.id < %(before)s and exists (select from conversation_members m
            where m.tenant_id = s.tenant_id and m.conversation_id = s.conversation_id and m.user_id = %(person)s
                and s.id > m.after_id and (m.until_id is null or s.changed_id <= m.until_id)))
select {COLUMNS}, ts_headline('english', app.search_letters(m.content), app.search_query(%(words)s),
    %(whole)s) as marked
from (select id from found order by id desc limit %(limit)s) f join messages m on m.id = f.id
    and m.tenant_id = %(tenant)s
"""
_EXACT: Final = """
select v.message_id from message_vectors v
where v.tenant_id = %(tenant)s and exists (select from conversation_members m
    where m.tenant_id = v.tenant_id and m.conversation_id = v.conversation_id and m.user_id = %(person)s)
order by (v.embedding::vector <=> %(vector)s::vector) + 0 limit 10
"""
_NEAREST: Final = f"select id from app.nearest_messages(%(vector)s::halfvec, '{MODEL}', {_FILTERS}, 10)"


def person_of(administrator: PsycopgConnection, tenant: SyntheticTenant, number: int) -> Any:
    found = administrator.execute(
        "select id from users where tenant_id = %s and slug = %s", (tenant.id, f"person-{number}")
    ).fetchone()
    assert found is not None
    return found[0]


def act_as(conn: PsycopgConnection, tenant: SyntheticTenant, person: Any) -> None:
    conn.execute(
        "select set_config('app.tenant_id', %s, false), set_config('app.user_id', %s, false), "
        "set_config('app.role', 'care_worker', false)",
        (str(tenant.id), str(person)),
    )


def seconds(ask: Callable[[], Any], times: int) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    for _ in range(times):
        ask()
    return (time.perf_counter() - began) / times


def print_words(
    restricted: PsycopgConnection, unrestricted: PsycopgConnection, tenant: SyntheticTenant, person: Any
) -> None:
    """Prints the median ratios for searches with few and with many results."""
    act_as(restricted, tenant, person)
    restricted.execute(ONE_PLAN.replace(b"true", b"false"))
    statement = _NEWEST["message"]
    for words in WORDS:
        values = _values(Search(words=words)) | {
            "before": MAX_UUID, "limit": 51, "tenant": tenant.id, "person": person,
        }  # fmt: skip
        rows = [
            sorted(str(row[0]) for row in conn.execute(asked, values, prepare=True).fetchall())
            for conn, asked in ((restricted, statement), (unrestricted, _RAW.encode()))
        ]
        assert rows[0] == rows[1], "both sides must find the same"
        pairs = [
            (
                seconds(lambda: restricted.execute(statement, values, prepare=True).fetchall(), TIMES),  # noqa: B023
                seconds(lambda: unrestricted.execute(_RAW.encode(), values, prepare=True).fetchall(), TIMES),  # noqa: B023
            )
            for _ in range(PAIRS)
        ]
        ratios = sorted(ours / raw for ours, raw in pairs)
        print(
            f"words {words!r}: {len(rows[0])} found, ours {1e3 * statistics.median(p[0] for p in pairs):.2f} ms, "
            f"raw {1e3 * statistics.median(p[1] for p in pairs):.2f} ms, ratio {statistics.median(ratios):.3f} "
            f"({ratios[1]:.3f} to {ratios[-2]:.3f})", flush=True,
        )  # fmt: skip


def print_meaning(
    restricted: PsycopgConnection,
    unrestricted: PsycopgConnection,
    tenant: SyntheticTenant,
    people: dict[int, Any],
    questions: list[str],
) -> None:
    """Recall@10 and time over the exact look, by how much of the tenant a person sees."""
    for number, person in people.items():
        act_as(restricted, tenant, person)
        values = _values(Search(words="x")) | {"tenant": tenant.id, "person": person}
        recalls, ours, exact = [], [], []
        for question in questions:
            asked = values | {"vector": question}
            began = time.perf_counter()
            near = {row[0] for row in restricted.execute(_NEAREST.encode(), asked).fetchall()}
            between = time.perf_counter()
            every = {row[0] for row in unrestricted.execute(_EXACT.encode(), asked).fetchall()}
            exact.append(time.perf_counter() - between)
            ours.append(between - began)
            recalls.append(len(near & every) / len(every))
        print(
            f"meaning, tenant of {tenant.messages}, one conversation in {1 << number}: recall@10 "
            f"{statistics.mean(recalls):.4f} (least {min(recalls):.1f}), {1e3 * statistics.median(ours):.1f} ms, exact "
            f"{1e3 * statistics.median(exact):.1f} ms, ratio "
            f"{statistics.median(a / b for a, b in zip(ours, exact, strict=True)):.3f}", flush=True,
        )  # fmt: skip


def read_turns(kept: Path) -> EmbeddedTurns:
    """The turns with their vectors. Computed once and cached, because the encoder takes minutes."""
    words = read_words()
    if kept.exists() and (vectors := np.load(kept)).shape[0] == len(words):
        return EmbeddedTurns(words, vectors)
    vectors = EmbeddingModel.load(sentence_encoder()).embed(words)
    np.save(kept, vectors)
    return EmbeddedTurns(words, vectors)


def measure(databases: Databases, turns: EmbeddedTurns) -> None:
    """Seeds the database, measures and prints."""
    began = time.perf_counter()
    tenants = seed_talk(databases.administrator, turns, SIZES)
    print(f"{len(SIZES)} tenants, {sum(SIZES)} messages in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    random = np.random.default_rng(9)
    chosen = turns.vectors[random.choice(len(turns.words), QUESTIONS, replace=False)]
    questions = as_text(noisy(chosen, random))
    with (
        psycopg.connect(databases.app, autocommit=True) as restricted,
        psycopg.connect(databases.administrator, autocommit=True) as unrestricted,
    ):
        for tenant in (tenants[20], tenants[-1]):
            people = {number: person_of(unrestricted, tenant, number) for number in (0, 1, 2, 3, 5, 7, 9)}
            print_words(restricted, unrestricted, tenant, people[0])
            print_meaning(restricted, unrestricted, tenant, people, questions)


def main() -> int:
    """Runs in a database of its own, which is deleted afterwards."""
    turns = read_turns(Path(tempfile.gettempdir()) / "writecare-bench-turns.npy")
    with tempfile.TemporaryDirectory(prefix="writecare-search-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            databases = provision(server.url(), Path(folder) / "keys", maintenance_url=server.url("postgres"))
            measure(databases, turns)
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
