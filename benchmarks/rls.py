"""Measures what row-level security costs: each statement of `comms` with it, compared with the same without it.

    ./writecare bench rls

Uses 50 invented tenants with 20,000 messages each. The statements are not written down here: the benchmark calls the
functions of `comms` and records their statements: reads, and the sending of a message, which is rolled back each time.
Each statement runs as `wcc_app` under its policies; with the same rules written into the statement by hand; and with
only the tenant's condition (`benchmarks/tables_without_rls.py`). The sides alternate, so that a busy machine slows all;
all are prepared statements, as in the connection pool. Prints for each statement the milliseconds under the policies,
and three ratios: to the rules by hand in wall-clock time, with the round trip; to the rules by hand in processor time
of the server, which other load does not lengthen; and to the tenant's condition in processor time, which is the cost of
the rules.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from benchmarks.seeding import SeededTenant, seed
from benchmarks.tables_without_rls import COMPARISON_ROLES, create_comparison_roles
from comms.ai.statistics import Period, communication_patterns, risk_indicators
from comms.calls.recordings.queries import list_recordings, load_recording
from comms.calls.sessions.attendance import list_attendees
from comms.calls.sessions.queries import list_sessions, read_session
from comms.calls.stage_timings.queries import list_timings
from comms.calls.transcripts.queries import load_analysis, load_transcript
from comms.governance.audit.queries import ActFilter, list_acts
from comms.governance.audit.sealer import seal_batch
from comms.governance.consent.lawful_grounds import list_grounds, read_ground
from comms.governance.consent.permissions import permits
from comms.governance.consent.queries import list_history, list_records
from comms.identity.homes.queries import list_homes, read_home
from comms.identity.tenants.queries import read_tenant
from comms.identity.users.queries import list_users, read_user
from comms.kernel.database import Actor, Connection
from comms.messaging.conversations.queries import list_conversations, read_conversation
from comms.messaging.conversations.receipts import list_receipts
from comms.messaging.message_records import NewMessage
from comms.messaging.messages.history import list_versions
from comms.messaging.messages.queries import list_messages, read_message, send_message
from comms.messaging.messages.search import search
from comms.messaging.messages.search_records import Search
from comms.safeguarding.alerts.queries import list_alerts, load_alert
from comms.web.credentials import refuse_inactive
from comms.web.pagination import MAX_UUID
from instance.embedded_postgres import EmbeddedPostgres
from instance.provisioning import Databases, provision
from models.contract.records import Record

TENANTS: Final = 50
MESSAGES: Final = 20_000  # of each tenant
PAIRS: Final = 11
_SAMPLE_SECONDS: Final = 0.02
_GOAL: Final = 1.05

ReadFunctions = dict[str, Callable[[Connection], Awaitable[object]]]
PsycopgConnection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Statement:
    """The SQL of a function call: one query, or a transaction of several statements that is rolled back."""

    name: str
    asked: tuple[tuple[bytes, Any], ...]


class RecordingConnection:
    """A connection that records the statements it executes."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self.asked: list[tuple[bytes, Any]] = []

    async def execute(self, statement: bytes | str, values: Any = None) -> Any:
        self.asked.append((statement if isinstance(statement, bytes) else statement.encode(), values))
        return await self._conn.execute(statement, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


def reads(actor: Actor, ids: dict[str, UUID]) -> ReadFunctions:
    """Every read of a route or of the worker, by name."""
    page: dict[str, Any] = {"before": MAX_UUID, "limit": 51}
    period = Period(since=datetime.now(UTC) - timedelta(days=60), until=datetime.now(UTC))
    any_session: dict[str, Any] = {"status": None, "session_type": None, "home_id": None, "participant": None}
    resident = Actor(actor.tenant_id, ids["users"], "resident")
    return {
        "account": lambda c: refuse_inactive(c, actor),
        "tenant": lambda c: read_tenant(c, actor.tenant_id),
        "homes": lambda c: list_homes(c, **page),
        "home": lambda c: read_home(c, ids["homes"]),
        "users": lambda c: list_users(c, role=None, home_id=None, **page),
        "user": lambda c: read_user(c, ids["users"]),
        "sessions": lambda c: list_sessions(c, actor, **any_session, **page),
        "sessions of a person": lambda c: list_sessions(
            c, actor, **(any_session | {"participant": ids["users"]}), **page
        ),
        "sessions seen by a resident": lambda c: list_sessions(c, resident, **any_session, **page),
        "session": lambda c: read_session(c, actor, ids["communication_sessions"]),
        "attendees": lambda c: list_attendees(c, ids["communication_sessions"]),
        "grounds": lambda c: list_grounds(c, purpose=None, in_force=True, **page),
        "ground": lambda c: read_ground(c, ids["data_processing_activities"]),
        "permits": lambda c: permits(c, ids["users"], "record"),
        "consent of a person": lambda c: list_records(c, ids["users"]),
        "consent history": lambda c: list_history(c, user_id=None, **page),
        "recordings": lambda c: list_recordings(c, session_id=None, status=None, **page),
        "recording": lambda c: load_recording(c, ids["recordings"]),
        "timings": lambda c: list_timings(c, ids["recordings"]),
        "transcript": lambda c: load_transcript(c, ids["recordings"]),
        "analysis": lambda c: load_analysis(c, ids["recordings"]),
        "alerts": list_alerts,
        "open alerts": lambda c: list_alerts(c, states=["new"]),
        "alert": lambda c: load_alert(c, ids["alerts"]),
        "acts": lambda c: list_acts(c, ActFilter(), **page),
        "audit entries of a person": lambda c: list_acts(c, ActFilter(actor_id=ids["users"]), **page),
        "audit entries of an object": lambda c: list_acts(
            c, ActFilter(object_type="session", object_id=ids["communication_sessions"]), **page
        ),
        "conversations": lambda c: list_conversations(c, actor, **page),
        "conversation": lambda c: read_conversation(c, ids["conversations"]),
        "messages": lambda c: list_messages(c, actor, ids["conversations"], **page),
        "older messages": lambda c: list_messages(c, actor, ids["conversations"], before=ids["messages"], limit=51),
        "message": lambda c: read_message(c, ids["messages"]),
        "versions": lambda c: list_versions(c, actor, ids["messages"]),
        "receipts": lambda c: list_receipts(c, ids["messages"]),
        "search, a rare word": lambda c: search(c, Search(words="whistleblowing"), None, cursor=None, limit=50),
        "search, a common word": lambda c: search(c, Search(words="medication"), None, cursor=None, limit=50),
        "search, one conversation": lambda c: search(
            c, Search(words="medication", conversation_id=ids["conversations"]), None, cursor=None, limit=50
        ),
        "patterns": lambda c: communication_patterns(c, period),
        "indicators": lambda c: risk_indicators(c, period),
    }


_AS_ACTOR: Final = (
    "select set_config('app.tenant_id', %s, false), set_config('app.user_id', %s, false), "
    "set_config('app.role', %s, false)"
)


async def collect(url: str, actor: Actor, ids: dict[str, UUID]) -> list[Statement]:
    """Runs all reads once and returns their statements, and the statements that send a message."""
    found = []
    async with await Connection.connect(url, autocommit=True, row_factory=dict_row) as conn:
        await conn.execute(_AS_ACTOR, (str(actor.tenant_id), str(actor.user_id), actor.role))
        for name, read in reads(actor, ids).items():
            listening = RecordingConnection(conn)
            await read(cast(Connection, listening))
            numbered = len(listening.asked) > 1
            found += [
                Statement(f"{name} {at}" if numbered else name, (asked,)) for at, asked in enumerate(listening.asked, 1)
            ]
        await conn.execute("begin")
        sending = RecordingConnection(conn)
        new = NewMessage(conversation_id=ids["conversations"], content="Nobody said this.")
        await send_message(cast(Connection, sending), actor, new)
        await conn.execute("rollback")
        found.append(Statement("sending a message", ((b"begin", None), *sending.asked, (b"rollback", None))))
    return found


class Cost(Record):
    """The cost of one statement: milliseconds under the policies, and the medians of the pairs' ratios."""

    rows: int
    milliseconds: float
    by_hand: float
    by_hand_processor: float
    alone_processor: float


def measure(statement: Statement, restricted: PsycopgConnection, unrestricted: dict[str, PsycopgConnection]) -> Cost:
    """Raises `AssertionError` if the sides return different rows."""
    sides = {"bound": restricted} | unrestricted
    answers = {side: comparable_rows(run_statement(conn, statement)) for side, conn in sides.items()}
    if any(answer != answers["bound"] for answer in answers.values()):
        raise AssertionError(f"{statement.name}: the sides answer differently")
    for _ in range(8):  # psycopg prepares a statement after five executions
        for conn in sides.values():
            run_statement(conn, statement)
    times = max(3, int(_SAMPLE_SECONDS / timed(unrestricted["by_hand"], statement, 5)[0]))
    turns = []
    for turn in range(PAIRS):
        order = list(sides) if turn % 2 == 0 else list(reversed(sides))
        turns.append({side: timed(sides[side], statement, times) for side in order})
    return Cost(
        rows=len(answers["bound"]),
        milliseconds=1e3 * statistics.median(turn["bound"][0] for turn in turns),
        by_hand=statistics.median(turn["bound"][0] / turn["by_hand"][0] for turn in turns),
        by_hand_processor=statistics.median(turn["bound"][1] / turn["by_hand"][1] for turn in turns),
        alone_processor=statistics.median(turn["bound"][1] / turn["alone"][1] for turn in turns),
    )


def run_statement(conn: PsycopgConnection, statement: Statement) -> list[tuple[Any, ...]]:
    rows = []
    for asked, values in statement.asked:
        answer = conn.execute(asked, values)
        if answer.description is not None:
            rows += answer.fetchall()
    return rows


def comparable_rows(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The part of the rows that must be equal on all sides: without the last digits of a sum, which depend on the order
    of addition, and without times of the transaction."""
    return [
        tuple(
            round(value, 6) if isinstance(value, float) else value for value in row if not isinstance(value, datetime)
        )
        for row in rows
    ]


def timed(conn: PsycopgConnection, statement: Statement, times: int) -> tuple[float, float]:
    """Seconds per execution: wall-clock time, and processor time of the server."""
    processor, began = server_cpu_seconds(conn), time.perf_counter()
    for _ in range(times):
        run_statement(conn, statement)
    return (time.perf_counter() - began) / times, (server_cpu_seconds(conn) - processor) / times


def server_cpu_seconds(conn: PsycopgConnection) -> float:
    """Processor seconds of the connection's server process so far."""
    return int(Path(f"/proc/{conn.info.backend_pid}/schedstat").read_text().split()[0]) / 1e9


def pin_to_one_processor(*connections: PsycopgConnection) -> None:
    """Puts this process and the connections' server processes on one processor. Otherwise a side that shares its
    processor with another process looks slow for seconds.
    """
    one = {max(os.sched_getaffinity(0))}
    for process in (0, *(conn.info.backend_pid for conn in connections)):
        os.sched_setaffinity(process, one)


def print_costs(databases: Databases, tenant: SeededTenant) -> None:
    """Measures every statement and prints a summary."""
    with psycopg.connect(databases.administrator, autocommit=True) as administrator:
        ids = {
            table: tenant.id(administrator, table, 20 if table not in ("homes", "data_processing_activities") else 2)
            for table in (
                "homes", "users", "communication_sessions", "data_processing_activities", "recordings", "alerts",
            )
        }  # fmt: skip
        actor = Actor(tenant.tenant_id, tenant.id(administrator, "users", 0), "safeguarding_lead")
        ids |= some_message(administrator, actor)
        passwords = create_comparison_roles(administrator, actor)
    statements = asyncio.run(collect(databases.app, actor, ids))
    with ExitStack() as open_until_then:
        restricted = open_until_then.enter_context(psycopg.connect(databases.app, autocommit=True))
        unrestricted = {
            side: open_until_then.enter_context(
                psycopg.connect(databases.administrator, user=side, password=passwords[side], autocommit=True)
            )
            for side in COMPARISON_ROLES
        }
        pin_to_one_processor(restricted, *unrestricted.values())
        for conn in (restricted, *unrestricted.values()):  # functions in the statements read who the actor is
            conn.execute(_AS_ACTOR, (str(actor.tenant_id), str(actor.user_id), actor.role))
        print(f"{'statement':30} {'rows':>5} {'ms':>8} {'by hand':>8} {'processor':>9} {'over tenant only':>21}")
        costs = {}
        for statement in statements:
            cost = costs[statement.name] = measure(statement, restricted, unrestricted)
            print(
                f"{statement.name:30} {cost.rows:5d} {cost.milliseconds:8.3f} {cost.by_hand:8.3f} "
                f"{cost.by_hand_processor:9.3f} {cost.alone_processor:21.3f}", flush=True,
            )  # fmt: skip
    sum_up("rules by hand, with the round trip", {name: cost.by_hand for name, cost in costs.items()})
    sum_up("rules by hand, processor time", {name: cost.by_hand_processor for name, cost in costs.items()})
    sum_up("the tenant's condition only, processor time", {name: cost.alone_processor for name, cost in costs.items()})


def sum_up(over: str, ratios: dict[str, float]) -> None:
    """Prints one line: how many ratios meet the goal, the median, the worst."""
    worst = max(ratios, key=lambda name: ratios[name])
    kept = sum(ratio <= _GOAL for ratio in ratios.values())
    print(f"over {over}: {kept} of {len(ratios)} at most {_GOAL}, median {statistics.median(ratios.values()):.3f}, "
          f"worst {ratios[worst]:.3f} ({worst})")  # fmt: skip


def some_message(conn: PsycopgConnection, actor: Actor) -> dict[str, UUID]:
    """The actor's conversation with the most messages, and a message in the middle of it that was edited once."""
    found = conn.execute(
        "select conversation_id, (array_agg(id order by id) filter (where version = 2))[3] from messages "
        "where tenant_id = %(tenant)s and conversation_id in (select conversation_id from conversation_members "
        "where tenant_id = %(tenant)s and user_id = %(user)s) group by conversation_id order by count(*) desc limit 1",
        {"tenant": actor.tenant_id, "user": actor.user_id},
    ).fetchone()
    assert found is not None
    return {"conversations": found[0], "messages": found[1]}


async def seal_all(databases: Databases) -> None:
    """Seals all audit entries, as in any database that has been in use."""
    url = databases.sealer
    async with await Connection.connect(url, autocommit=True, row_factory=dict_row) as sealer:
        while await seal_batch(sealer):
            pass
    with psycopg.connect(databases.administrator, autocommit=True) as administrator:
        administrator.execute("vacuum analyze audit_log, audit_seals, audit_unsealed")


def main() -> int:
    """Runs in a database of its own, which is deleted afterwards."""
    with tempfile.TemporaryDirectory(prefix="writecare-rls-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            databases = provision(server.url(), Path(folder) / "keys", maintenance_url=server.url("postgres"))
            began = time.perf_counter()
            tenants = seed(databases.administrator, TENANTS, MESSAGES)
            print(f"{TENANTS} invented tenants in {time.perf_counter() - began:.1f} s", file=sys.stderr)
            asyncio.run(seal_all(databases))
            print_costs(databases, tenants[TENANTS // 2])
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
