"""From a file to sound: the first step after a recording is stored, and the check when one is uploaded.

Any audio or video file becomes mono float32 at 16 kHz. The file comes from a stranger, so the decoder runs in a
child process (`models/audio_child.py`) with limits on memory, processor time and wall-clock time, no privileges,
no inherited files and, where the kernel allows, no network. Nothing but the standard library and numpy is
imported here: the communications core uses this module too.
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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from models.errors import WriteCareError, invalid, too_large

SAMPLE_RATE: Final = 16_000

_CHILD: Final = Path(__file__).with_name("audio_child.py")
_MEMORY_BYTES: Final = 1 << 30  # address space: interpreter and decoders map 0.4 GB, a hostile header asks for more
_CHUNK: Final = 1 << 16
_MAX_RECORD: Final = 64 << 20


@dataclass(frozen=True)
class AudioInfo:
    """What a file holds: length in seconds, container and codec names, channels and sample rate of the source."""

    duration_seconds: float
    container: str
    codec: str
    channels: int
    source_sample_rate: int


@dataclass(frozen=True, eq=False)
class DecodedAudio:
    """`samples` is float32[n] at 16 kHz mono in [-1, 1]; `info` describes the file that it came from."""

    samples: NDArray[np.float32] = field(repr=False)
    info: AudioInfo

    @property
    def duration_seconds(self) -> float:
        return self.info.duration_seconds


def decode(source: Path | BinaryIO, *, max_seconds: float) -> DecodedAudio:
    """Decode the first audio stream of a file (path, or binary file read from its start) to 16 kHz mono.

    Raises `WriteCareError`: `audio-empty`, `audio-unreadable`, `audio-truncated` (the file's length differs from
    what it states by more than 1 s and 2 %), `audio-too-long` (refused before decoding where the file states it).
    """
    pcm = bytearray()
    info = _run("decode", source, max_seconds, pcm)
    return DecodedAudio(np.frombuffer(pcm, dtype="<f4"), info)


def inspect(source: Path | BinaryIO, *, max_seconds: float) -> AudioInfo:
    """Decode a file fully and keep nothing: the check of an upload. Errors as `decode`."""
    return _run("inspect", source, max_seconds, None)


def confinement() -> dict[str, bool]:
    """Which limits this kernel grants the decoder: memory, cpu, files, network (isolated), privileges (none)."""
    with tempfile.TemporaryFile() as nothing, _child("confinement", nothing.fileno(), 1.0) as records:
        for kind, body in records:
            if kind == b"C":
                return {str(name): bool(held) for name, held in json.loads(body).items()}
    return dict.fromkeys(("memory", "cpu", "files", "network", "privileges"), False)


def _run(task: str, source: Path | BinaryIO, max_seconds: float, pcm: bytearray | None) -> AudioInfo:
    header: dict[str, Any] = {}
    with _descriptor(source) as descriptor, _child(task, descriptor, max_seconds) as records:
        for kind, body in records:
            if kind == b"H":
                header = json.loads(body)
            elif kind == b"P" and pcm is not None:
                pcm += body
                if len(pcm) > 4 * SAMPLE_RATE * (max_seconds + 1):  # the child checks too; it is not trusted
                    raise _refusal({"slug": "audio-too-long"}, max_seconds)
            elif kind == b"X":
                raise _refusal(json.loads(body), max_seconds)
            elif kind == b"E":
                return AudioInfo(
                    duration_seconds=float(json.loads(body)["seconds"]),
                    container=str(header["container"]),
                    codec=str(header["codec"]),
                    channels=int(header["channels"]),
                    source_sample_rate=int(header["sample_rate"]),
                )
    # No verdict: the decoder crashed, or ran into one of its limits.
    raise _refusal({"slug": "audio-unreadable"}, max_seconds)


def _refusal(body: dict[str, Any], max_seconds: float) -> WriteCareError:
    stated, found = body.get("stated"), body.get("found")
    match body["slug"]:
        case "audio-empty":
            return invalid("audio-empty", "The file holds no sound. Record or export the call again.")
        case "audio-too-long":
            length = f"{_clock(stated)} long" if stated else f"longer than {_clock(max_seconds)}"
            return too_large(
                "audio-too-long",
                f"The recording is {length}; at most {_clock(max_seconds)} is taken (max_recording_seconds). "
                "Split it and send the parts.",
            )
        case "audio-truncated":
            lengths = f"It states {_clock(stated)} and holds {_clock(found)}. " if stated and found else ""
            return invalid(
                "audio-truncated",
                f"The recording is not as long as the file says, or it breaks off. {lengths}"
                "Copy or export the complete file again.",
            )
        case _:
            return invalid(
                "audio-unreadable",
                "No sound could be read from this file. Send a recording as WAV, FLAC, MP3, M4A, MP4, Ogg or WebM.",
            )


def _clock(seconds: float) -> str:
    """12.3 s, or h:mm:ss from a minute on."""
    if not math.isfinite(seconds) or seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


# --- the child ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _descriptor(source: Path | BinaryIO) -> Iterator[int]:
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
def _child(task: str, descriptor: int, max_seconds: float) -> Iterator[Iterator[tuple[bytes, bytes]]]:
    """Start the confined decoder on an open file; its records as they come. It is dead when the block is left."""
    allowed = 60 + math.ceil(max_seconds / 20)  # decoding is hundreds of times faster than the sound
    command = [sys.executable, "-I", "-B", str(_CHILD), task, str(max_seconds), str(SAMPLE_RATE), str(_MEMORY_BYTES)]
    process = subprocess.Popen(
        [*command, str(allowed)],
        stdin=descriptor,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # decoders quote the file in their messages
        cwd="/",
        env={"LC_ALL": "C.UTF-8"},
        close_fds=True,
        bufsize=0,
    )
    try:
        yield _records(process, time.monotonic() + allowed)
    finally:
        process.kill()
        if process.stdout is not None:
            process.stdout.close()
        process.wait()


def _records(process: "subprocess.Popen[bytes]", deadline: float) -> Iterator[tuple[bytes, bytes]]:
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
