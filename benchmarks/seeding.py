"""Fills a database with invented tenants for benchmarks. No real person or message is in them.

    python -m benchmarks.seeding --tenants 50 --messages 20000 [--data DIR]

Adds tenants `seeded-…` to the database of the data folder (the running one, or one started for this command). Each has
400 sessions, half of them recorded and analysed, and its messages are spread over the last twelve months in 200
conversations. Triggers and foreign keys are disabled and the server generates the rows: use it only on test databases.
"""

import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import psycopg

from cli.options import command_parser, parse_options, settings_for
from cli.token import role_urls
from models.contract.json_lines import read_json_lines

_ROWS: Final = Path(__file__).with_suffix(".sql")
_MESSAGING: Final = Path(__file__).with_name("messaging.sql")
_TURNS: Final = Path(__file__).parent.parent / "training" / "data" / "care_conversations"
_MOST_TURNS: Final = 5000

_FUNCTIONS: Final = """
create function pg_temp.tenant() returns uuid language sql stable
    return current_setting('seed.tenant')::uuid;
-- laid out as a UUIDv7: the number in front, so that later rows have later ids
create function pg_temp.seeded_id(kind text, number int) returns uuid language sql stable
    return (lpad(to_hex(1700000000000 + number), 12, '0') || '7000' || '8'
            || substr(md5(kind || current_setting('seed.tenant')), 1, 15))::uuid;
create function pg_temp.at(number int) returns timestamptz language sql stable
    return now() - make_interval(hours => 2 * (1000 - number));
-- Messages: evenly over the last twelve months, the last of them a moment ago
create function pg_temp.sent_at(number int) returns timestamptz language sql stable
    return now() - interval '360 days' * (1 - number::double precision / (current_setting('seed.messages')::int + 1));
create function pg_temp.message_id(number int) returns uuid language sql stable
    return (substr(app.first_id(pg_temp.sent_at(number))::text, 1, 13) || '-7' || lpad(to_hex(number % 4096), 3, '0')
            || '-8' || substr(md5(number || current_setting('seed.tenant')), 1, 3) || '-'
            || substr(md5('m' || number || current_setting('seed.tenant')), 1, 12))::uuid;
"""


@dataclass(frozen=True)
class SeededTenant:
    """An added tenant. Computes the ids of its rows in the same way as the SQL statements."""

    tenant_id: uuid.UUID

    def id(self, conn: "psycopg.Connection[tuple[object, ...]]", table: str, number: int) -> uuid.UUID:
        """The id of the table's row at this offset."""
        found = conn.execute(
            f"select id from {table} where tenant_id = %s order by id offset %s limit 1".encode(),
            (self.tenant_id, number),
        ).fetchone()
        assert found is not None
        return uuid.UUID(str(found[0]))


def seed(administrator_url: str, tenants: int, messages: int = 0) -> list[SeededTenant]:
    """Adds the tenants with so many messages each, one transaction per tenant, and runs `analyze`."""
    made = []
    turns = read_turns()
    with psycopg.connect(administrator_url, autocommit=True) as conn:
        conn.execute(_FUNCTIONS)
        conn.execute("create temporary table turns (number integer primary key, words text)")
        with conn.cursor().copy("copy turns from stdin") as copy:
            for turn in enumerate(turns):
                copy.write_row(turn)
        conn.execute("select set_config('seed.messages', %s, false)", (str(messages),))
        conn.execute("set timezone to 'UTC'")
        # partitions of past months, which the retention process does not create
        conn.execute(
            "select app.make_month('messages', date_trunc('month', now()) - make_interval(months => n)) "
            "from generate_series(0, 12) n"
        )
        for _ in range(tenants):
            tenant_id = uuid.uuid4()
            with conn.transaction():
                conn.execute("set local session_replication_role = replica")
                conn.execute("select set_config('seed.tenant', %s, true)", (str(tenant_id),))
                conn.execute(_ROWS.read_bytes())
                if messages:
                    conn.execute(_MESSAGING.read_bytes())
            made.append(SeededTenant(tenant_id))
        conn.execute("vacuum analyze")
    return made


def read_turns() -> list[str]:
    """The turns of the invented care conversations."""
    rows = (row for file in sorted(_TURNS.glob("train-*.jsonl")) for row in read_json_lines(file))
    return list(islice((turn["text"] for row in rows for turn in row["turns"]), _MOST_TURNS))


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when all tenants were added, 2 after wrong usage."""
    parser = command_parser("seeding", "Add invented tenants to measure on; only for test databases.")
    parser.add_argument("--tenants", type=int, default=50, metavar="N", help="number of tenants (default 50)")
    parser.add_argument(
        "--messages", type=int, default=20_000, metavar="N", help="messages of each tenant (default 20000)"
    )
    options = parse_options(parser, argv)
    if isinstance(options, int):
        return options
    began = time.perf_counter()
    with role_urls(settings_for(options)) as databases:
        made = seed(databases.administrator, options.tenants, options.messages)
    seconds = time.perf_counter() - began
    count = len(made) * options.messages
    print(f"{len(made)} invented tenants with {count:,} messages in {seconds:.0f} s: {count / seconds:,.0f} a second")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
