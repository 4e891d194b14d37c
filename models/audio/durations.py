"""Finds the sections of a recording and whether it was truncated, from the structure of the file.

The length that a file states may be wrong although the sound is complete: recorders that write to a pipe use a
placeholder, others write a wrong rate. So a file is truncated if one of its parts extends beyond the end of the file,
or if less sound was decoded than stated. Files without such a structure (AMR, ADTS, transport streams) state no length.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from models.audio.containers import FileView, boxes, boxes_at, id3_bytes, mpeg_frame

_LARGEST_PAGE: Final = 65307  # bytes of an Ogg page
_FILE_PROPERTIES: Final = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_W64_DATA: Final = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
_KNOWN_BOXES: Final = frozenset({b"moov", b"moof", b"mdat", b"mfra", b"sidx"})
_TAGS: Final = (b"ID3", b"TAG", b"APETAGEX")


@dataclass(frozen=True)
class Section:
    """A part of a file that is a complete recording. Most files have one section.

    `breaks_off`: the last part extends beyond the end of the file. `missing`: the missing sound relative to the sound
    that is there (0.5: half as much is missing), if the file states it. `seconds`: the stated length, if this module
    reads it instead of libav. `open_ended`: no length is stated; ignore the length from libav.
    """

    view: FileView
    breaks_off: bool = False
    missing: float = 0.0
    seconds: float | None = None
    open_ended: bool = False


def sections_of(view: FileView, name: str) -> Iterator[Section]:
    """The sections of the file. A wrong length in a header is corrected."""
    match name:
        case "wav" | "w64" | "aiff" | "caf" | "au":
            yield from _chunked_sections(view, name)
        case "ogg":
            starts = _ogg_links(view)
            parts = [view.part(*ends) for ends in zip(starts, [*starts[1:], view.size], strict=True)]
            yield from (Section(part, breaks_off=_ogg_breaks_off(part)) for part in parts)
        case "matroska":
            starts, breaks_off = _matroska_starts(view)
            for start, end in zip(starts, [*starts[1:], view.size], strict=True):
                yield Section(view.part(start, end), breaks_off=breaks_off and end == view.size)
        case "mov":
            yield _mov(view)
        case "mp3":
            yield _mp3(view)
        case "flac":
            yield Section(view, seconds=_flac_seconds(view))
        case "avi":
            (length,) = struct.unpack("<I", view.bytes_at(4, 4).ljust(4, b"\0"))
            yield _section_of_stated_size(view, 0 if _is_placeholder(length) else length + 8)
        case "asf":
            yield _section_of_stated_size(view, _asf_size(view))
        case _:
            yield Section(view)


# --- a data chunk with its length: WAV, Wave64, AIFF, CAF, AU ---------------------------------------------------------


@dataclass(frozen=True)
class _DataChunk:
    """Start of the sound, stated number of bytes, and position and format of that number."""

    start: int
    claimed: int
    place: int
    struct_format: str  # of `struct`
    extra: int = 0  # bytes by which the written length is larger than the sound


def _chunked_sections(view: FileView, name: str) -> Iterator[Section]:
    data = _data_chunk(view, name)
    if data is None:
        yield Section(view)
        return
    there = view.size - data.start
    if 0 < data.claimed <= there or (data.claimed == 0 and _chunks_follow(view, data.start, name)):
        tail = data.start + data.claimed
        after = next((at for at in (tail, tail + 1) if view.bytes_at(at, 4) == b"RIFF"), None)
        if after is not None and name == "wav":  # concatenated files
            yield Section(view.part(0, after))
            yield from _chunked_sections(view.part(after, view.size), name)
            return
        if there - data.claimed < 8 or _is_metadata(view, tail, name):
            yield Section(view)
            return
    largest = (1 << 8 * struct.calcsize(data.struct_format)) - 1 >> (name in {"caf", "w64"})
    patch = struct.pack(data.struct_format, min(there + data.extra, largest))
    cut = data.claimed > there and not _is_placeholder(data.claimed)
    missing = data.claimed / there - 1 if cut and there > 0 else 0.0
    yield Section(view.patched(data.place, patch), breaks_off=cut, missing=missing)


def _data_chunk(view: FileView, name: str) -> _DataChunk | None:
    if name == "au":
        start, claimed = struct.unpack(">II", view.bytes_at(4, 8).ljust(8, b"\0"))
        return _DataChunk(start, claimed, 8, ">I")
    chunks: dict[bytes, tuple[int, int, int]] = {}
    for kind, place, start, length in _chunks(view, {"wav": 12, "aiff": 12, "caf": 8, "w64": 40}[name], name):
        chunks[kind] = place, start, length
        if kind in {b"data", b"SSND", _W64_DATA}:
            break
    else:
        return None
    place, start, length = chunks[kind]
    if name == "wav" and b"ds64" in chunks and length == 0xFFFFFFFF:  # the length of more than 4 GiB
        wide = chunks[b"ds64"][1] + 8
        return _DataChunk(start, struct.unpack("<Q", view.bytes_at(wide, 8).ljust(8, b"\0"))[0], wide, "<Q")
    inside, struct_format, extra = {
        "wav": (0, _byte_order(view) + "I", 0), "w64": (0, "<Q", 24), "aiff": (8, ">I", 8), "caf": (4, ">q", 4)
    }[name]  # fmt: skip
    return _DataChunk(start + inside, max(0, length - inside), place, struct_format, extra)


def _byte_order(view: FileView) -> str:
    return ">" if view.bytes_at(0, 4) in {b"RIFX", b"FORM"} else "<"


def _chunks(view: FileView, at: int, name: str) -> Iterator[tuple[bytes, int, int, int]]:
    """The chunks from position `at`: kind, position of the length field, start of the content, its length."""
    for _ in range(4096):
        if name == "w64":
            header = view.bytes_at(at, 24)
            if len(header) < 24:
                return
            kind, length, body = header[:16], struct.unpack_from("<Q", header, 16)[0] - 24, at + 24
            if length < 0:
                return
            step = length + -length % 8
        else:
            struct_format = ">q" if name == "caf" else _byte_order(view) + "I"
            header = view.bytes_at(at, 4 + struct.calcsize(struct_format))
            if len(header) < 4 + struct.calcsize(struct_format):
                return
            kind, length, body = header[:4], struct.unpack_from(struct_format, header, 4)[0], at + len(header)
            if length < 0:
                yield kind, at + 4, body, 0
                return
            step = length + (length % 2 if name != "caf" else 0)
        yield kind, at + (16 if name == "w64" else 4), body, length
        at = body + step


def _is_metadata(view: FileView, tail: int, name: str) -> bool:
    """Whether other chunks or tags follow the data chunk, not more sound."""
    return view.bytes_at(tail, 8).startswith(_TAGS) or any(_chunks_follow(view, tail + pad, name) for pad in range(2))


def _chunks_follow(view: FileView, at: int, name: str) -> bool:
    """Whether chunks with printable names fill the rest of the file."""
    if name == "au":
        return False
    end = at
    for kind, _, start, length in _chunks(view, at, name):
        if not all(32 <= letter < 127 for letter in kind[:4]) or start + length > view.size + 1:
            return False
        end = start + length
    return end > at and view.size - end < 24


def _is_placeholder(claimed: int) -> bool:
    """Whether a length is a placeholder, written before the length was known: zero, maximum, or a round number."""
    near = claimed % (1 << 28)
    return (
        claimed == 0
        or claimed >= 1 << 40
        or (claimed >= 1 << 30 and min(near, (1 << 28) - near) <= 1 << 16)
        or (claimed >= 10**9 and claimed % 10**6 == 0)
    )


# --- other containers ------------------------------------------------------------------------------------------------


def _mov(view: FileView) -> Section:
    """Truncated if a box extends beyond the end or the last fragment is missing. `mehd` has the fragments' length."""
    top = list(boxes(view, 0, view.size))
    fragmented = any(kind == b"moof" for kind, _, _ in top)
    beyond = any(end > view.size for kind, _, end in top if kind in _KNOWN_BOXES)
    seconds = None
    if fragmented:
        beyond = beyond or top[-1][0] == b"moof"
        seconds = _fragments_seconds(view)
    return Section(view, breaks_off=beyond, seconds=seconds, open_ended=fragmented)


def _fragments_seconds(view: FileView) -> float | None:
    scale = duration = 0
    for place, _ in boxes_at(view, (b"moov", b"mvhd"), 0, view.size):
        header = view.bytes_at(place, 24).ljust(24, b"\0")
        (scale,) = struct.unpack_from(">I", header, 20 if header[0] == 1 else 12)
    for place, _ in boxes_at(view, (b"moov", b"mvex", b"mehd"), 0, view.size):
        header = view.bytes_at(place, 12).ljust(12, b"\0")
        (duration,) = struct.unpack_from(">Q" if header[0] == 1 else ">I", header, 4)
    return duration / scale if scale and 0 < duration < 0xFFFFFFFF else None


def _matroska_starts(view: FileView) -> tuple[list[int], bool]:
    """Start positions of the recordings in a Matroska file, and whether its last element extends beyond its end."""
    starts, at = [0], 0
    while at < view.size:
        header = view.bytes_at(at, 12)
        kind_bytes = 9 - header[0].bit_length()
        if kind_bytes > 4:
            return starts, False  # not an element: damaged
        if len(header) <= kind_bytes:
            return starts, True
        kind, size_bytes = header[:kind_bytes], 9 - header[kind_bytes].bit_length()
        if size_bytes > 8:
            return starts, False
        if len(header) < kind_bytes + size_bytes:
            return starts, True
        size = int.from_bytes(header[kind_bytes : kind_bytes + size_bytes]) & (1 << 7 * size_bytes) - 1
        if kind == b"\x1aE\xdf\xa3" and at:
            starts.append(at)
        at += kind_bytes + size_bytes
        if size != (1 << 7 * size_bytes) - 1:  # all ones: unknown size; the following elements are inside it
            at += size
    return starts, at > view.size


def _mp3(view: FileView) -> Section:
    """The length from the frame count of a Xing, Info or VBRI header, unless all bytes that it counts are there."""
    start = id3_bytes(view.bytes_at(0, 10))
    head = view.bytes_at(start, 1 << 16)
    at = head.find(b"\xff")
    while at >= 0 and (frame := mpeg_frame(head[at : at + 4])) is None:
        at = head.find(b"\xff", at + 1)
    if at < 0 or frame is None:
        return Section(view)
    _, samples, rate, first, mono = frame
    side = (17 if mono else 32) if first else (9 if mono else 17)
    frames, size = _counted_frames(head[at + 4 + side : at + 20 + side], head[at + 36 : at + 54])
    if not frames or (size and start + at + size <= view.size + 128):
        return Section(view)
    return Section(view, seconds=frames * samples / rate)


def _counted_frames(xing: bytes, vbri: bytes) -> tuple[int, int]:
    """Number of frames and bytes in a variable-bit-rate header; 0 if it does not state them."""
    if xing[:4] in {b"Xing", b"Info"} and len(xing) == 16:
        flags, first, second = struct.unpack_from(">III", xing, 4)
        return first if flags & 1 else 0, (second if flags & 1 else first) if flags & 2 else 0
    if vbri[:4] == b"VBRI" and len(vbri) == 18:
        size, frames = struct.unpack_from(">II", vbri, 10)
        return frames, size
    return 0, 0


def _flac_seconds(view: FileView) -> float | None:
    start = id3_bytes(view.bytes_at(0, 10))
    packed = int.from_bytes(view.bytes_at(start + 18, 8))  # 20 bits of rate, 8 of other things, 36 of samples
    rate, samples = packed >> 44, packed & (1 << 36) - 1
    return samples / rate if rate and samples else None


def _section_of_stated_size(view: FileView, size: int) -> Section:
    """The whole file as a section, from the file size in its header. Its length is in an index at its end."""
    beyond = size > view.size + 1
    return Section(view, breaks_off=beyond, missing=size / view.size - 1 if beyond else 0.0)


def _asf_size(view: FileView) -> int:
    head = view.bytes_at(0, 1 << 16)
    place = head.find(_FILE_PROPERTIES)
    if place < 0 or len(head) < place + 92:
        return 0
    size, flags = struct.unpack_from("<Q", head, place + 40)[0], struct.unpack_from("<I", head, place + 88)[0]
    return size if not flags & 1 and size < 1 << 62 else 0  # bit 0: broadcast, with unknown size


def _ogg_links(view: FileView) -> list[int]:
    """Start positions of the links of a chained Ogg file: a first page of a stream after a page that is not one."""
    starts, at, opening = [0], 0, True
    while at < view.size:
        header = view.bytes_at(at, 27 + 255)
        if header[:4] != b"OggS" or len(header) < 27:
            found = view.bytes_at(at + 1, 2 * _LARGEST_PAGE).find(b"OggS")
            if found < 0:
                break
            at += 1 + found
            continue
        begins = bool(header[5] & 2)
        if begins and not opening:
            starts.append(at)
        opening = begins
        at += 27 + header[26] + sum(header[27 : 27 + header[26]])
    return starts


def _ogg_breaks_off(view: FileView) -> bool:
    """Whether the last page is truncated. Ogg states no total length, only that of each page (RFC 3533, section 6)."""
    tail = view.bytes_at(max(0, view.size - 2 * _LARGEST_PAGE), 2 * _LARGEST_PAGE)
    start = tail.rfind(b"OggS")
    if start < 0 or len(tail) < start + 27:
        return True
    segments = tail[start + 26]
    table = tail[start + 27 : start + 27 + segments]
    return len(table) < segments or len(tail) - start < 27 + segments + sum(table)
