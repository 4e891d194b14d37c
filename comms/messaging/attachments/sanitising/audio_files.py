"""Remuxes audio: copies the packets and drops titles, locations, pictures and other metadata.

Runs only in the confined child. `models/audio/decoder.py` then checks whether the audio can be decoded.
"""

import io
from typing import Any, BinaryIO, Final

import av

from comms.messaging.attachments.sanitising.refusals import AttachmentRefused

_CONTAINERS: Final = {  # by the first name of the demuxer: media type, and the muxer's name
    "wav": ("audio/wav", "wav"), "flac": ("audio/flac", "flac"), "mp3": ("audio/mpeg", "mp3"),
    "ogg": ("audio/ogg", "ogg"), "mov": ("audio/mp4", "mp4"), "matroska": ("audio/webm", "webm"),
}  # fmt: skip


# By the first bytes of a file. FFmpeg would also detect playlists, which name other files, so the demuxer is given
# explicitly.
_BEGINNINGS: Final = (
    (b"fLaC", "flac"), (b"OggS", "ogg"), (b"RIFF", "wav"), (b"\x1aE\xdf\xa3", "matroska"), (b"ID3", "mp3"),
    (b"\xff", "mp3"),
)  # fmt: skip


def _format(source: BinaryIO) -> str:
    source.seek(0)
    head = source.read(8)
    source.seek(0)
    return "mov" if head[4:8] == b"ftyp" else next((name for begin, name in _BEGINNINGS if head.startswith(begin)), "")


def cleaned_sound(source: BinaryIO) -> tuple[str, bytes]:
    """Returns the media type and the remuxed audio stream. Raises `AttachmentRefused`, also for video."""
    av.logging.set_level(None)
    try:
        with av.open(source, mode="r", format=_format(source), metadata_errors="ignore") as given:
            known = _CONTAINERS.get(given.format.name.split(",")[0])
            if known is None or len(given.streams.audio) != 1 or any(map(_is_film, given.streams.video)):
                raise AttachmentRefused("attachment-type-not-taken")
            media_type, packer = known
            return media_type, _repacked(given, packer)
    except (av.error.FFmpegError, ValueError, OSError):
        raise AttachmentRefused("attachment-unreadable") from None


def _is_film(stream: Any) -> bool:
    return not stream.disposition & av.stream.Disposition.attached_pic


def _repacked(given: Any, packer: str) -> bytes:
    written = io.BytesIO()
    [sound] = given.streams.audio
    with av.open(written, mode="w", format=packer, options={"fflags": "+bitexact"}) as packed:
        stream = packed.add_stream_from_template(sound)
        stream.metadata.clear()
        for packet in given.demux(sound):
            if packet.dts is not None:
                packet.stream = stream
                packed.mux(packet)
    return written.getvalue()
