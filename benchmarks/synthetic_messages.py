"""Fills a database with invented messages for search benchmarks: tenants, people, conversations, texts and vectors.

The texts are turns of the invented care conversations (`training/data`); the real encoder computed their vectors. There
are some thousands of different turns. Further messages repeat them, with a little noise on the vector, so that no two
vectors are equal. Triggers and foreign keys are disabled: use it only on test databases.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg
from numpy.typing import NDArray

from models.contract.json_lines import read_json_lines

_DATA: Final = Path(__file__).parents[1] / "training" / "data"
MODEL: Final = "seeded"
NOISE: Final = 0.2  # length of the noise added to a unit vector, before it is normalised again
_CONVERSATION_MESSAGES: Final = 20
_ROWS_AT_ONCE: Final = 20_000
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)

_FUNCTIONS: Final = """
create function pg_temp.seeded_id(kind text, number int) returns uuid language sql stable
    return (lpad(to_hex(floor(extract(epoch from date_trunc('month', now())) * 1000)::bigint + number), 12, '0')
            || '7000' || '8' || substr(md5(kind || current_setting('seed.tenant')), 1, 15))::uuid;
"""
# People 0 to 9: 0 is in every conversation, person n > 0 in one of 2^n.
_TENANT: Final = """
insert into tenants (id, slug, name) select %(tenant)s, 'talk-' || replace(%(tenant)s::text, '-', ''), 'Seeded';
insert into users (tenant_id, id, slug, display_name, role)
    select %(tenant)s, pg_temp.seeded_id('user', n), 'person-' || n, 'Person ' || n, 'care_worker'
    from generate_series(0, 9) n;
insert into conversations (tenant_id, id, conversation_type, created_by, moment)
    select %(tenant)s, pg_temp.seeded_id('conversation', n), 'group', pg_temp.seeded_id('user', 0), uuidv7()
    from generate_series(0, %(conversations)s - 1) n;
insert into conversation_members (tenant_id, conversation_id, user_id, added_by, after_id)
    select %(tenant)s, pg_temp.seeded_id('conversation', n), pg_temp.seeded_id('user', p),
        pg_temp.seeded_id('user', 0), '00000000-0000-0000-0000-000000000000'
    from generate_series(0, %(conversations)s - 1) n, generate_series(0, 9) p where n %% (1 << p) = 0;
insert into messages (tenant_id, id, conversation_id, sender_id, sender_type, content, changed_id)
    select %(tenant)s, m.id, pg_temp.seeded_id('conversation', n %% %(conversations)s),
        pg_temp.seeded_id('user', 0), 'user',
        (select content from pg_temp.turn where turn.n = (%(first)s + m.n) %% %(turns)s), m.id
    from (select n, pg_temp.seeded_id('message', n) as id from generate_series(0, %(messages)s - 1) n) m;
"""


@dataclass(frozen=True)
class EmbeddedTurns:
    """The texts and their embeddings: (turns, 384) float32, each of length 1."""

    words: tuple[str, ...]
    vectors: NDArray[np.float32]


@dataclass(frozen=True)
class SyntheticTenant:
    """An added tenant."""

    id: uuid.UUID
    messages: int


def read_words() -> tuple[str, ...]:
    """Every different turn of the invented conversations."""
    files = sorted(_DATA.glob("care_conversations/train-*.jsonl"))
    lines = [row for file in files for row in read_json_lines(file)]
    return tuple(dict.fromkeys(turn["text"] for line in lines for turn in line["turns"]))


def seed_talk(administrator_url: str, turns: EmbeddedTurns, sizes: Sequence[int]) -> list[SyntheticTenant]:
    """Adds a tenant for each of `sizes` with so many messages, then rebuilds the vector indexes."""
    made = []
    random = np.random.default_rng(8)
    with psycopg.connect(administrator_url, autocommit=True) as conn:
        # inserting into the index row by row would take ten times as long
        conn.execute("drop index message_vectors_meaning")
        conn.execute(_FUNCTIONS)
        conn.execute("create temporary table turn (n int primary key, content text)")
        with conn.cursor() as cursor:
            cursor.executemany("insert into turn values (%s, %s)", list(enumerate(turns.words)))
        first = 0
        for size in sizes:
            made.append(_add_tenant(conn, turns, first, size, random))
            first += size
        conn.execute("set maintenance_work_mem = '2GB'")
        conn.execute(
            "create index message_vectors_meaning on message_vectors using hnsw (embedding halfvec_cosine_ops) "
            "with (m = 24, ef_construction = 128)"
        )
        conn.execute("vacuum analyze")
    return made


def _add_tenant(
    conn: "psycopg.Connection[tuple[Any, ...]]",
    turns: EmbeddedTurns,
    first: int,
    size: int,
    random: np.random.Generator,
) -> SyntheticTenant:
    tenant = SyntheticTenant(uuid.uuid4(), size)
    values = {
        "tenant": tenant.id, "first": first, "messages": size, "turns": len(turns.words),
        "conversations": size // _CONVERSATION_MESSAGES,
    }  # fmt: skip
    with psycopg.ClientCursor(conn) as cursor, conn.transaction():
        cursor.execute("set local session_replication_role = replica")
        cursor.execute("select set_config('seed.tenant', %s, true)", (str(tenant.id),))
        cursor.execute(_TENANT, values)
        cursor.execute("select id, conversation_id from messages where tenant_id = %s order by id", (tenant.id,))
        placed = cursor.fetchall()
        with cursor.copy(
            "copy message_vectors (tenant_id, message_id, conversation_id, embedding, model) from stdin (format binary)"
        ) as copy:
            copy.write(_SIGNATURE)
            for begin in range(0, size, _ROWS_AT_ONCE):
                rows = placed[begin : begin + _ROWS_AT_ONCE]
                at = (first + begin + np.arange(len(rows))) % len(turns.words)
                copy.write(_rows(tenant.id, rows, noisy(turns.vectors[at], random)))
            copy.write(b"\xff\xff")
    return tenant


def noisy(vectors: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """The vectors with a little noise, of length 1."""
    noise = random.standard_normal(vectors.shape, dtype=np.float32) * (NOISE / np.sqrt(vectors.shape[1]))
    moved = vectors + noise
    answer: NDArray[np.float32] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return answer


def as_text(vectors: NDArray[np.float32]) -> list[str]:
    """The vectors in the text form that the database reads."""
    return ["[" + ",".join(map(repr, row)) + "]" for row in vectors.tolist()]


def _rows(tenant_id: uuid.UUID, ids: Sequence[tuple[Any, ...]], vectors: NDArray[np.float32]) -> bytes:
    """Rows in PostgreSQL's binary format, written by numpy: as text this would take an hour."""
    model = MODEL.encode()
    parts = [
        ("fields", ">i2", 5), ("tenant_size", ">i4", 16), ("tenant", "V16", tenant_id.bytes),
        ("message_size", ">i4", 16), ("message", "V16", None), ("conversation_size", ">i4", 16),
        ("conversation", "V16", None), ("vector_size", ">i4", 4 + 2 * vectors.shape[1]),
        ("dimensions", ">i2", vectors.shape[1]), ("unused", ">i2", 0), ("vector", f"({vectors.shape[1]},)>f2", vectors),
        ("model_size", ">i4", len(model)), ("model", f"V{len(model)}", model),
    ]  # fmt: skip
    rows = np.zeros(len(ids), dtype=[(name, kind) for name, kind, _ in parts])
    for name, _, value in parts:
        if value is not None:
            rows[name] = value
    rows["message"] = np.frombuffer(b"".join(message.bytes for message, _ in ids), dtype="V16")
    rows["conversation"] = np.frombuffer(b"".join(conversation.bytes for _, conversation in ids), dtype="V16")
    return rows.tobytes()
