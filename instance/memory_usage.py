"""How much memory the whole system takes: summed over the process tree, its highest value kept."""

import threading
import time
from pathlib import Path
from typing import Final

import psutil

_SAMPLE_SECONDS: Final = 1.0
_SHARE_OF_TIME: Final = 0.05  # walking the pages of forty processes takes the kernel a while


def tree_bytes(pid: int) -> int:
    """What `pid` and all below it occupy: the proportional set size where the kernel tells, so that pages which
    forks share count once; else the resident set size, which counts them for each."""
    try:
        root = psutil.Process(pid)
        return sum(_bytes_of(process) for process in (root, *root.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0


def _bytes_of(process: psutil.Process) -> int:
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


class PeakMemory(threading.Thread):
    """Samples the tree under `pid` about once a second until stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(name="peak-memory", daemon=True)
        self._pid = pid
        self._stopping = threading.Event()
        self._highest = 0

    def run(self) -> None:
        while not self._stopping.is_set():
            started_at = time.monotonic()
            self.sample()
            self._stopping.wait(max(_SAMPLE_SECONDS, (time.monotonic() - started_at) / _SHARE_OF_TIME))

    def sample(self) -> int:
        """The highest value seen, in bytes, this moment's included."""
        self._highest = max(self._highest, tree_bytes(self._pid))
        return self._highest

    def stop(self) -> None:
        """Ends sampling."""
        self._stopping.set()
        self.join(5)
