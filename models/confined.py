"""Where a stranger's file is opened: a child process that has given up all but its standard input and output.

The parent starts it with `confined`, naming a module of ours whose `main` begins with `confine` and loads its decoder
only then. The child reads the file on standard input and answers on standard output in records of one letter, a
length (unsigned 32-bit, little-endian) and a body. What the letters mean is each child's own affair; `C` tells which
limits the kernel granted. Nothing but the standard library is imported here: both sides use this module.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

_ROOT: Final = Path(__file__).parents[1]
_CHUNK: Final = 1 << 16
_MAX_RECORD: Final = 64 << 20
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38

Records = Iterator[tuple[bytes, bytes]]


# --- the parent ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def descriptor_of(source: Path | BinaryIO) -> Iterator[int]:
    """A descriptor that the child can seek in; the caller's file is left where it was."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file.fileno()
        return
    position = source.tell()
    try:
        try:
            descriptor = source.fileno()
        except (OSError, AttributeError):
            with tempfile.TemporaryFile() as copy:  # a file in memory has no descriptor to pass on
                source.seek(0)
                while chunk := source.read(1 << 20):
                    copy.write(chunk)
                copy.flush()
                yield copy.fileno()
        else:
            if source.writable():
                source.flush()
            yield descriptor
    finally:
        source.seek(position)


@contextlib.contextmanager
def confined(module: str, arguments: Sequence[str], descriptor: int, seconds: float) -> Iterator[Records]:
    """The module's `main(arguments)` on an open file; its records as they come, for so many seconds.

    The records end early where the child crashes, breaks the protocol or is too slow. It is dead when the block ends.
    """
    start = f"import sys; sys.path.append({str(_ROOT)!r}); from {module} import main; main(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-I", "-B", "-c", start, *arguments],
        stdin=descriptor,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # decoders quote the file in their messages
        cwd="/",
        env={"LC_ALL": "C.UTF-8"},
        close_fds=True,
        bufsize=0,
    )
    try:
        yield _records(process, time.monotonic() + seconds)
    finally:
        process.kill()
        if process.stdout is not None:
            process.stdout.close()
        process.wait()


def _records(process: "subprocess.Popen[bytes]", deadline: float) -> Records:
    """The child's records until it ends, breaks the protocol, or the deadline (monotonic seconds) passes."""
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    buffer = bytearray()
    while True:
        while len(buffer) >= 5:
            length = struct.unpack_from("<I", buffer, 1)[0]
            if length > _MAX_RECORD:
                return
            if len(buffer) < 5 + length:
                break
            yield bytes(buffer[:1]), bytes(buffer[5 : 5 + length])
            del buffer[: 5 + length]
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not select.select([pipe], [], [], remaining)[0]:
            return
        chunk = os.read(pipe, _CHUNK)
        if not chunk:
            return
        buffer += chunk


# --- the child -----------------------------------------------------------------------------------------------------


def confine(*, memory_bytes: int, cpu_seconds: int) -> dict[str, bool]:
    """Give up what decoding does not need; returns which limits hold. A refusal by the kernel is not an error."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    no_new_privileges = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    # A new user namespace lets an ordinary user have a network namespace; root may be refused the first alone.
    isolated = libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWNET) == 0
    return {
        "memory": _limited(resource.RLIMIT_AS, memory_bytes),
        "cpu": _limited(resource.RLIMIT_CPU, cpu_seconds),
        "files": _limited(resource.RLIMIT_FSIZE, 0) and _limited(resource.RLIMIT_CORE, 0),
        "network": isolated,
        "privileges": no_new_privileges,
    }


def _limited(what: int, amount: int) -> bool:
    try:
        resource.setrlimit(what, (amount, amount))
    except (OSError, ValueError):
        return False
    return True


def send(out: BinaryIO, kind: bytes, body: dict[str, Any] | bytes) -> None:
    """Answers with one record; what is no bytes goes as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    out.write(kind + struct.pack("<I", len(content)) + content)
