"""A child process that ends when its parent does, however that ends (Linux)."""

import ctypes
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def dying_with_parent(signal_number: int) -> Callable[[], None]:
    """For `Popen(preexec_fn=…)`: the kernel sends the child this signal when its parent dies, however it dies."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ask_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal_number)

    return ask_kernel
