"""Opens untrusted files in a confined child process that has access only to one open file and a pipe.

`confined` starts the child and names the module of ours that `models/confinement/sandbox.py` runs in it. The child
reads the file from standard input and writes records to standard output: one letter, a length (unsigned 32-bit,
little-endian) and a body. The first record is `C`: the limits that the kernel granted. If a limit is missing, the file
is not read, unless the caller allows that. Each child module defines the other letters. This module imports only the
standard library.
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
_RETRY_UNCONFINED_SECONDS: Final = 600  # an operator has to act first

# Time limit for the smallest file on a busy machine, and for each KiB. An hour of silence can be as small as 10 KiB.
_LEAST_SECONDS: Final = 10.0
_SECONDS_PER_KIB: Final = 0.5

Records = Iterator[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Confinement:
    """The confinement that the kernel granted a child: each limit by name, and the layers that enforce them."""

    limits: dict[str, bool]
    layers: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The limits that nothing enforces."""
        return tuple(name for name in _LIMITS if not self.limits.get(name, False))


@dataclass(frozen=True)
class Limits:
    """Resource limits of a child: address space, and the maximum time. A small file gets less time.

    `allow_unconfined`: whether to open the file although the kernel refuses a limit.
    """

    memory_bytes: int
    most_seconds: float
    allow_unconfined: bool = False
    least_seconds: float = _LEAST_SECONDS

    def seconds_for(self, size: int) -> float:
        """The time limit in seconds for a file of `size` bytes."""
        return min(self.most_seconds, self.least_seconds + _SECONDS_PER_KIB * size / 1024)


NOT_CONFINED: Final = Confinement(dict.fromkeys(_LIMITS, False), ())


@contextlib.contextmanager
def open_descriptor(source: Path | BinaryIO) -> Iterator[int]:
    """A read-only descriptor at the start of the file. The position of the caller's own file does not change."""
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
            ).fileno()  # a file in memory has no descriptor to pass to the child
        # Open the file again: through the caller's descriptor, the child could write and change the file position.
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
    """Run the module's `main` in a confined child on an open file, and yield an iterator over its records.

    The records end early if the child crashes, exceeds a limit or breaks the protocol. Iterating raises `unavailable`:
    `decoding-unconfined` (the kernel refuses a limit and the caller does not allow that) or `decoding-timed-out`. The
    child is killed when the block ends.
    """
    seconds = limits.seconds_for(os.fstat(descriptor).st_size)
    cpu_seconds = math.ceil(
        seconds / 2
    )  # a child that uses this up computes too much; the load of the machine is not the cause
    called = (module, limits.memory_bytes, cpu_seconds, not limits.allow_unconfined)
    path = f"import sys; sys.path.append({str(_ROOT)!r})"
    start = f"{path}; from models.confinement.sandbox import run; run(*{called!r}, sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", start, *arguments],
        stdin=descriptor,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # decoder messages may quote the file
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
    """Parse the body of a `C` record."""
    said = json.loads(body)
    return Confinement({str(name): bool(held) for name, held in said["limits"].items()}, tuple(said["layers"]))


def _require_confinement(records: Records) -> Records:
    """Yield the records if the first one says that the child is fully confined. Otherwise raise without reading on."""
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
        "This machine cannot open uploaded files safely, so uploads are refused: its kernel refuses a limit "
        f"on {', '.join(missing)}. See docs/howto/operate.md.",
        retry_after_seconds=_RETRY_UNCONFINED_SECONDS,
    )


def _records(process: "subprocess.Popen[bytes]", deadline: float) -> Records:
    """The child's records, until it ends, breaks the protocol, or the deadline (monotonic seconds) passes."""
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
            # A child that computes reaches its processor time limit earlier. This one had to wait for the processor.
            raise unavailable("decoding-timed-out", "The machine is too busy to open this file. Try again shortly.")
        chunk = os.read(pipe, _CHUNK)
        if not chunk:
            return
        buffer += chunk
