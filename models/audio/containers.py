"""Detects the container of an uploaded file from its first bytes, and opens it with libav, restricted to that format.

Without restrictions libav reads other files: a playlist of 62 bytes is enough. So this module checks the first bytes,
allows only the demuxers and decoders named here, and refuses a file that refers to data outside itself.
"""

import io
import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

from models.audio.refusal import AudioRefused

HEAD_BYTES: Final = 1 << 16
MOST_CHANNELS: Final = 16  # of all streams together; also the maximum number of tracks of a recording
MOST_FULL_CHANNELS: Final = 4  # channels of the maximum duration; shorter recordings may have more channels
_ASF: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_W64: Final = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"fLaC", "flac"), (b"OggS", "ogg"), (b"#!AMR", "amr"), (b"\x1aE\xdf\xa3", "matroska"), (b"caff", "caf"),
    (b".snd", "au"), (_ASF, "asf"), (_W64, "w64"),
)  # fmt: skip
_IFF_TYPES: Final = {
    (b"RIFF", b"WAVE"): "wav", (b"RIFX", b"WAVE"): "wav", (b"RF64", b"WAVE"): "wav", (b"BW64", b"WAVE"): "wav",
    (b"RIFF", b"AVI "): "avi", (b"FORM", b"AIFF"): "aiff", (b"FORM", b"AIFC"): "aiff",
}  # fmt: skip
_BOXES: Final = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"uuid"})

# Codecs of telephones, meeting programs, dictation machines and browsers. No video decoder is allowed.
CODECS: Final = frozenset({
    "aac", "aac_latm", "ac3", "adpcm_g722", "adpcm_g726", "adpcm_g726le", "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms",
    "adpcm_swf", "adpcm_yamaha", "alac", "amrnb", "amrwb", "eac3", "evrc", "flac", "g722", "g723_1", "g726", "g726le",
    "g729", "gsm", "gsm_ms", "ilbc", "libopus", "mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "nellymoser",
    "opus", "pcm_alaw", "pcm_f32be", "pcm_f32le", "pcm_f64be", "pcm_f64le", "pcm_mulaw", "pcm_s16be", "pcm_s16le",
    "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le", "pcm_s8", "pcm_u8", "qcelp", "speex", "truespeech", "vorbis",
    "wmalossless", "wmapro", "wmav1", "wmav2", "wmavoice",
})  # fmt: skip


class FileView(io.RawIOBase):
    """A part of a file that can be read like a file. `patches` (position: bytes) replace bytes of it."""

    def __init__(self, source: BinaryIO, start: int, end: int, patches: Mapping[int, bytes] | None = None) -> None:
        super().__init__()
        self._source, self._start, self.size = source, start, end - start
        self._patches = dict(patches or {})
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self.size - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        self._source.seek(self._start + self._at)
        content = self._source.read(wanted)
        for place, new in self._patches.items():
            if place < self._at + len(content) and self._at < place + len(new):
                content = self._apply_patch(content, place, new)
        self._at += len(content)
        return content

    def _apply_patch(self, content: bytes, place: int, new: bytes) -> bytes:
        changed = bytearray(content)
        for index, byte in enumerate(new, start=place - self._at):
            if 0 <= index < len(changed):
                changed[index] = byte
        return bytes(changed)

    def part(self, start: int, end: int) -> "FileView":
        """A view of a part of this view."""
        patches = {place - start: new for place, new in self._patches.items()}
        return FileView(self._source, self._start + start, self._start + end, patches)

    def patched(self, place: int, new: bytes) -> "FileView":
        """The same view, with the bytes at `place` replaced."""
        return FileView(self._source, self._start, self._start + self.size, {**self._patches, place: new})

    def bytes_at(self, place: int, size: int) -> bytes:
        """Up to `size` bytes at `place`. The read position does not change."""
        before, self._at = self._at, place
        content = self.read(size)
        self._at = before
        return content


def detect_container(view: FileView) -> str:
    """The name of the demuxer, from the file's first bytes. Raises `AudioRefused` for any other file."""
    head = view.bytes_at(0, HEAD_BYTES)
    if not head:
        raise AudioRefused("audio-empty")
    name = next((name for magic, name in _MAGIC if head.startswith(magic)), None) or _IFF_TYPES.get(
        (head[:4], head[8:12])
    )
    if name is None and head[4:8] in _BOXES and struct.unpack_from(">I", head)[0] not in range(2, 8):
        name = "mov"
    if name is None and len(head) > 188 and all(byte == 0x47 for byte in head[: 20 * 188 : 188]):
        name = "mpegts"
    if name is None and (name := _detect_bare_frames(view, id3_bytes(head))) is None:
        raise AudioRefused("audio-unreadable")
    return name


def _detect_bare_frames(view: FileView, start: int) -> str | None:
    """The demuxer of a file that has frames without a container, possibly after an ID3 tag."""
    body = view.bytes_at(start, HEAD_BYTES)
    if start and body.startswith(b"fLaC"):
        return "flac"
    if _has_frames(body, adts_length, within=4096):
        return "aac"
    return "mp3" if _has_frames(body, mpeg_length, within=HEAD_BYTES) else None


def open_container(av: Any, view: FileView, name: str) -> Any:
    """Open the file as a libav container. libav can read only this file. Raises `AudioRefused`."""
    if name == "mov" and any(external_references(view)):
        raise AudioRefused("audio-unreadable")
    options = {
        "protocol_whitelist": "none",  # an empty list would allow all protocols
        "format_whitelist": name if name != "matroska" else "matroska,webm",
        "codec_whitelist": ",".join(sorted(CODECS)),
    }
    if name == "mov":
        options["format_whitelist"] = "mov,mp4,m4a,3gp,3g2,mj2"
    view.seek(0)
    try:
        return av.open(
            view, mode="r", format=name, container_options=options, metadata_errors="ignore", io_open=_refuse_reference
        )
    except (av.error.FFmpegError, ValueError, OSError):
        raise AudioRefused("audio-unreadable") from None


def _refuse_reference(*_: Any) -> None:
    raise AudioRefused("audio-unreadable")


# --- MPEG audio and ADTS --------------------------------------------------------------------------------------------

_KBPS: Final = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def id3_bytes(head: bytes) -> int:
    """The length in bytes of the ID3v2 tag at the beginning; 0 if there is none."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if head[5] & 0x10 else 0)


def mpeg_frame(header: bytes) -> tuple[int, int, int, bool, bool] | None:
    """Parse a frame header of MPEG audio: bytes, samples, sample rate, is MPEG-1, is mono. None if it is not one."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    index, rate_index, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or not 0 < index < 15 or rate_index == 3:
        return None
    first = version == 3
    rate = (44100, 48000, 32000)[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    bits = _KBPS[first, layer][index - 1] * 1000
    samples = {1: 384, 2: 1152, 3: 1152 if first else 576}[layer]
    length = (12 * bits // rate + padding) * 4 if layer == 1 else samples // 8 * bits // rate + padding
    return length, samples, rate, first, header[3] >> 6 == 3


def mpeg_length(header: bytes) -> int | None:
    frame = mpeg_frame(header)
    return frame[0] if frame is not None else None


def adts_length(header: bytes) -> int | None:
    """The length in bytes of the ADTS frame with this header; None if it is not a frame header."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:
        return None
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length >= 7 else None


def _has_frames(body: bytes, length_of: Any, *, within: int) -> bool:
    """Whether three frames in a row are found within `within` bytes; fewer if the file ends after them."""
    place = body.find(b"\xff")
    while 0 <= place < within:
        at, count = place, 0
        while count < 3 and (length := length_of(body[at : at + 8])):
            at, count = at + length, count + 1
            if at >= len(body):
                return True
        if count == 3:
            return True
        place = body.find(b"\xff", place + 1)
    return False


# --- boxes of MP4 and QuickTime ---------------------------------------------------------------------------------------


def boxes(view: FileView, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes between two positions: type, start of the content, end as stated by the box."""
    while start + 8 <= end:
        header = view.bytes_at(start, 16)
        if len(header) < 8:
            return
        size, kind = struct.unpack_from(">I4s", header)
        content = start + 8
        if size == 1 and len(header) == 16:
            size, content = struct.unpack_from(">Q", header, 8)[0], start + 16
        finish = end if size == 0 else start + size
        if finish < content:
            return
        yield kind, content, finish
        start = finish


def boxes_at(view: FileView, path: tuple[bytes, ...], start: int, end: int) -> Iterator[tuple[int, int]]:
    """The boxes with this path: start and end of the content, limited to the file."""
    for kind, content, finish in boxes(view, start, end):
        if kind == path[0]:
            if len(path) == 1:
                yield content, min(finish, end)
            else:
                yield from boxes_at(view, path[1:], content, min(finish, end))


def external_references(view: FileView) -> Iterator[bytes]:
    """The types of data references that point to another file (ISO/IEC 14496-12, 8.7.2)."""
    for content, end in boxes_at(view, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"), 0, view.size):
        for kind, place, finish in boxes(view, content + 8, end):
            flags = view.bytes_at(place, 4)
            if len(flags) == 4 and not flags[3] & 1 and any(view.bytes_at(place + 4, min(finish, end) - place - 4)):
                yield kind
