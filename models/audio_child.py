"""The confined process that opens a stranger's audio file: started by `models/audio.py`.

`models/sandbox.py` runs it: the decoder is loaded, then all but the open file is given up, then the file is read. It
answers in these records:

    H  JSON: what the file says of itself             P  PCM, mono float32 at the rate asked for
    E  JSON: what was found in it
    X  JSON: {"slug", "stated", "found"}: why the file is refused; nothing of the file's content

Arguments: confinement | inspect | decode  MAX_SECONDS RATE
"""

import contextlib
import os
import struct
from collections.abc import Iterator
from importlib import import_module
from typing import Any, BinaryIO

from models.sandbox import send

_HEAD_BYTES = 1 << 16
_KINDS = ("audio", "video", "subtitles")
_DECODER = ("av", "logging", *(f"av.{kind}.{part}" for kind in _KINDS for part in ("codeccontext", "stream")))

# Formats whose header states how much audio follows. The others (bare MP3, AAC, Ogg, transport streams) say
# nothing of it, and the decoder's guess from the bit rate is no statement.
_STATING_FORMATS = {"flac", "mov", "mp4", "matroska", "webm", "aiff", "asf", "avi", "caf", "flv"}


class Refused(Exception):
    def __init__(self, slug: str, stated: float | None = None, found: float | None = None) -> None:
        super().__init__(slug)
        self.body = {"slug": slug, "stated": stated, "found": found}


def load(head: bytes) -> None:
    """Imports PyAV whole: it would import some of its modules only when a file first needs them."""
    for name in _DECODER:
        import_module(name)


def main(arguments: list[str], source: BinaryIO, out: BinaryIO) -> None:
    """Reads `source`, answers on `out`; see above."""
    task, max_seconds, rate = arguments[0], float(arguments[1]), int(arguments[2])
    if task != "confinement":
        try:
            read(source, out, max_seconds=max_seconds, rate=rate, keep=task == "decode")
        except Refused as refusal:
            send(out, b"X", refusal.body)
        except MemoryError:
            send(out, b"X", Refused("audio-unreadable").body)


def read(source: BinaryIO, out: BinaryIO, *, max_seconds: float, rate: int, keep: bool) -> None:
    """Decode all of `source`; refuses what is empty, unreadable, too long or not as long as it says."""
    import av  # noqa: PLC0415 - loaded already

    av.logging.set_level(None)
    size = source.seek(0, os.SEEK_END)
    if size == 0:
        raise Refused("audio-empty")
    source.seek(0)
    head = source.read(_HEAD_BYTES)
    source.seek(0)
    try:
        container = av.open(source, mode="r", metadata_errors="ignore")
    except (av.error.FFmpegError, ValueError, OSError):
        raise Refused("audio-unreadable") from None
    with container:
        if not container.streams.audio:
            raise Refused("audio-unreadable")
        stream = container.streams.audio[0]
        stated = stated_seconds(container, stream, source=source, size=size, head=head)
        if stated is not None and stated > max_seconds:
            raise Refused("audio-too-long", stated=stated)
        send(out, b"H", described(container, stream))
        samples = reached = 0.0
        limit = max_seconds if stated is None else min(max_seconds, stated + tolerance(stated))
        for pcm, position in decoded(av, container, stream, rate):
            reached = max(reached, position)
            samples += len(pcm) // 4
            if samples / rate > limit:
                slug = "audio-too-long" if stated is None or limit == max_seconds else "audio-truncated"
                raise Refused(slug, stated=stated, found=samples / rate)
            if keep and pcm:
                send(out, b"P", pcm)
        found = samples / rate
        if stated is not None and stated - max(found, reached) > tolerance(stated):
            raise Refused("audio-truncated", stated=stated, found=found)
        if samples == 0:
            raise Refused("audio-empty")
        if container.format.name == "ogg" and ogg_ends_inside_a_page(source, size):
            raise Refused("audio-truncated", found=found)
        send(out, b"E", {"seconds": found})


def tolerance(stated: float) -> float:
    """Seconds by which found and stated length may differ: encoder delay, padding, rounding."""
    return max(1.0, 0.02 * stated)


def described(container: Any, stream: Any) -> dict[str, Any]:
    return {
        "container": container.format.name.split(",")[0],
        "codec": stream.codec_context.name,
        "channels": stream.codec_context.channels,
        "sample_rate": stream.codec_context.sample_rate,
    }


def decoded(av: Any, container: Any, stream: Any, rate: int) -> Iterator[tuple[bytes, float]]:
    """Yield PCM and the furthest position (seconds) that any stream of the file has reached.

    A damaged packet is left out, as a player would: one bad second must not hide an hour of evidence. A file of
    which most packets are damaged is refused.
    """
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    origin = (container.start_time or 0) / av.time_base
    packets = damaged = 0
    position, begun = 0.0, False
    demuxed = container.demux()
    while True:
        try:
            packet = next(demuxed)
        except StopIteration:
            break
        except av.error.FFmpegError:
            break  # what follows cannot be reached; the stated length tells whether that matters
        if packet.pts is not None:
            position = max(position, float((packet.pts + (packet.duration or 0)) * packet.time_base) - origin)
        if packet.stream.index != stream.index:
            continue
        packets += 1
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            damaged += 1
            if damaged > 20 and damaged > packets / 2:
                raise Refused("audio-unreadable") from None
            continue
        for frame in frames:
            if not begun:
                begun = True
                yield leading_silence(frame, origin, rate), position
            try:
                pieces = resampler.resample(frame)
            except ValueError:  # rate or channels changed inside the file
                pieces = resampler.resample(None)
                resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
                pieces += resampler.resample(frame)
            yield b"".join(plane(piece) for piece in pieces), position
    if not begun and damaged:
        raise Refused("audio-unreadable")
    if begun:
        yield b"".join(plane(piece) for piece in resampler.resample(None)), position


def plane(frame: Any) -> bytes:
    return bytes(frame.planes[0])[: frame.samples * 4]


def leading_silence(frame: Any, origin: float, rate: int) -> bytes:
    """Silence for a track that joined late, so that the tracks of one call stay aligned."""
    if frame.pts is None or frame.time_base is None:
        return b""
    late = float(frame.pts * frame.time_base) - origin
    return bytes(4 * int(late * rate)) if 0.05 < late < 3600 else b""


# --- what a file says of its own length ------------------------------------------------------------------------


def stated_seconds(container: Any, stream: Any, *, source: BinaryIO, size: int, head: bytes) -> float | None:
    """The length that the file states, in seconds, or None where it states none."""
    names = set(container.format.name.split(","))
    if names & {"wav", "w64", "rf64"}:
        position = source.tell()
        with contextlib.suppress(struct.error):
            return wave_seconds(source, stream.codec_context)
        source.seek(position)
        return None
    stream_seconds = None if stream.duration is None else float(stream.duration * stream.time_base)
    container_seconds = None if container.duration is None else container.duration / 1_000_000
    if "mp3" in names:
        return stream_seconds if any(tag in head for tag in (b"Xing", b"Info", b"VBRI")) else None
    if not names & _STATING_FORMATS:
        return None
    seconds = stream_seconds if stream_seconds is not None else container_seconds
    bit_rate = sum(other.codec_context.bit_rate or 0 for other in container.streams if other.type in {"audio", "video"})
    # FFmpeg fills a missing length with size over bit rate: a guess, recognised by being just that.
    guessed = bool(bit_rate and seconds and abs(seconds - size * 8 / bit_rate) < 0.005 * seconds)
    return None if guessed else seconds


def wave_seconds(source: BinaryIO, codec: Any) -> float | None:
    """The length that a RIFF file's data chunk claims; FFmpeg would quietly take the file's own size instead."""
    position = source.tell()
    try:
        source.seek(0)
        riff, _, wave = struct.unpack("<4sI4s", source.read(12))
        if riff not in {b"RIFF", b"RF64"} or wave != b"WAVE":
            return None
        bytes_per_second, claimed_long = 0, None
        while True:
            name, length = struct.unpack("<4sI", source.read(8))
            if name == b"data":
                break
            body = source.read(min(length + length % 2, 1 << 20))
            if name == b"fmt ":
                bytes_per_second = struct.unpack_from("<I", body, 8)[0]
            elif name == b"ds64":
                claimed_long = struct.unpack_from("<Q", body, 8)[0]
        streamed = length in {0, 0xFFFFFFFF}  # a writer that did not know the length yet
        claimed = claimed_long if streamed else length
        return claimed / bytes_per_second if claimed and bytes_per_second else None
    finally:
        source.seek(position)


def ogg_ends_inside_a_page(source: BinaryIO, size: int) -> bool:
    """Whether the last Ogg page is cut: Ogg states no length, but each page states its own (RFC 3533, section 6)."""
    source.seek(max(0, size - 2 * 65307))  # the largest page there is, twice
    tail = source.read()
    start = tail.rfind(b"OggS")
    if start < 0 or len(tail) < start + 27:
        return True
    segments = tail[start + 26]
    table = tail[start + 27 : start + 27 + segments]
    return len(table) < segments or len(tail) - start < 27 + segments + sum(table)
