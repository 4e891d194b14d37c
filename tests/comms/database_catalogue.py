"""Reads the live database catalogue for generated tests: every table, one row in each, and what a tenant has in it.

A new table is included automatically. If its row cannot be generated from the catalogue, add values to `VALUES`.
"""

import hashlib
import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import psycopg
import uuid_utils.compat as uuid_utils
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

Catalogue = psycopg.Connection[TupleRow]

# Values that cannot be derived from a column's type and constraints, by table and column.
VALUES: Final[dict[tuple[str, str], Any]] = {
    ("tenants", "slug"): lambda: f"filled-{uuid.uuid4().hex}",
    ("users", "slug"): lambda: f"filled-{uuid.uuid4().hex}",
    ("conversations", "conversation_type"): lambda: "group",
    ("messages", "sender_type"): lambda: "system",
    ("messages", "content"): lambda: "x",
    ("message_vectors", "message_id"): uuid_utils.uuid7,  # now, because a partition for it exists
    ("broken_glass", "session_id"): uuid.uuid4,
    ("alerts", "conversation_id"): uuid.uuid4,
    ("alert_evidence", "utterance_id"): uuid.uuid4,
}
_BY_TYPE: Final[dict[str, Any]] = {
    "uuid": uuid.uuid4, "text": lambda: f"x-{uuid.uuid4().hex}",
    "boolean": lambda: True, "double precision": lambda: 0.5, "jsonb": lambda: Jsonb({}), "bytea": lambda: bytes(32),
    "timestamp with time zone": lambda: "2026-01-01T00:00:00Z", "inet": lambda: "192.0.2.1", "ARRAY": lambda: ["x"],
    "real": lambda: 0.5, "numeric": lambda: 1, "date": lambda: "2026-01-01",
    "interval": lambda: "1 day",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """One of our tables: its writable columns, and the column with its tenant."""

    name: str
    columns: tuple[str, ...]
    keys: frozenset[str]  # part of a key: a test must not overwrite it freely

    @property
    def owner(self) -> str:
        return "id" if self.name == "tenants" else "tenant_id"


def tables(conn: Catalogue) -> list[Table]:
    """Every one of our tables that contains rows of tenants."""
    found = conn.execute(
        "select c.relname, array_agg(a.attname::text order by a.attnum) filter (where a.attgenerated = ''), "
        "array(select distinct k.attname::text from pg_attribute k where k.attrelid = c.oid and k.attnum > 0 and ("
        "  exists (select from pg_index i where i.indrelid = c.oid and i.indisunique and k.attnum = any(i.indkey)) or "
        "  exists (select from pg_constraint f where f.conrelid = c.oid and k.attnum = any(f.conkey)))) "
        "from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid "
        "where n.nspname = 'public' and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped "
        "and c.relname <> 'schema_migrations' group by c.oid, c.relname order by c.relname"
    )
    return [Table(name, tuple(columns), frozenset(keys)) for name, columns, keys in found.fetchall()]


def fill(conn: Catalogue, tenant_id: uuid.UUID, names: Collection[str] | None = None) -> None:
    """Inserts a row of the tenant into every table (or those of `names`), without foreign keys and triggers.

    The caller rolls the transaction back.
    """
    conn.execute("set local session_replication_role = replica")
    for table in tables(conn):
        if names is not None and table.name not in names:
            continue
        row = _row(conn, table, tenant_id)
        columns = ", ".join(row)
        places = ", ".join(["%s"] * len(row))
        try:
            conn.execute(f"insert into {table.name} ({columns}) values ({places})".encode(), list(row.values()))
        except psycopg.Error as error:
            raise AssertionError(
                f"no row for {table.name} can be generated ({error}): add a value to VALUES in {__file__}"
            ) from error
    conn.execute("set local session_replication_role = origin")


def _row(conn: Catalogue, table: Table, tenant_id: uuid.UUID) -> dict[str, Any]:
    """Values for the columns that need one."""
    needed = conn.execute(
        "select column_name, data_type, udt_name from information_schema.columns "
        "where table_schema = 'public' and table_name = %s and is_nullable = 'NO' and column_default is null "
        "and is_generated = 'NEVER' and is_identity = 'NO'",
        (table.name,),
    ).fetchall()
    row = {column: value() for (name, column), value in VALUES.items() if name == table.name}
    for column, type, own_type in needed:
        rules = _rules(conn, table, column)
        allowed = [word for rule in rules if " ANY " in rule for word in re.findall(r"'([^']+)'::text", rule)]
        if column in row:
            continue
        if type == "text" and allowed:
            row[column] = allowed[0]
        elif type.endswith("int") or type == "integer":
            row[column] = max([1, *(int(least) for rule in rules for least in re.findall(r">= (\d+)", rule))])
        elif own_type in ("vector", "halfvec"):
            row[column] = str([0.0] * 384)
        else:
            row[column] = _BY_TYPE[type]()
    return row | {table.owner: tenant_id}


def _rules(conn: Catalogue, table: Table, column: str) -> list[str]:
    """The check constraints that name the column."""
    found = conn.execute(
        "select pg_get_constraintdef(k.oid) from pg_constraint k join pg_attribute a on a.attrelid = k.conrelid "
        "and a.attnum = any(k.conkey) where k.contype = 'c' and k.conrelid = %s::regclass and a.attname = %s",
        (table.name, column),
    )
    return [rule for (rule,) in found.fetchall()]


def fingerprint(conn: Catalogue, table: Table, tenant_id: uuid.UUID) -> str:
    """A hash of all rows of the tenant in the table and of the transactions that wrote them: so it also detects
    rewritten rows.
    """
    found = conn.execute(
        f"select t.xmin::text || t::text from {table.name} t where t.{table.owner} = %s order by 1".encode(),
        (tenant_id,),
    )
    return hashlib.sha256("\n".join(row[0] for row in found.fetchall()).encode()).hexdigest()


def fingerprints(conn: Catalogue, tenant_id: uuid.UUID) -> dict[str, str]:
    """The fingerprint of each table."""
    return {table.name: fingerprint(conn, table, tenant_id) for table in tables(conn)}
