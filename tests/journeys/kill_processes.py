"""Kills API, relay and worker again and again while clients work; `test_kill_processes.py` uses it with few kills.

    python -m tests.journeys.kill_processes 50

Clients make sessions, add people and upload recordings, each with an Idempotency-Key, and repeat each request until it
is answered. Meanwhile each process is killed (SIGKILL) at random times and started again.
"""

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row
from pydantic import SecretStr

from comms.kernel.database import Actor
from comms.kernel.metrics import Metrics
from comms.kernel.settings import Settings
from comms.web.context import AppContext, open_app_context
from instance.embedded_postgres import EmbeddedPostgres
from instance.launcher import free_port
from instance.provisioning import Databases, provision
from tests import factories

ROOT = Path(__file__).parents[2]
CLIENTS = 6
_PAUSE_SECONDS = 0.05


class RestartableProcess:
    """A process that can be killed and started again."""

    def __init__(self, module: str, wiring: dict[str, str]) -> None:
        self.kills = 0
        self._command = [sys.executable, "-m", module]
        self._environment = os.environ | wiring
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, env=self._environment, cwd=ROOT, stdout=quiet, stderr=quiet)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self.kills += 1


@dataclass
class Work:
    """What the clients were answered: titles of acknowledged sessions with their ids, and ids of recordings."""

    sessions: dict[str, str] = field(default_factory=dict)
    recordings: list[str] = field(default_factory=list)
    replayed: int = 0
    unanswered: int = 0
    over: bool = False


class Client:
    """A client that repeats each request with the same key until it is answered."""

    def __init__(self, address: str, headers: dict[str, str], work: Work) -> None:
        self._http = httpx.AsyncClient(base_url=address, headers=headers, trust_env=False, timeout=20)
        self._work = work

    async def post(self, path: str, **content: Any) -> dict[str, Any]:
        key = {"Idempotency-Key": str(uuid.uuid4())}
        while True:
            try:
                answer = await self._http.post(path, headers=key, **content)
            except httpx.TransportError:
                self._work.unanswered += 1
            else:
                if answer.is_success:
                    self._work.replayed += "idempotency-replayed" in answer.headers
                    found: dict[str, Any] = answer.json()
                    return found
                waits = answer.status_code == 503 or answer.json()["type"].endswith("/request-in-progress")
                assert waits, answer.text
            await asyncio.sleep(_PAUSE_SECONDS)

    async def work(self, people: Sequence[Actor]) -> None:
        """Makes sessions with one participant each, one after the other until the work is over."""
        while not self._work.over:
            title = str(uuid.uuid4())
            session = await self.post("/api/sessions", json={"session_type": "meeting", "title": title})
            for person in people:
                body = {"user_id": str(person.user_id), "participant_type": "staff"}
                await self.post(f"/api/sessions/{session['id']}/participants", json=body)
            self._work.sessions[title] = session["id"]
        await self._http.aclose()

    async def upload(self, session_id: uuid.UUID) -> None:
        """Uploads recordings to the session, one after the other until the work is over."""
        while not self._work.over:
            sound = factories.wav(0.3, hertz=200.0 + len(self._work.recordings))  # an identical file would be refused
            recording = await self.post(f"/api/recordings?session_id={session_id}", files={"file": sound})
            self._work.recordings.append(recording["id"])
            await asyncio.sleep(4 * _PAUSE_SECONDS)
        await self._http.aclose()


async def run_with_kills(ctx: AppContext, databases: Databases, kills: int, seed: int) -> tuple[Actor, Work]:
    """Runs the test until all events are sent and all jobs are done. Returns the manager and what the clients were
    answered.
    """
    chance = random.Random(seed)
    manager, resident, session_id = await factories.make_call(ctx)
    port = free_port()
    shared = {"WRITECARE_DATA_DIR": str(ctx.settings.data_dir), "WRITECARE_STALLED_AFTER_SECONDS": "2",
              "WRITECARE_JOB_ATTEMPTS": "1000", "WRITECARE_PORT": str(port)}  # fmt: skip
    api = RestartableProcess("comms.app.server", shared | {"WRITECARE_ROLE_DATABASE_URL": databases.app})
    relay = RestartableProcess("comms.outbox.relay", shared | {"WRITECARE_ROLE_DATABASE_URL": databases.relay})
    worker = RestartableProcess(
        "tests.journeys.worker_without_speech", shared | {"WRITECARE_ROLE_DATABASE_URL": databases.worker}
    )
    work = Work()
    address = f"http://127.0.0.1:{port}"
    headers = factories.bearer(ctx, manager, 3600)
    for process in (api, relay, worker):
        process.start()
    clients = [asyncio.create_task(Client(address, headers, work).work([resident])) for _ in range(CLIENTS)]
    clients.append(asyncio.create_task(Client(address, headers, work).upload(session_id)))
    try:
        await asyncio.gather(
            _kill(api, kills, chance, lambda: len(work.sessions) + len(work.recordings)),
            _kill(relay, kills, chance, lambda: _count(databases, "events where sent_at is not null")),
            _kill(worker, kills, chance, lambda: _count(databases, "stage_timings")),
        )
        work.over = True
        await asyncio.gather(*clients)
        await _settled(databases, manager.tenant_id)
    finally:
        for client in clients:
            client.cancel()
        for process in (api, relay, worker):
            process.kill()
    return manager, work


async def _kill(process: RestartableProcess, kills: int, chance: random.Random, done: Any) -> None:
    """Kills the process `kills` times: each time after it has done something since its start, and after a random
    delay.
    """
    for _ in range(kills):
        before = await asyncio.to_thread(done)
        while await asyncio.to_thread(done) == before:  # noqa: ASYNC110 (it happens in another process)
            await asyncio.sleep(0.02)
        await asyncio.sleep(chance.random() * 0.3)
        process.kill()
        process.start()


def _count(databases: Databases, rows: str) -> int:
    [row] = seen(databases, f"select count(*) as n from {rows}")
    return int(row["n"])


async def _settled(databases: Databases, tenant_id: uuid.UUID) -> None:
    """Returns when all events are sent and no recording is being processed."""
    for rows in (
        "events where sent_at is null",
        f"recordings where status = 'processing' and tenant_id = '{tenant_id}'",
    ):
        async with asyncio.timeout(120):
            while await asyncio.to_thread(_count, databases, rows) > 0:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


def seen(databases: Databases, statement: str, *values: Any) -> list[dict[str, Any]]:
    """Runs the statement as the administrator, without row-level security."""
    with psycopg.connect(databases.administrator, row_factory=dict_row) as admin:
        return admin.execute(statement.encode(), values).fetchall()


def find_inconsistencies(databases: Databases, tenant_id: uuid.UUID, work: Work) -> dict[str, list[Any]]:
    """All errors by name. Every list is empty if each key had one effect and the events are in order."""
    sessions = seen(
        databases, "select s.title, s.id::text, (select count(*) from session_participants p where p.tenant_id = "
        "s.tenant_id and p.session_id = s.id) as people from communication_sessions s "
        "where s.tenant_id = %s and s.session_type = 'meeting'", tenant_id,
    )  # fmt: skip
    recordings = seen(databases, "select id::text, status from recordings where tenant_id = %s", tenant_id)
    events = seen(
        databases, "select aggregate_id::text as id, array_agg(aggregate_version order by position) as versions, "
        "array_agg(type order by position) as types from events where tenant_id = %s and sent_at is not null "
        "group by aggregate_id", tenant_id,
    )  # fmt: skip
    jobs = seen(
        databases, "select args ->> 'recording_id' as id, count(*) filter (where status = 'succeeded') as done "
        "from procrastinate.procrastinate_jobs where args ->> 'tenant_id' = %s group by 1", str(tenant_id),
    )  # fmt: skip
    created = [event["id"] for event in events if "session.created" in event["types"]]
    return {
        "acknowledged sessions that are not there, or twice": sorted(
            set(work.sessions.items()) ^ {(row["title"], row["id"]) for row in sessions}
        ),
        "sessions without their one participant": [row for row in sessions if row["people"] != 1],
        "titles made twice": [] if len({row["title"] for row in sessions}) == len(sessions) else sessions,
        "recordings that are not there, or twice": sorted(set(work.recordings) ^ {row["id"] for row in recordings}),
        "recordings that were not processed": [row for row in recordings if row["status"] != "ready"],
        "recordings whose job was not done": sorted(
            set(work.recordings) - {row["id"] for row in jobs if row["done"] >= 1}
        ),
        "sessions without an event": sorted(set(work.sessions.values()) - set(created)),
        "events out of order or twice": [row for row in events if row["versions"] != sorted(set(row["versions"]))],
    }


async def main(kills: int) -> int:
    """Runs the test on its own database; prints what was done and the errors."""
    with tempfile.TemporaryDirectory(prefix="writecare-killed-") as folder:
        data = Path(folder)
        server = EmbeddedPostgres(data)
        server.start()
        try:
            databases = provision(server.url(), data / "keys", maintenance_url=server.url("postgres"))
            settings = Settings(data_dir=data, role_database_url=SecretStr(databases.app))
            async with open_app_context(settings, Metrics()) as ctx:
                manager, work = await run_with_kills(ctx, databases, kills, seed=7)
            wrong = find_inconsistencies(databases, manager.tenant_id, work)
        finally:
            server.stop()
    print(f"API, relay and worker killed {kills} times each; {work.unanswered} requests were cut off")
    print(f"{len(work.sessions)} sessions, {len(work.recordings)} recordings; {work.replayed} answers replayed")
    for what, found in wrong.items():
        print(f"{what}: {len(found)}")
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]))))
