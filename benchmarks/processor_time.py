"""Processor seconds of an instance by kind of process.

For benchmarks that print beside a figure where the time went. The processes below this one are an instance's launcher
and all that it started. The command line tells the kind of a process (Ray names a replica after its deployment).
"""

from collections import defaultdict
from typing import Final

import psutil

# the first of these found in a command line is the kind of the process
_KINDS: Final = {
    "safeguarding replica": "ServeReplica:models:safeguarding", "embedding replica": "ServeReplica:models:embedding",
    "other replicas": "ServeReplica", "api": "comms.app.server", "relay": "comms.outbox.relay",
    "worker": "serving.worker",
    "postgres": "postgres", "ray": "ray", "yardstick": "multiprocessing",
}  # fmt: skip


def seconds_by_kind() -> dict[str, float]:
    """Processor seconds so far of all living processes below this one. `bench` is this process itself."""
    spent: dict[str, float] = defaultdict(float)
    this = psutil.Process()
    spent["bench"] = _seconds(this)
    for process in this.children(recursive=True):
        try:
            spent[_kind(process)] += _seconds(process)
        except psutil.NoSuchProcess:
            continue
    return spent


def _kind(process: psutil.Process) -> str:
    command_line = " ".join(process.cmdline()) or process.name()
    return next((kind for kind, sign in _KINDS.items() if sign in command_line), "others")


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
