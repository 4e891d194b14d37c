"""Runs a program on a kernel that refuses confinement calls: `python -m tests.seccomp_refusal CALL… -- PROGRAM…`.

A seccomp filter on this process and its children makes the calls fail, as on an old kernel or in a container runtime.
"""

import ctypes
import errno
import os
import sys

from models.confinement.seccomp import install_filter, refuse_with, verdict_rule

_X86_64 = os.uname().machine == "x86_64"
_ALLOW = 0x7FFF0000
_CALLS = {
    "landlock": ((444, 445, 446), errno.ENOSYS),
    "seccomp": ((317 if _X86_64 else 277,), errno.ENOSYS),
    "unshare": ((272 if _X86_64 else 97,), errno.EPERM),
    "chroot": ((161 if _X86_64 else 51,), errno.EPERM),
}


def main() -> None:
    end = sys.argv.index("--")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS: without it an ordinary user may not install a filter
    rules = []
    for name in sys.argv[1:end]:
        numbers, error = _CALLS[name]
        for number in numbers:
            rules += verdict_rule(number, refuse_with(error))
    assert install_filter(libc, rules, _ALLOW)
    os.execv(sys.argv[end + 1], sys.argv[end + 1 :])


if __name__ == "__main__":
    main()
