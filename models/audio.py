"""From a file to sound: the first step after a recording is stored, and the check when one is uploaded.

Any audio or video file becomes mono float32 at 16 kHz. The file comes from a stranger, so the decoder runs in a
confined child process (`models/confined.py`). Nothing but the standard library and numpy is imported here: the
communications core uses this module too.
"""

import contextlib
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from models.confined import NOT_CONFINED, Confinement, Limits, Records, confined, confinement_in, descriptor_of
from models.errors import WriteCareError, invalid, too_large

SAMPLE_RATE: Final = 16_000

_MEMORY_BYTES: Final = 1 << 30  # address space: interpreter and decoders map 0.4 GB, a hostile header asks for more

_ASKING_SECONDS: Final = 60.0  # a process asks once, at its start: it can wait for a busy machine


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


def decode(source: Path | BinaryIO, *, max_seconds: float, allow_unconfined: bool = False) -> DecodedAudio:
    """Decode the first audio stream of a file (path, or binary file read from its start) to 16 kHz mono.

    Raises `WriteCareError`: `audio-empty`, `audio-unreadable`, `audio-truncated` (the file's length differs from
    what it states by more than 1 s and 2 %), `audio-too-long` (refused before decoding where the file states it);
    and what `confined` does: `allow_unconfined` opens the file though the kernel refuses a limit.
    """
    pcm = bytearray()
    info = _run("decode", source, max_seconds, pcm, allow_unconfined)
    return DecodedAudio(np.frombuffer(pcm, dtype="<f4"), info)


def inspect(source: Path | BinaryIO, *, max_seconds: float, allow_unconfined: bool = False) -> AudioInfo:
    """Decode a file fully and keep nothing: the check of an upload. Errors as `decode`."""
    return _run("inspect", source, max_seconds, None, allow_unconfined)


def confinement() -> Confinement:
    """Which limits this kernel grants the child that opens a file; raises `unavailable` where it does not say."""
    limits = Limits(_MEMORY_BYTES, _ASKING_SECONDS, allow_unconfined=True, least_seconds=_ASKING_SECONDS)
    arguments = ("confinement", "0", str(SAMPLE_RATE))
    with (
        tempfile.TemporaryFile() as nothing,
        confined("models.audio_child", arguments, nothing.fileno(), limits) as records,
    ):
        for kind, body in records:
            if kind == b"C":
                return confinement_in(body)
    return NOT_CONFINED


def _run(
    task: str, source: Path | BinaryIO, max_seconds: float, pcm: bytearray | None, allow_unconfined: bool
) -> AudioInfo:
    header: dict[str, Any] = {}
    with descriptor_of(source) as descriptor, _child(task, descriptor, max_seconds, allow_unconfined) as records:
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


@contextlib.contextmanager
def _child(task: str, descriptor: int, max_seconds: float, allow_unconfined: bool) -> Iterator[Records]:
    """The confined decoder on an open file."""
    most_seconds = 60 + max_seconds / 20  # decoding is hundreds of times faster than the sound
    limits = Limits(_MEMORY_BYTES, most_seconds, allow_unconfined)
    with confined("models.audio_child", (task, str(max_seconds), str(SAMPLE_RATE)), descriptor, limits) as records:
        yield records
