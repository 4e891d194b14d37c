"""Runs the API as a separate process, as the launcher does."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from instance.launcher import free_port

ROOT = Path(__file__).parents[2]


class ApiProcess:
    """`python -m comms.app.server` on its own port, which it keeps after a restart."""

    def __init__(self, data_dir: Path, database_url: str) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._wiring = {
            "WRITECARE_DATA_DIR": str(data_dir), "WRITECARE_PORT": str(self.port),
            "WRITECARE_ROLE_DATABASE_URL": database_url,
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process and returns at once."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "comms.app.server"], env=os.environ | self._wiring, cwd=ROOT,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def wait_ready(self) -> None:
        """Returns once the API answers; fails if it has ended or does not answer within a minute."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, "the API ended while starting"
            try:
                if httpx.get(f"{self.address}/health", trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the API does not answer")

    def kill(self) -> None:
        """Kills the process with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
