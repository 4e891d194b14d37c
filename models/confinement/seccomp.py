"""The seccomp filter of a confined child: the system calls that it may make (Linux, x86-64 and aarch64).

It is an allow list: computing, memory, clocks, and descriptors that are already open. No call on it takes a path,
creates a socket, a process or a thread, or addresses another process. A call that is not on the list fails with EPERM;
the decoder's libraries handle that like any other error.
"""

import ctypes
import os
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final

# Name -> number on x86-64 and on aarch64 (include/uapi/asm-generic/unistd.h); None if the call does not exist there.
_ALLOWED: Final[Mapping[str, tuple[int | None, int | None]]] = {
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "lseek": (8, 62), "close": (3, 57), "fstat": (5, 80), "dup": (32, 23),
    "munmap": (11, 215), "mremap": (25, 216), "brk": (12, 214), "madvise": (28, 233),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "restart_syscall": (219, 128), "futex": (202, 98), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153), "getrusage": (98, 165), "sysinfo": (99, 179),
    "getpid": (39, 172), "gettid": (186, 178), "getrandom": (318, 278), "rseq": (334, 293),
    "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
_MMAP, _MPROTECT, _FCNTL = (9, 222), (10, 226), (72, 25)
# Other commands of fcntl can make the kernel send signals to another process (F_SETOWN).
_FCNTL_ALLOWED: Final = (1, 2, 3, 1030)  # F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
_PROT_EXEC: Final = 0x4

# Machine -> column in `_ALLOWED`, architecture id (include/uapi/linux/audit.h), number of the seccomp call.
_MACHINES: Final = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}
_SET_MODE_FILTER, _FILTER_FLAG_TSYNC = 1, 1

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def refuse_with(errno: int) -> int:
    """The filter verdict that makes a call fail with this errno."""
    return 0x00050000 | errno


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install_filter(libc: ctypes.CDLL, rules: Iterable[Instruction], default_verdict: int) -> bool:
    """Installs a filter for all threads of this process. Returns False if kernel or machine do not support it.

    The call's number is loaded before `rules` run. `default_verdict` applies if no rule returns a verdict. The caller
    must have set PR_SET_NO_NEW_PRIVS.
    """
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        return False
    _, architecture, seccomp = machine
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),  # another architecture has other call numbers
        (_LOAD, 0, 0, _NUMBER_AT),
        *rules,
        (_RETURN, 0, 0, default_verdict),
    ]
    packed = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *instruction) for instruction in program))
    filter = _Program(len(program), ctypes.addressof(packed))
    return system_call(libc, seccomp, _SET_MODE_FILTER, _FILTER_FLAG_TSYNC, ctypes.byref(filter)) == 0


def system_call(libc: ctypes.CDLL, *arguments: Any) -> int:
    """Makes a system call; the first argument is its number. Integers are passed as `long`, as the kernel expects."""
    return int(libc.syscall(*(ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)))


def verdict_rule(number: int, verdict: int) -> list[Instruction]:
    """The rule that gives one call this verdict, with any arguments."""
    return [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, verdict)]


def allow_only_listed_calls(libc: ctypes.CDLL) -> bool:
    """Restricts this process to computing and to its open descriptors. Returns False if the kernel refuses that.

    The process can allocate memory, but not executable memory: injected code cannot run.
    """
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        return False
    column, refused = machine[0], refuse_with(1)  # EPERM
    rules: list[Instruction] = []
    for numbers in _ALLOWED.values():
        if (number := numbers[column]) is not None:
            rules += verdict_rule(number, _ALLOW)
    for numbers in (_MMAP, _MPROTECT):  # the protection is the third argument of both
        rules += [
            (_EQUAL, 0, 4, numbers[column]),
            (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * 2),
            (_ANY_BIT, 0, 1, _PROT_EXEC),
            (_RETURN, 0, 0, refused),
            (_RETURN, 0, 0, _ALLOW),
        ]
    commands = [rule for command in _FCNTL_ALLOWED for rule in verdict_rule(command, _ALLOW)]
    rules += [
        (_EQUAL, 0, len(commands) + 2, _FCNTL[column]),
        (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * 1),
        *commands,
        (_RETURN, 0, 0, refused),
    ]
    return install_filter(libc, rules, refused)
