"""Measures what the platform adds to its database: POST /api/sessions over the same psycopg statements and commit.

    ./writecare bench session_post

Uses one API process and one PostgreSQL, as `up` starts them, without models. Rounds of requests on one kept connection
alternate with rounds of the same statements on one kept psycopg connection, so that a busy machine slows both. Prints
the median of the rounds' ratios of p50; 1.00 means that the platform costs nothing. The raw side is measured twice: one
statement after the other, as psycopg is commonly used, and in a pipeline, as the platform sends them.
"""

import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
from psycopg.types.json import Jsonb

from comms.kernel.access.tokens import Issuer
from comms.kernel.database import Actor
from comms.kernel.settings import Settings
from instance.embedded_postgres import EmbeddedPostgres
from instance.launcher import free_port
from instance.provisioning import Databases, provision

ROUNDS = 15
IN_A_ROUND = 60
BODY = {"session_type": "video_call", "title": "Sunday call"}


@contextlib.contextmanager
def running_api(processes: int = 1) -> Iterator[tuple[Databases, int, Actor, str]]:
    """PostgreSQL and the API processes until the block ends. Yields databases, port, a signed-in actor, its token."""
    with tempfile.TemporaryDirectory(prefix="writecare-bench-") as folder:
        data = Path(folder)
        server = EmbeddedPostgres(data)
        server.start()
        try:
            databases = provision(server.url(), data / "keys", maintenance_url=server.url("postgres"))
            port = free_port()
            wiring = {
                "WRITECARE_DATA_DIR": folder, "WRITECARE_PORT": str(port),
                "WRITECARE_ROLE_DATABASE_URL": databases.app, "WRITECARE_API_PROCESSES": str(processes),
            }  # fmt: skip
            command = [sys.executable, "-m", "comms.app.server"]
            answering = [
                subprocess.Popen(command, env=os.environ | wiring, stderr=subprocess.DEVNULL) for _ in range(processes)
            ]
            try:
                actor = make_actor(databases)
                wait_for(port)
                yield databases, port, actor, Issuer.open(data / "keys", Settings().issuer).sign(actor, 3600)
            finally:
                for api in answering:
                    api.terminate()
                for api in answering:
                    api.wait()
        finally:
            server.stop()


def make_actor(databases: Databases) -> Actor:
    """Creates a care manager in a new tenant."""
    with psycopg.connect(databases.administrator) as admin:
        tenant = admin.execute("insert into tenants (slug, name) values ('bench', 'bench') returning id").fetchone()
        assert tenant is not None
        user = admin.execute(
            "insert into users (tenant_id, slug, display_name, role) "
            "values (%s, 'm', 'm', 'care_manager') returning id",
            tenant,
        ).fetchone()
        assert user is not None
        return Actor(tenant[0], user[0], "care_manager")


def wait_for(port: int) -> None:
    """Returns when the API answers."""
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)


def poster(port: int, token: str) -> Callable[[], None]:
    """Returns a function that creates a session through the API."""
    line = http.client.HTTPConnection("127.0.0.1", port)
    body = json.dumps(BODY)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post() -> None:
        line.request("POST", "/api/sessions", body, headers)
        answer = line.getresponse()
        answer.read()
        assert answer.status == 201, answer.status

    return post


def statements(conn: psycopg.Connection, actor: Actor) -> None:
    """Executes the statements of a session's POST, without begin and commit."""
    conn.execute(
        "select set_config('app.tenant_id', %s, true), set_config('app.user_id', %s, true), "
        "set_config('app.role', %s, true)",
        (str(actor.tenant_id), str(actor.user_id), actor.role),
    )
    conn.execute(
        "select active from users where tenant_id = %s and id = %s", (actor.tenant_id, actor.user_id)
    ).fetchone()
    made = conn.execute(
        "insert into communication_sessions (tenant_id, session_type, title, scheduled_start_time, "
        "end_time, status, recording_enabled, home_id, created_by) "
        "values (%s, %s, %s, %s, case when %s then now() end, %s, %s, %s, %s) returning id",
        (
            actor.tenant_id, BODY["session_type"], BODY["title"], None, False, "scheduled", False, None, actor.user_id,
        ),
    ).fetchone()  # fmt: skip
    assert made is not None
    conn.execute(
        "insert into events (tenant_id, type, aggregate_type, aggregate_id, aggregate_version, data) "
        "values (%s, %s, %s, %s, %s, %s)",
        (actor.tenant_id, "session.created", "session", made[0], 1, Jsonb({"session_id": str(made[0])})),
    )
    conn.execute(
        "insert into audit_log (tenant_id, actor_id, actor_role, action, object_type, object_id, details) "
        "values (%s, %s, %s, %s, %s, %s, %s)",
        (actor.tenant_id, actor.user_id, actor.role, "session.created", "session", made[0], Jsonb({})),
    )
    conn.execute(
        "select s.*, coalesce((select jsonb_agg(to_jsonb(p) order by p.id) from session_participants p "
        "where p.tenant_id = s.tenant_id and p.session_id = s.id), '[]') as participants "
        "from communication_sessions s where s.id = %s",
        made,
    ).fetchone()


def raw(conn: psycopg.Connection, actor: Actor) -> Callable[[], None]:
    """Returns a function that creates a session with psycopg, one statement after the other."""

    def write() -> None:
        with conn.transaction():
            statements(conn, actor)

    return write


def piped(conn: psycopg.Connection, actor: Actor) -> Callable[[], None]:
    """As `raw`, in a pipeline."""

    def write() -> None:
        with conn.pipeline(), conn.transaction():
            statements(conn, actor)

    return write


def p50(act: Callable[[], None]) -> float:
    """The median seconds of a round."""
    taken = []
    for _ in range(IN_A_ROUND):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def compare(ways: dict[str, Callable[[], None]]) -> None:
    """Runs alternating rounds of each way. Prints their p50 and the ratios of `api_rate` to the others."""
    for act in ways.values():
        p50(act)  # warm-up: plans, caches
    rounds = []
    for turn in range(ROUNDS):
        order = list(ways) if turn % 2 == 0 else list(reversed(ways))
        rounds.append({name: p50(ways[name]) for name in order})
    for name in ways:
        print(f"{name:8} p50 {statistics.median(found[name] for found in rounds) * 1e3:6.2f} ms")
    for name in ("raw", "piped"):
        ratios = [found["posted"] / found[name] for found in rounds]
        print(f"posted / {name:6} {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> int:
    with running_api() as (databases, port, actor, token), psycopg.connect(databases.app, autocommit=True) as conn:
        compare({"posted": poster(port, token), "raw": raw(conn, actor), "piped": piped(conn, actor)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
