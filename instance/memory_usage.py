"""Measures the memory of the whole process tree and keeps its peak."""

import threading
import time
from pathlib import Path
from typing import Final

import psutil

_SAMPLE_SECONDS: Final = 1.0
_SHARE_OF_TIME: Final = 0.05  # the kernel needs a while to count the pages of forty processes


def tree_bytes(pid: int) -> int:
    """The memory of `pid` and all its descendants: the proportional set size if the kernel reports it, so that pages
    shared by forks count once; else the resident set size, which counts shared pages for each process."""
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
    """Samples the process tree under `pid` about once a second until it is stopped."""

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
        """The peak in bytes, including a sample taken now."""
        self._highest = max(self._highest, tree_bytes(self._pid))
        return self._highest

    def stop(self) -> None:
        """Ends sampling."""
        self._stopping.set()
        self.join(5)
