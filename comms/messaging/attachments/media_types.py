"""The accepted kinds of files: for each media type, the file extensions and other names of the type that fit it."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class FileKind:
    """`extensions`: allowed file extensions, the usual one first. `also`: other names of the media type.

    `renamed`: extensions to which the usual one is added, because a program would do more than show the file.
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

FILE_KINDS: Final[dict[str, FileKind]] = {
    JPEG: FileKind(("jpg", "jpeg", "jpe", "jfif"), frozenset({"image/jpg", "image/pjpeg"})),
    PNG: FileKind(("png",)),
    WEBP: FileKind(("webp",)),
    PDF: FileKind(("pdf",), frozenset({"application/x-pdf"})),
    # A spreadsheet program would calculate formulas in CSV; an editor only shows them.
    TEXT: FileKind(
        ("txt", "text", "log", "md", "csv"),
        frozenset({"text/csv", "text/markdown", "application/csv"}),
        renamed=frozenset({"csv"}),
    ),
    DOCX: FileKind(("docx",)),
    XLSX: FileKind(("xlsx",)),
    ODT: FileKind(("odt",)),
    "audio/wav": FileKind(("wav",), frozenset({"audio/x-wav", "audio/wave", "audio/vnd.wave"})),
    "audio/flac": FileKind(("flac",), frozenset({"audio/x-flac"})),
    "audio/mpeg": FileKind(("mp3",), frozenset({"audio/mp3", "audio/x-mp3"})),
    "audio/ogg": FileKind(("ogg", "oga", "opus"), frozenset({"audio/opus", "application/ogg"})),
    # Browsers name a voice recording after its container, even if it has no video.
    "audio/mp4": FileKind(("m4a", "mp4"), frozenset({"audio/x-m4a", "audio/m4a", "audio/aac", "video/mp4"})),
    "audio/webm": FileKind(("webm", "weba"), frozenset({"video/webm"})),
}
ACCEPTED_MEDIA_TYPES: Final = "JPEG, PNG, WebP, PDF, plain text, Word (docx), Excel (xlsx), OpenDocument text and sound"
