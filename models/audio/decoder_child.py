"""Decodes an untrusted audio file in the confined child process that `models/audio/decoder.py` starts.

`models/confinement/sandbox.py` runs this module: it loads the decoder, confines the process, then calls `main` to read
the file. The answer consists of these records:

    H  JSON: container, codec, channels and sample rate of the first audio stream
    P  stream and channel (one byte each), then PCM: float32 at the requested rate
    L  JSON: the layout of the samples that were sent since the last L
    E  JSON: seconds decoded; the last record of a file that was read
    X  JSON: why the file is refused; the last record of a refused file

Arguments: confinement | inspect | decode  MAX_SECONDS RATE CONTAINER CHANNELS
"""

import os
from dataclasses import asdict
from importlib import import_module
from typing import Any, BinaryIO

from models.audio.containers import MOST_FULL_CHANNELS, FileView, open_container
from models.audio.durations import Section, sections_of
from models.audio.refusal import AudioRefused
from models.confinement.sandbox import send

_KINDS = ("audio", "video", "subtitles")
_DECODER = (
    "av", "logging", *(f"av.{kind}.{part}" for kind in _KINDS for part in ("codeccontext", "stream")),
    "models.audio.streams", "numpy.ma",  # which numpy.median imports late
)  # fmt: skip
_MOST_SECTIONS = 1000
_LEAST_BITS_PER_SECOND = 500  # if a stated length means fewer, it is not plausible


def load(head: bytes) -> None:
    """Imports numpy and all modules of PyAV, which would otherwise import some of them only when a file needs them."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # each thread would use address space
    for name in _DECODER:
        import_module(name)


def main(arguments: list[str], source: BinaryIO, out: BinaryIO) -> None:
    """Decodes `source` and writes records to `out`, as described in the module docstring."""
    task, max_seconds, rate, container, channels = arguments
    if task != "confinement":
        try:
            decoder = SectionDecoder(out, float(max_seconds), int(rate), channels, keep=task == "decode")
            decoder.read(source, container)
        except AudioRefused as refusal:
            send(out, b"X", refusal.body)
        except MemoryError:
            send(out, b"X", AudioRefused("audio-unreadable").body)


class SectionDecoder:
    """Decodes one file section by section. Refuses it if it is empty, unreadable, too long or truncated."""

    def __init__(self, out: BinaryIO, max_seconds: float, rate: int, channels: Any, *, keep: bool) -> None:
        self._out, self._max_seconds, self._rate, self._channels, self._keep = out, max_seconds, rate, channels, keep
        self._seconds = self._silence = 0.0
        self._samples = 0

    def read(self, source: BinaryIO, name: str) -> None:
        """Decodes all of `source`. `name` is the demuxer of its container."""
        whole = FileView(source, 0, source.seek(0, os.SEEK_END))
        for number, section in enumerate(sections_of(whole, name)):
            if number >= _MOST_SECTIONS:
                raise AudioRefused("audio-unreadable")
            try:
                self._read_section(section, name, first=number == 0)
            except AudioRefused as refusal:
                cut = section.breaks_off and refusal.body["slug"] == "audio-unreadable"
                raise AudioRefused("audio-truncated") if cut else refusal from None
        if not self._seconds:
            raise AudioRefused("audio-empty")
        send(self._out, b"E", {"seconds": self._seconds, "silence_inserted_seconds": self._silence})

    def _read_section(self, section: Section, name: str, *, first: bool) -> None:
        import av  # noqa: PLC0415 - loaded by `load`

        from models.audio.streams import decode_streams  # noqa: PLC0415

        av.logging.set_level(None)
        with open_container(av, section.view, name) as container:
            stated = stated_seconds(av, container, section, name)
            too_long = stated is not None and self._seconds + stated > self._max_seconds
            if stated is not None and too_long and is_plausible_length(stated, section):
                raise AudioRefused("audio-too-long", stated=stated)
            if first:
                send(self._out, b"H", describe_stream(container))
            decoded = decode_streams(
                av, container, name, self._write, rate=self._rate, most_seconds=self._max_seconds - self._seconds,
                most_samples=int(MOST_FULL_CHANNELS * self._max_seconds * self._rate) - self._samples,
            )  # fmt: skip
        refuse_truncated(section, name, stated, found=decoded.seconds, last_packet_seconds=decoded.last_packet_seconds)
        if decoded.seconds:
            send(self._out, b"L", asdict(decoded.layout(self._channels)))
        self._seconds += decoded.seconds
        self._samples += decoded.samples
        self._silence += max(stream.silence for stream in decoded.streams) / self._rate

    def _write(self, stream: int, channel: int, pcm: bytes) -> None:
        if self._keep:
            send(self._out, b"P", bytes((stream, channel)) + pcm)


def describe_stream(container: Any) -> dict[str, Any]:
    """The file's description of its first audio stream."""
    [codec, *_] = [stream.codec_context for stream in container.streams.audio]
    return {
        "container": container.format.name.split(",")[0],
        "codec": codec.name,
        "channels": codec.channels,
        "sample_rate": codec.sample_rate,
    }


# --- the length that a file states -----------------------------------------------------------------------------


def stated_seconds(av: Any, container: Any, section: Section, name: str) -> float | None:
    """The length that the file states, from its beginning; None if it states none."""
    if section.seconds is not None or section.open_ended or name not in {"mov", "matroska"}:
        return section.seconds
    origin = (container.start_time or 0) / av.time_base
    ends = [
        float(((stream.start_time or 0) + stream.duration) * stream.time_base) - origin
        for stream in container.streams
        if stream.type in {"audio", "video"} and stream.duration
    ]
    seconds = max(ends) if ends else container.duration and container.duration / av.time_base
    bits = sum(other.codec_context.bit_rate or 0 for other in container.streams if other.type in {"audio", "video"})
    # If the length is missing, libav estimates it as size / bit rate. Recognise and ignore this estimate.
    guessed = bool(bits and seconds and abs(seconds - section.view.size * 8 / bits) < 0.005 * seconds)
    return None if guessed or not seconds else float(seconds)


def is_plausible_length(stated: float, section: Section) -> bool:
    """Whether a file of this size can contain sound of the stated length."""
    return section.view.size * 8 >= _LEAST_BITS_PER_SECOND * stated


def length_tolerance(stated: float) -> float:
    """Allowed difference in seconds between found and stated length: encoder delay, padding, rounding."""
    return max(1.0, 0.02 * stated)


def refuse_truncated(
    section: Section, name: str, stated: float | None, *, found: float, last_packet_seconds: float
) -> None:
    """Refuses a truncated file. A stated length alone is no proof if the structure of the file is complete."""
    promised = found * (1 + section.missing) if section.missing else stated
    short = promised is not None and promised - max(found, last_packet_seconds) > length_tolerance(promised)
    proof = section.breaks_off or section.seconds is not None
    if (short and proof) or (section.breaks_off and promised is None):
        raise AudioRefused("audio-truncated", stated=promised if short else None, found=found)
