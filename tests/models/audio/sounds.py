"""Test helper: synthetic speech-like sound, and audio files made of it in any container."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

RATE = 16_000

Sound = NDArray[np.float32]
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def talk(seconds: float, voice: int = 0, rate: int = RATE) -> Sound:
    """Syllables with pauses, different for each voice; float32[n] with a peak of 0.5."""
    random = np.random.default_rng(voice)
    size = int(seconds * rate)
    time = np.arange(size) / rate
    tone = sum(np.sin(2 * np.pi * (110 + 40 * voice) * k * time + random.uniform(0, 6)) / k for k in range(1, 12))
    envelope, at = np.zeros(size), 0
    while at < size:
        length = int(rate * random.uniform(0.1, 0.35))
        envelope[at : at + length] = np.hanning(length)[: size - at] * random.uniform(0.3, 1)
        pause = random.uniform(0.02, 0.12) if random.random() < 0.8 else random.uniform(0.3, 0.9)
        at += length + int(rate * pause)
    sound = tone * envelope
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


@dataclass(frozen=True)
class Stream:
    """A stream to write: its codec, and samples float32[channels, n]."""

    codec: str
    samples: Sound


def mono(codec: str, samples: Sound) -> Stream:
    return Stream(codec, samples[None])


class _Pipe:
    """An output without seek, like a pipe or a browser's recorder."""

    def __init__(self, out: io.BytesIO) -> None:
        self._out = out

    def write(self, content: bytes) -> int:
        return self._out.write(content)


def recorded(
    container: str,
    *streams: Stream,
    rate: int = RATE,
    piped: bool = False,
    moved: Callable[[float], float] = lambda at: 0.0,
    options: dict[str, str] | None = None,
    path: Path | None = None,
) -> bytes:
    """A file of these streams. `moved` maps the time of a packet (seconds) to the shift of its timestamp.

    `path` is for writers that must read back what they wrote.
    """
    out = io.BytesIO()
    target: Any = str(path) if path else _Pipe(out) if piped else out
    with av.open(target, "w", format=container, options=options or {}) as file:
        made = [file.add_stream(stream.codec, rate=rate, layout=_LAYOUTS[len(stream.samples)]) for stream in streams]
        packets = [
            one for stream, written in zip(streams, made, strict=True) for one in _packets(stream, written, rate)
        ]
        for packet in sorted(packets, key=lambda packet: packet.pts * packet.time_base):
            packet.pts += round(moved(float(packet.pts * packet.time_base)) / packet.time_base)
            packet.dts = packet.pts
            file.mux(packet)
    return path.read_bytes() if path else out.getvalue()


def _packets(stream: Stream, written: Any, rate: int) -> Sequence[Any]:
    codec = written.codec_context
    codec.open()
    size = codec.frame_size or 1024
    converter = av.AudioResampler(format=codec.format, layout=codec.layout, rate=rate)
    found = []
    for at in range(0, stream.samples.shape[1], size):
        piece = np.ascontiguousarray(stream.samples[:, at : at + size])
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=codec.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
        found += [packet for converted in converter.resample(frame) for packet in codec_encode(written, converted)]
    return found + codec_encode(written, None)


def codec_encode(written: Any, frame: Any) -> list[Any]:
    return list(written.encode(frame))


def after(second: float, by: float) -> Callable[[float], float]:
    """A `moved` function: shifts all timestamps from a second on."""
    return lambda at: by if at >= second else 0.0


def loud_seconds(samples: Sound) -> set[int]:
    """The numbers of the seconds that contain sound."""
    seconds = np.pad(samples, (0, -len(samples) % RATE)).reshape(-1, RATE)
    return {int(at) for at in np.flatnonzero(np.abs(seconds).max(axis=1) > 0.05)}
