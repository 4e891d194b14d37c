"""Decodes the sound of an uploaded recording to samples, and checks recordings on upload.

The result is float32 at 16 kHz, one array for each track; `models/audio/channel_layout.py` decides which channels
become tracks. The file is untrusted, so the decoder runs in a child process (`models/confinement/process.py`) with
limits on memory, processor time and wall-clock time, without privileges, inherited files or, if the kernel supports
it, network. This module imports only the standard library and numpy, because the communications core uses it too.
"""

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from models.audio.containers import MOST_CHANNELS, MOST_FULL_CHANNELS, FileView, detect_container
from models.audio.refusal import AudioRefused
from models.confinement.process import (
    NOT_CONFINED,
    Confinement,
    Limits,
    Records,
    confined,
    open_descriptor,
    parse_confinement,
)
from models.contract.audio_tracks import Channels, LeftOut, Sound, SoundPart
from models.contract.errors import WriteCareError, invalid, too_large

Samples = NDArray[np.float32]

SAMPLE_RATE: Final = 16_000

_PROBE_SECONDS: Final = 60.0  # a process probes once, at its start, so it can wait on a busy machine
_CHUNK_SAMPLES: Final = 1 << 20  # samples mixed at a time
_MEMORY_BYTES: Final = 1 << 30  # address space; interpreter and decoders map 0.4 GB, a hostile header requests more


@dataclass(frozen=True)
class AudioInfo:
    """Description of a file: duration; container, codec, channels and sample rate of its first audio stream; tracks."""

    duration_seconds: float
    container: str
    codec: str
    channels: int
    source_sample_rate: int
    sound: Sound


@dataclass(frozen=True, eq=False)
class DecodedAudio:
    """`tracks`: one or more float32[n] at 16 kHz in [-1, 1]. `info` describes the file."""

    tracks: tuple[Samples, ...] = field(repr=False)
    info: AudioInfo

    @property
    def samples(self) -> Samples:
        """The only track of a recording that was decoded with `channels="mix"`."""
        [track] = self.tracks
        return track

    @property
    def duration_seconds(self) -> float:
        return self.info.duration_seconds


def decode(
    source: Path | BinaryIO, *, max_seconds: float, channels: Channels = "mix", allow_unconfined: bool = False
) -> DecodedAudio:
    """Decode the sound of a file (path, or binary file, read from its start). `channels` as in `CHANNELS_HELP`.

    Raises `WriteCareError`: `audio-empty`, `audio-unreadable`, `audio-truncated` (its end is missing),
    `audio-too-long` (before decoding if the file states its duration), `audio-too-many-channels`.
    Memory: at most four channels of `max_seconds` are held before they are mixed (230 MB for each hour of a channel).
    """
    assembler = _TrackAssembler()
    info = _run(_DecoderTask("decode", max_seconds, channels, allow_unconfined), source, assembler)
    return DecodedAudio(assembler.tracks(), info)


def inspect(
    source: Path | BinaryIO, *, max_seconds: float, channels: Channels = "mix", allow_unconfined: bool = False
) -> AudioInfo:
    """Check an upload: decode the whole file and discard the samples. Raises the same errors as `decode`."""
    return _run(_DecoderTask("inspect", max_seconds, channels, allow_unconfined), source, None)


def refuse_too_long(files: Sequence[AudioInfo], max_seconds: float) -> None:
    """Raises `too_large` (`audio-too-long`) if the tracks of all files of a call together need too much memory."""
    seconds = sum(len(info.sound.tracks) * info.duration_seconds for info in files)
    most = MOST_FULL_CHANNELS * max_seconds
    if seconds > most:
        raise too_large(
            "audio-too-long",
            f"The tracks of the call are {_format_length(seconds)} long together; at most {_format_length(most)} is "
            f"taken ({MOST_FULL_CHANNELS} times max_recording_seconds). Split the call, or send a mix of its tracks.",
        )


def confinement() -> Confinement:
    """The limits that this kernel grants the child process. Raises `unavailable` if the child does not answer."""
    limits = Limits(_MEMORY_BYTES, _PROBE_SECONDS, allow_unconfined=True, least_seconds=_PROBE_SECONDS)
    arguments = ("confinement", "0", str(SAMPLE_RATE), "", "mix")
    with (
        tempfile.TemporaryFile() as nothing,
        confined("models.audio.decoder_child", arguments, nothing.fileno(), limits) as records,
    ):
        for kind, body in records:
            if kind == b"C":
                return parse_confinement(body)
    return NOT_CONFINED


@dataclass(frozen=True)
class _DecoderTask:
    """The task of the child: what to do with a file, and its limits."""

    name: str
    max_seconds: float
    channels: Channels
    allow_unconfined: bool


def _run(task: _DecoderTask, source: Path | BinaryIO, assembler: "_TrackAssembler | None") -> AudioInfo:
    with open_descriptor(source) as descriptor:
        container = _container(descriptor, task.max_seconds)
        with _child(task, descriptor, container) as records:
            try:
                return _read(records, task, assembler)
            except (ValueError, KeyError, TypeError, IndexError):  # a compromised child can send anything
                raise _refusal({"slug": "audio-unreadable"}, task.max_seconds) from None


def _read(records: Records, task: _DecoderTask, assembler: "_TrackAssembler | None") -> AudioInfo:
    header: dict[str, Any] = {}
    layouts: list[dict[str, Any]] = []
    max_seconds = task.max_seconds
    most = 4 * SAMPLE_RATE * MOST_FULL_CHANNELS * (max_seconds + 1)  # the child checks this too, but it is not trusted
    for kind, body in records:
        if kind == b"H":
            header = json.loads(body)
        elif kind == b"P" and assembler is not None:
            assembler.add_samples(body)
            if assembler.size > most:
                raise _refusal({"slug": "audio-too-long"}, max_seconds)
        elif kind == b"L":
            layouts.append(json.loads(body))
            if assembler is not None:
                assembler.end_section(layouts[-1]["tracks"])
        elif kind == b"X":
            raise _refusal(json.loads(body), max_seconds)
        elif kind == b"E":
            return _info(header, max(layouts, key=lambda one: len(one["tracks"])), json.loads(body))
    # The child sent no result: it crashed or exceeded a limit.
    raise _refusal({"slug": "audio-unreadable"}, max_seconds)


def _container(descriptor: int, max_seconds: float) -> str:
    """Detect the container from the first bytes. Other files are refused before a child is started."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        size = file.seek(0, os.SEEK_END)
        try:
            return detect_container(FileView(file, 0, size))
        except AudioRefused as refusal:
            raise _refusal(refusal.body, max_seconds) from None


def _info(header: dict[str, Any], layout: dict[str, Any], end: dict[str, Any]) -> AudioInfo:
    tracks = tuple(tuple(SoundPart(stream=part["stream"], channel=part["channel"]) for part in track)
                   for track in layout["tracks"])  # fmt: skip
    return AudioInfo(
        duration_seconds=float(end["seconds"]),
        container=str(header["container"]),
        codec=str(header["codec"]),
        channels=int(header["channels"]),
        source_sample_rate=int(header["sample_rate"]),
        sound=Sound(
            tracks=tracks,
            left_out=tuple(LeftOut(**one) for one in layout["left_out"]),
            silence_inserted_seconds=round(float(end["silence_inserted_seconds"]), 3),
        ),
    )


class _TrackAssembler:
    """Collects the channels from the decoder and mixes them into tracks, section by section."""

    def __init__(self) -> None:
        self._channels: dict[tuple[int, int], bytearray] = {}
        self._tracks: list[bytearray] = []
        self.size = 0  # bytes received

    def add_samples(self, body: bytes) -> None:
        """Add a `P` record: stream number, channel number, samples."""
        self._channels.setdefault((body[0], body[1]), bytearray()).extend(memoryview(body)[2:])
        self.size += len(body) - 2

    def end_section(self, tracks: list[list[dict[str, Any]]]) -> None:
        """Mix the section's channels into `tracks`, each as long as the section; append them to earlier sections."""
        before = max((len(track) for track in self._tracks), default=0)
        length = max(len(channel) for channel in self._channels.values())
        for number, parts in enumerate(tracks):
            mixed = self._mix_channels(parts)
            mixed.extend(bytes(length - len(mixed)))
            if not before:
                self._tracks.append(mixed)
                continue
            if number == len(self._tracks):
                self._tracks.append(bytearray(before))
            self._tracks[number] += mixed
        for track in self._tracks:
            track.extend(bytes(before + length - len(track)))
        self._channels.clear()

    def tracks(self) -> tuple[Samples, ...]:
        return tuple(np.frombuffer(track, "<f4") for track in self._tracks)

    def _mix_channels(self, parts: list[dict[str, Any]]) -> bytearray:
        """The weighted sum of the channels, computed in the buffer of the longest one, in chunks, to save memory."""
        found = [(self._channels.pop((part["stream"], part["channel"])), float(part["weight"])) for part in parts]
        found.sort(key=lambda one: -len(one[0]))
        whole = np.frombuffer(found[0][0], "<f4")
        for start in range(0, len(whole), _CHUNK_SAMPLES):
            piece = whole[start : start + _CHUNK_SAMPLES]
            piece *= np.float32(found[0][1])
            for other, weight in found[1:]:
                added = np.frombuffer(other, "<f4")[start : start + _CHUNK_SAMPLES]
                piece[: len(added)] += np.float32(weight) * added
        return found[0][0]


def _refusal(body: dict[str, Any], max_seconds: float) -> WriteCareError:
    stated, found = body.get("stated"), body.get("found")
    match body["slug"]:
        case "audio-empty":
            return invalid("audio-empty", "The file holds no sound. Record or export the call again.")
        case "audio-too-long":
            length = f"{_format_length(stated)} long" if stated else f"longer than {_format_length(max_seconds)}"
            return too_large(
                "audio-too-long",
                f"The recording is {length}; at most {_format_length(max_seconds)} is taken (max_recording_seconds). "
                "Split it and send the parts.",
            )
        case "audio-too-many-channels":
            return too_large(
                "audio-too-many-channels",
                f"The recording has {body.get('channels') or 'many'} channels of sound; at most {MOST_CHANNELS} are "
                f"taken, and at most {MOST_FULL_CHANNELS} times {_format_length(max_seconds)} "
                "(max_recording_seconds) over all of them. Export fewer channels, or a mix of them.",
            )
        case "audio-truncated":
            lengths = (
                f"It states {_format_length(stated)} but holds {_format_length(found)}. " if stated and found else ""
            )
            return invalid(
                "audio-truncated",
                f"The end of the recording is missing. {lengths}Copy or export the complete file again.",
            )
        case _:
            return invalid(
                "audio-unreadable",
                "No sound could be read from this file. Send a recording as WAV, FLAC, MP3, M4A, MP4, Ogg or WebM.",
            )


def _format_length(seconds: float) -> str:
    """`12.3 s` under a minute, otherwise `h:mm:ss`."""
    if not math.isfinite(seconds) or seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


@contextlib.contextmanager
def _child(task: _DecoderTask, descriptor: int, container: str) -> Iterator[Records]:
    """Start the confined decoder on an open file."""
    most_seconds = 60 + task.max_seconds / 20  # decoding is hundreds of times faster than real time
    limits = Limits(_MEMORY_BYTES, most_seconds, task.allow_unconfined)
    arguments = (task.name, str(task.max_seconds), str(SAMPLE_RATE), container, task.channels)
    with confined("models.audio.decoder_child", arguments, descriptor, limits) as records:
        yield records
