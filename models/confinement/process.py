"""Where a stranger's file is opened: a child process that has given up all but an open file and a pipe.

The parent starts it with `confined`, naming a module of ours that `models/confinement/sandbox.py` runs there. The
child reads the file on standard input and answers on standard output in records of one letter, a length (unsigned
32-bit, little-endian) and a body. The first record is `C`: which limits the kernel granted; where one is missing, the
file is not read unless that is allowed. What the other letters mean is each child's own affair. Nothing but the
standard library is imported here.
"""

import contextlib
import json
import math
import os
import select
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from models.contract.errors import Kind, WriteCareError, unavailable

_ROOT: Final = Path(__file__).parents[2]
_CHUNK: Final = 1 << 16
_MAX_RECORD: Final = 64 << 20
_LIMITS: Final = ("memory", "cpu", "files", "network", "processes", "privileges")
_RETRY_UNCONFINED_SECONDS: Final = 600  # it takes an operator

# For the smallest file, on a busy machine, and for each KiB: an hour of silence takes as little as 10 KiB.
_LEAST_SECONDS: Final = 10.0
_SECONDS_PER_KIB: Final = 0.5

Records = Iterator[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Confinement:
    """What the kernel granted a child: each limit by name, and the layers that enforce them."""

    limits: dict[str, bool]
    layers: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The limits that nothing enforces."""
        return tuple(name for name in _LIMITS if not self.limits.get(name, False))


@dataclass(frozen=True)
class Limits:
    """What a child may use: address space, and at most so many seconds, of which a small file has fewer.

    `allow_unconfined`: whether the file is opened though the kernel refuses a limit.
    """

    memory_bytes: int
    most_seconds: float
    allow_unconfined: bool = False
    least_seconds: float = _LEAST_SECONDS

    def seconds_for(self, size: int) -> float:
        """How long a child may take over a file of so many bytes."""
        return min(self.most_seconds, self.least_seconds + _SECONDS_PER_KIB * size / 1024)


NOT_CONFINED: Final = Confinement(dict.fromkeys(_LIMITS, False), ())


@contextlib.contextmanager
def open_descriptor(source: Path | BinaryIO) -> Iterator[int]:
    """A descriptor of the file, for reading alone, at its beginning; the caller's own file stays where it is."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file.fileno()
        return
    with contextlib.ExitStack() as stack:
        try:
            shared = source.fileno()
            if source.writable():
                source.flush()
        except (OSError, AttributeError):
            shared = stack.enter_context(
                _copy_to_temporary_file(source)
            ).fileno()  # a file in memory has no descriptor to pass on
        # Opened anew: the child could write through a descriptor that was opened for writing, and move its position.
        descriptor = os.open(f"/proc/self/fd/{shared}", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        yield descriptor


@contextlib.contextmanager
def _copy_to_temporary_file(source: BinaryIO) -> Iterator[BinaryIO]:
    position = source.tell()
    with tempfile.TemporaryFile() as copy:
        source.seek(0)
        while chunk := source.read(1 << 20):
            copy.write(chunk)
        source.seek(position)
        copy.flush()
        yield copy


@contextlib.contextmanager
def confined(module: str, arguments: Sequence[str], descriptor: int, limits: Limits) -> Iterator[Records]:
    """The module's `main` on an open file; its records as they come.

    The records end early where the child crashes, uses up one of its limits or breaks the protocol. Raises, where the
    block reads them, `unavailable`: `decoding-unconfined` (the kernel refuses a limit and that is not allowed),
    `decoding-timed-out`. The child is dead when the block ends.
    """
    seconds = limits.seconds_for(os.fstat(descriptor).st_size)
    cpu_seconds = math.ceil(seconds / 2)  # who uses that up is at fault itself, not the machine's load
    called = (module, limits.memory_bytes, cpu_seconds, not limits.allow_unconfined)
    path = f"import sys; sys.path.append({str(_ROOT)!r})"
    start = f"{path}; from models.confinement.sandbox import run; run(*{called!r}, sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", start, *arguments],
        stdin=descriptor,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # decoders quote the file in their messages
        cwd="/",
        env={"LC_ALL": "C.UTF-8"},
        close_fds=True,
        bufsize=0,
    )
    try:
        records = _records(process, time.monotonic() + seconds)
        yield records if limits.allow_unconfined else _require_confinement(records)
    finally:
        process.kill()
        if process.stdout is not None:
            process.stdout.close()
        process.wait()


def parse_confinement(body: bytes) -> Confinement:
    """What a `C` record says."""
    said = json.loads(body)
    return Confinement({str(name): bool(held) for name, held in said["limits"].items()}, tuple(said["layers"]))


def _require_confinement(records: Records) -> Records:
    """The records of a child that says first that it is confined; nothing of another child is read."""
    for kind, body in records:
        missing = parse_confinement(body).missing if kind == b"C" else _LIMITS
        if missing:
            raise _unconfined(missing)
        yield kind, body
        break
    yield from records


def _unconfined(missing: Sequence[str]) -> WriteCareError:
    return WriteCareError(
        Kind.UNAVAILABLE,
        "decoding-unconfined",
        "This machine does not let files from outside be opened safely, so none are taken: its kernel refuses a limit "
        f"on {', '.join(missing)}. The operator's page (docs/howto/operate.md) says what to do.",
        retry_after_seconds=_RETRY_UNCONFINED_SECONDS,
    )


def _records(process: "subprocess.Popen[bytes]", deadline: float) -> Records:
    """The child's records until it ends or breaks the protocol, or the deadline (monotonic seconds) passes."""
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
            # A child that computes uses up its processor time first: this one waited for the machine.
            raise unavailable("decoding-timed-out", "The machine is too busy to open this file now: try again shortly.")
        chunk = os.read(pipe, _CHUNK)
        if not chunk:
            return
        buffer += chunk
