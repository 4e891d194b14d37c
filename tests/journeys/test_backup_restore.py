"""Runs the commands of docs/howto/backup-and-restore.md as they are written, and restores into a new folder."""

import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from comms.app.application import create_app
from comms.kernel.database import Actor
from comms.kernel.settings import Settings
from comms.web.context import AppContext
from instance.embedded_postgres import EmbeddedPostgres
from instance.provisioning import Databases, provision
from tests import factories
from tests.comms import audit_helpers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "howto" / "backup-and-restore.md"
PASSWORD = "heron-lantern-quay-nineteen"


def commands(heading: str) -> str:
    """The commands below the heading, without those that only set folder names."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return "\n".join(block for block in blocks if not re.fullmatch(r"(?:\w+=\S+\n)+", block))


def run(script: str, **names: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WRITECARE_", "DATABASE"))}
    return subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment | {name: str(path) for name, path in names.items()},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@contextmanager
def database(data: Path) -> Iterator[Databases]:
    """The embedded PostgreSQL of a data folder, migrated to this version, until the block ends."""
    server = EmbeddedPostgres(data)
    server.start()
    try:
        yield provision(server.url(), data / "keys", maintenance_url=server.url("postgres"))
    finally:
        server.stop()


@asynccontextmanager
async def instance(data: Path, databases: Databases) -> AsyncIterator[tuple[httpx.AsyncClient, AppContext]]:
    """The API on a data folder."""
    app = create_app(Settings(data_dir=data, role_database_url=SecretStr(databases.app)))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as client:
            yield client, app.state.ctx


@dataclass(frozen=True)
class Kept:
    """What the restore must bring back."""

    manager: Actor
    recording_id: UUID
    sound: bytes
    credentials: dict[str, str]
    rows: dict[str, int]


def counted(administrator: str) -> dict[str, int]:
    """The number of rows in each table of our two schemas."""
    with psycopg.connect(administrator) as admin:
        tables = admin.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables "
            "where schemaname in ('public', 'procrastinate')"
        ).fetchall()
        return {name: admin.execute(f"select count(*) from {name}".encode()).fetchall()[0][0] for (name,) in tables}


async def fill(data: Path) -> Kept:
    """Makes an instance with a recording, an account with a password, and a sealed and anchored audit log."""
    with database(data) as databases:
        async with instance(data, databases) as (client, ctx):
            manager, _, session_id = await factories.make_call(ctx)
            sound = factories.wav(1.5)
            recording = await factories.store_recording(ctx, manager, session_id, sound)
            headers = factories.bearer(ctx, manager)
            made = await client.put("/api/me/password", json={"new_password": PASSWORD}, headers=headers)
            assert made.status_code == 204, made.text
            [found] = await factories.rows(
                ctx, manager, "select t.slug as tenant, u.slug as user from tenants t "
                "join users u on u.tenant_id = t.id where u.id = %s", manager.user_id,
            )  # fmt: skip
            await audit_helpers.seal(ctx, databases)
        return Kept(manager, recording.id, sound, {**found, "password": PASSWORD}, counted(databases.administrator))


async def test_a_backup_restored_into_a_fresh_folder_plays_signs_in_and_verifies(tmp_path: Path) -> None:
    data, backup, keys, new = (tmp_path / name for name in ("old", "backup", "keys", "new"))
    kept = await fill(data)
    made = run(commands("Back up"), data=data, backup=backup, keys=keys)
    assert (made.returncode, made.stderr.count("error")) == (0, 0), made.stderr
    data.rename(tmp_path / "gone")  # so all that is there afterwards comes from the backup
    restored = run(commands("Restore"), backup=backup, keys=keys, new=new)
    assert restored.returncode == 0, restored.stderr
    assert "error" not in restored.stderr.lower()
    lines = [line.split("\t") for line in restored.stdout.splitlines()]
    assert [line[1] for line in lines] == ["whole"]
    assert lines[0][2] != "sealed 0"
    with database(new) as databases:
        assert counted(databases.administrator) == kept.rows
        async with instance(new, databases) as (client, ctx):
            await plays_and_signs_in(client, ctx, kept)


async def plays_and_signs_in(client: httpx.AsyncClient, ctx: AppContext, kept: Kept) -> None:
    headers = factories.bearer(ctx, kept.manager)
    heard = await client.get(f"/api/recordings/{kept.recording_id}/download", headers=headers)
    assert (heard.status_code, heard.content == kept.sound) == (200, True)
    entered = await client.post("/api/auth/sign-in", json=kept.credentials)
    assert entered.status_code == 200, entered.text
    token: dict[str, Any] = entered.json()
    me = await client.get("/api/me", headers={"Authorization": f"Bearer {token['access_token']}"})
    assert me.json()["user_id"] == str(kept.manager.user_id)
    session = await client.post(
        "/api/sessions", json={"session_type": "meeting", "title": "After the restore"}, headers=headers
    )
    assert session.status_code == 201, session.text


def test_a_restore_over_a_database_that_is_in_use_fails_and_changes_nothing(tmp_path: Path) -> None:
    data, dump = tmp_path / "data", tmp_path / "writecare.dump"
    with database(data) as databases:
        before = counted(databases.administrator)
    command = './writecare database --data "$data" '
    assert run(command + 'pg_dump --format=custom --file="$dump" writecare', data=data, dump=dump).returncode == 0
    again = run(command + 'pg_restore --single-transaction --dbname=writecare "$dump"', data=data, dump=dump)
    assert again.returncode == 1
    assert "already exists" in again.stderr
    with database(data) as databases:
        assert counted(databases.administrator) == before


def test_the_command_says_what_is_wrong_use(tmp_path: Path) -> None:
    assert run('./writecare database --data "$data"', data=tmp_path / "data").returncode == 2
    absent = run('./writecare database --data "$data" no-such-program', data=tmp_path / "data")
    assert absent.returncode == 1
    assert "no-such-program" in absent.stderr
