"""The kinds of file that are taken: for the media type of what is inside, which names and claims are true of it."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Kind:
    """`extensions`: how such a file may be called, the usual one first; `also`: other names of its media type.

    `renamed`: extensions behind which the usual one is put, because a program would do more than show what is opened.
    """

    extensions: tuple[str, ...]
    also: frozenset[str] = frozenset()
    renamed: frozenset[str] = frozenset()


_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
JPEG: Final = "image/jpeg"
PNG: Final = "image/png"
WEBP: Final = "image/webp"
PDF: Final = "application/pdf"
TEXT: Final = "text/plain"
DOCX: Final = f"{_OFFICE}.wordprocessingml.document"
XLSX: Final = f"{_OFFICE}.spreadsheetml.sheet"
ODT: Final = "application/vnd.oasis.opendocument.text"

KINDS: Final[dict[str, Kind]] = {
    JPEG: Kind(("jpg", "jpeg", "jpe", "jfif"), frozenset({"image/jpg", "image/pjpeg"})),
    PNG: Kind(("png",)),
    WEBP: Kind(("webp",)),
    PDF: Kind(("pdf",), frozenset({"application/x-pdf"})),
    # a spreadsheet would work out what stands in the fields of a table in plain text; an editor shows it
    TEXT: Kind(
        ("txt", "text", "log", "md", "csv"),
        frozenset({"text/csv", "text/markdown", "application/csv"}),
        renamed=frozenset({"csv"}),
    ),
    DOCX: Kind(("docx",)),
    XLSX: Kind(("xlsx",)),
    ODT: Kind(("odt",)),
    "audio/wav": Kind(("wav",), frozenset({"audio/x-wav", "audio/wave", "audio/vnd.wave"})),
    "audio/flac": Kind(("flac",), frozenset({"audio/x-flac"})),
    "audio/mpeg": Kind(("mp3",), frozenset({"audio/mp3", "audio/x-mp3"})),
    "audio/ogg": Kind(("ogg", "oga", "opus"), frozenset({"audio/opus", "application/ogg"})),
    # recorders of browsers call the sound of a voice message after the container, also where there is no picture
    "audio/mp4": Kind(("m4a", "mp4"), frozenset({"audio/x-m4a", "audio/m4a", "audio/aac", "video/mp4"})),
    "audio/webm": Kind(("webm", "weba"), frozenset({"video/webm"})),
}
TAKEN: Final = "JPEG, PNG, WebP, PDF, plain text, Word (docx), Excel (xlsx), OpenDocument text and sound"
