"""Makes a child process end when its parent ends for any reason (Linux)."""

import ctypes
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def dying_with_parent(signal_number: int) -> Callable[[], None]:
    """For `Popen(preexec_fn=…)`: the kernel sends this signal to the child when its parent ends for any reason."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ask_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal_number)

    return ask_kernel
