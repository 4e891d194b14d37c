"""Memory of a process tree: what a child takes is counted, and the highest value is kept."""

import os
import subprocess
import sys

from instance.memory_usage import PeakMemory, tree_bytes


def test_what_a_child_takes_is_counted_and_kept_after_it_is_gone() -> None:
    memory = PeakMemory(os.getpid())
    before = memory.sample()
    hoard = "import sys; held = b'x' * (256 << 20); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hoard], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert memory.sample() - before > 200 << 20
    assert memory.sample() - before > 200 << 20


def test_a_tree_that_is_gone_takes_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    assert tree_bytes(gone.pid) == 0
