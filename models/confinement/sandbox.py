"""Confines the child process that opens an untrusted file, before it reads the file.

There are three independent layers: an empty root directory, Landlock, and a system call filter
(`models/confinement/seccomp.py`). A gap in one is covered by the others. All decoding libraries are loaded before the
confinement, because afterwards the process cannot open or import anything. This module runs only in the child, which
`models/confinement/process.py` starts. Each upload waits for the imports of this module, so they are few and small.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
from importlib import import_module
from typing import Any, BinaryIO, Final

from models.confinement.seccomp import allow_only_listed_calls, system_call

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_CAPABILITIES_VERSION: Final = 0x20080522
_MAX_DESCRIPTORS: Final = 16

HEAD_BYTES: Final = 16  # a module may choose its libraries by these bytes

# Landlock's system call numbers are the same on every architecture (include/uapi/linux/landlock.h).
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_ASK_VERSION: Final = 1
_TCP_BIND_AND_CONNECT: Final = 0b11
_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 0b11


def run(module_name: str, memory_bytes: int, cpu_seconds: int, require_all_limits: bool, arguments: list[str]) -> None:
    """Entry point of the child: load libraries, confine, send a `C` record, run `main(arguments, source, out)`.

    `load(head)` and `main` are functions of the module. `load` imports the libraries for a file with these first bytes.
    If `require_all_limits` is set and a limit is missing, the child ends before it reads the file.
    """
    module = import_module(module_name)
    source, out = os.fdopen(0, "rb", closefd=False), os.fdopen(1, "wb", buffering=1 << 18, closefd=False)
    head = os.pread(0, HEAD_BYTES, 0)
    source.seek(0)  # the parent may have read from the same descriptor
    module.load(head)
    granted = confine(memory_bytes=memory_bytes, cpu_seconds=cpu_seconds)
    send(out, b"C", granted)
    out.flush()
    if not require_all_limits or all(granted["limits"].values()):
        module.main(arguments, source, out)
    out.flush()


def confine(*, memory_bytes: int, cpu_seconds: int) -> dict[str, Any]:
    """Restricts this process to memory, processor time and the open descriptors. Returns what the kernel granted.

    `limits`: for each limit by name, whether at least one layer enforces it. `layers`: the layers that the kernel
    granted. A refusal by the kernel is not an error here: the parent decides (`models/confinement/process.py`).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _close_all_but_three_descriptors()
    network, root = _leave_network(libc), _enter_empty_root()
    privileges = _drop_privileges(libc)
    memory, cpu = _limit(resource.RLIMIT_AS, memory_bytes), _limit(resource.RLIMIT_CPU, cpu_seconds)
    unwritable = _limit(resource.RLIMIT_FSIZE, 0) and _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # after the privileges: changing them clears this setting
    landlock = _restrict_by_landlock(libc)
    filtered = allow_only_listed_calls(libc)
    limits = {
        "memory": memory,
        "cpu": cpu,
        "files": unwritable and (filtered or landlock > 0 or root),
        # Without the filter, a separate network namespace does not block sockets that have a path.
        "network": filtered or (network and root),
        "processes": filtered,
        "privileges": privileges,
    }
    layers = {
        "system calls": filtered, f"landlock {landlock}": landlock > 0, "empty root": root, "own network": network,
    }  # fmt: skip
    return {"limits": limits, "layers": [name for name, granted in layers.items() if granted]}


def send(out: BinaryIO, kind: bytes, body: dict[str, Any] | bytes) -> None:
    """Writes one record. A body that is not bytes is written as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    out.write(kind + struct.pack("<I", len(content)) + content)


def _close_all_but_three_descriptors() -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the descriptor of this directory listing
                os.close(int(name))


def _leave_network(libc: ctypes.CDLL) -> bool:
    # An ordinary user needs a new user namespace for a new network namespace. Root may be refused the former only.
    return libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWNET) == 0


def _enter_empty_root() -> bool:
    """Changes the root to a directory that has been removed: it is empty, and no file can be created in it."""
    if not _enter_removed_directory():
        return False
    try:
        os.chroot(".")
    except OSError:
        return False
    return True


def _enter_removed_directory() -> bool:
    for parent in ("/dev/shm", "/tmp", "/var/tmp"):  # noqa: S108 - the name is random, and the directory is removed
        path = f"{parent}/writecare-{os.urandom(16).hex()}"
        with contextlib.suppress(OSError):
            os.mkdir(path, mode=0o700)
            try:
                os.chdir(path)
            finally:
                os.rmdir(path)
            return True
    return False


def _drop_privileges(libc: ctypes.CDLL) -> bool:
    """Drops all capabilities, forbids new ones, and stops other processes of the same user from tracing this one."""
    header = struct.pack("<Ii", _CAPABILITIES_VERSION, 0)
    dropped = libc.capset(header, bytes(24)) == 0
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return dropped and libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0


def _limit(what: int, amount: int) -> bool:
    try:
        resource.setrlimit(what, (amount, amount))
    except (OSError, ValueError):
        return False
    return True


def _restrict_by_landlock(libc: ctypes.CDLL) -> int:
    """Denies everything that this kernel's Landlock can deny. Returns its version (ABI), or 0 without Landlock."""
    version = system_call(libc, _CREATE_RULESET, None, 0, _ASK_VERSION)
    if version < 1:
        return 0
    attributes = landlock_attributes(version)
    ruleset = system_call(libc, _CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return 0
    restricted = system_call(libc, _RESTRICT_SELF, ruleset, 0) == 0  # a ruleset without rules allows nothing
    os.close(ruleset)
    return version if restricted else 0


def landlock_attributes(version: int) -> bytes:
    """`struct landlock_ruleset_attr` with exactly the fields of this version; the kernel refuses additional bytes."""
    files = 13  # file access rights of version 1; later versions add linking (2), truncating (3) and device ioctls (5)
    files += (version >= 2) + (version >= 3) + (version >= 5)
    attributes = struct.pack("<Q", (1 << files) - 1)
    if version >= 4:
        attributes += struct.pack("<Q", _TCP_BIND_AND_CONNECT)
    if version >= 6:
        attributes += struct.pack("<Q", _ABSTRACT_SOCKETS_AND_SIGNALS)
    return attributes
