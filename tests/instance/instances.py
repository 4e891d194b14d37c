"""A whole instance as an operator starts it, in a data folder of a test's own, and what it leaves behind."""

import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from instance.launcher import free_port
from instance.run_file import InstanceInfo, read_instance_info

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class InstanceProcess:
    """`./writecare up` on its way or running."""

    process: subprocess.Popen[str]
    data: Path
    port: int
    output_file: Path

    def wait_ready(self) -> InstanceInfo:
        """Where it is to be found once it says that it is ready."""
        while "Ready in" not in self.output_file.read_text():
            assert self.process.poll() is None, self.output_file.read_text()
            time.sleep(0.1)
        running = read_instance_info(self.data)
        assert running is not None
        return running

    def child(self, words: str) -> psutil.Process:
        """The launcher's own child whose command holds these words; waits until there is one."""
        while True:
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.Error):  # some live for a moment only
                    if words in " ".join(child.cmdline()):
                        return child
            time.sleep(0.05)

    def end(self, number: int) -> int:
        """The exit code after this signal."""
        self.process.send_signal(number)
        return self.process.wait(60)


def start_up(data: Path, output_file: Path) -> InstanceProcess:
    """Starts `up`; everything of it carries the data folder's name in its environment."""
    port = free_port()
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "WRITECARE_DATA_DIR": str(data), "WRITECARE_STALLED_AFTER_SECONDS": "3",
    }  # fmt: skip
    with output_file.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", "up", "--port", str(port), "--data", str(data)],
            env=environment, cwd=ROOT, stdout=out, stderr=out, text=True,
        )  # fmt: skip
    return InstanceProcess(process, data, port, output_file)


def leftover_processes(data: Path, *, patience: float = 20.0) -> list[str]:
    """Commands of processes that still belong to that data folder after a while; a passing one is waited for."""
    deadline = time.monotonic() + patience
    while (found := _processes_of(data)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _processes_of(data: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("WRITECARE_DATA_DIR") == str(data) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def run_command(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A subcommand as a program calls it."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "cli", *arguments, "--data", str(data)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
