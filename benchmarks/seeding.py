"""Invented tenants in bulk, to measure on: nobody in them lives, nothing in them was said.

    python -m benchmarks.seeding --tenants 50 [--data DIR]

Adds tenants `seeded-…` to the database of the data folder (the running one, or started for a moment), each with 400
sessions, half of them recorded and read. Triggers and foreign keys are put aside: for a database of tests alone.
"""

import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from serving.command.options import command_parser, parsed, settings_for
from serving.command.token import role_urls

_ROWS: Final = Path(__file__).with_suffix(".sql")

_FUNCTIONS: Final = """
create function pg_temp.tenant() returns uuid language sql stable
    return current_setting('seed.tenant')::uuid;
-- laid out as a UUIDv7: the number in front, so that later rows have later ids
create function pg_temp.seeded_id(kind text, number int) returns uuid language sql stable
    return (lpad(to_hex(1700000000000 + number), 12, '0') || '7000' || '8'
            || substr(md5(kind || current_setting('seed.tenant')), 1, 15))::uuid;
create function pg_temp.at(number int) returns timestamptz language sql stable
    return now() - make_interval(hours => 2 * (1000 - number));
"""


@dataclass(frozen=True)
class Seeded:
    """A tenant that was added; makes the ids of its rows, as the statements do."""

    tenant_id: uuid.UUID

    def id(self, conn: "psycopg.Connection[tuple[object, ...]]", table: str, number: int) -> uuid.UUID:
        """The id of the table's row that lies so far from the first."""
        found = conn.execute(
            f"select id from {table} where tenant_id = %s order by id offset %s limit 1".encode(),
            (self.tenant_id, number),
        ).fetchone()
        assert found is not None
        return uuid.UUID(str(found[0]))


def seed(administrator_url: str, tenants: int) -> list[Seeded]:
    """Adds so many tenants, each in a transaction of its own, and takes statistics."""
    made = []
    with psycopg.connect(administrator_url, autocommit=True) as conn:
        conn.execute(_FUNCTIONS)
        for _ in range(tenants):
            tenant_id = uuid.uuid4()
            with conn.transaction():
                conn.execute("set local session_replication_role = replica")
                conn.execute("select set_config('seed.tenant', %s, true)", (str(tenant_id),))
                conn.execute(_ROWS.read_bytes())
            made.append(Seeded(tenant_id))
        conn.execute("vacuum analyze")
    return made


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when all were added, 2 after wrong use."""
    parser = command_parser("seeding", "Add invented tenants to measure on; for a database of tests alone.")
    parser.add_argument("--tenants", type=int, default=50, metavar="N", help="how many (default 50)")
    options = parsed(parser, argv)
    if isinstance(options, int):
        return options
    began = time.perf_counter()
    with role_urls(settings_for(options)) as databases:
        made = seed(databases.administrator, options.tenants)
    print(f"{len(made)} invented tenants in {time.perf_counter() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
