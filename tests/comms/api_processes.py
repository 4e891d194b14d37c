"""Starts API processes for tests as the launcher does: several on one database, which a test can kill."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx

from comms.web.context import AppContext
from instance.provisioning import Databases
from tests.comms.http_server import free_port

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class ApiProcess:
    """A process and its address."""

    process: "subprocess.Popen[bytes]"
    address: str

    def kill(self) -> None:
        """Kills the process without warning (SIGKILL)."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def _start(wiring: dict[str, str], refused: tuple[str, ...]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "comms.app.server"]
    if refused:
        command = [sys.executable, "-m", "tests.seccomp_refusal", *refused, "--", *command]
    return subprocess.Popen(command, cwd=ROOT, env=wiring, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@asynccontextmanager
async def api_process(
    ctx: AppContext, databases: Databases, refused: tuple[str, ...] = (), **more: str
) -> AsyncIterator[ApiProcess]:
    """An API process that answers, until the block ends. `refused`: system calls that fail in it
    (`tests/seccomp_refusal.py`).
    """
    port = free_port()
    wiring = {
        "WRITECARE_ROLE_DATABASE_URL": databases.app, "WRITECARE_DATA_DIR": str(ctx.settings.data_dir),
        "WRITECARE_PORT": str(port), "PATH": os.environ["PATH"],
    }  # fmt: skip
    process = _start(wiring | more, refused)
    try:
        async with httpx.AsyncClient(trust_env=False) as client:

            async def answers() -> bool:
                assert process.poll() is None
                try:
                    return (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200
                except httpx.TransportError:
                    return False

            while not await answers():  # noqa: ASYNC110 - however long a busy machine takes to start it
                await anyio.sleep(0.05)
        yield ApiProcess(process, f"127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()
