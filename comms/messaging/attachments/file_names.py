"""Makes the names of attachments safe to write to a disk and to show."""

import re
import unicodedata
from pathlib import PurePosixPath
from typing import Final

from comms.messaging.attachments.media_types import FILE_KINDS
from models.contract.errors import WriteCareError, invalid

_MAX_CHARACTERS: Final = 150
_UNWRITABLE: Final = re.compile(r'[<>:"|?*]')
_RESERVED: Final = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])")
_EXTENSION: Final = re.compile(r"[A-Za-z0-9]{1,8}")


def kept_name(sent: str | None, media_type: str) -> str:
    """Returns the name to store: without folders, control characters, bidirectional marks and reserved names.

    A name without an extension gets the usual one of its media type. Raises `invalid` (`attachment-type-differs`) if
    the extension belongs to another kind of file.
    """
    name = PurePosixPath((sent or "").replace("\\", "/")).name
    # Category C: control, format and unassigned characters; Z: all kinds of space.
    shown = (" " if unicodedata.category(sign)[0] == "Z" else sign for sign in unicodedata.normalize("NFC", name))
    seen = "".join(sign for sign in shown if unicodedata.category(sign)[0] != "C")
    whole = _UNWRITABLE.sub("_", " ".join(seen.split())).strip(" .")
    stem, dot, extension = whole.rpartition(".")
    if not dot or not _EXTENSION.fullmatch(extension):
        stem, extension = whole, FILE_KINDS[media_type].extensions[0]
    elif extension.lower() not in FILE_KINDS[media_type].extensions:
        raise differs()
    if extension.lower() in FILE_KINDS[media_type].renamed:
        stem, extension = f"{stem}.{extension}", FILE_KINDS[media_type].extensions[0]
    stem = stem.rstrip(" .") or "file"
    if _RESERVED.fullmatch(stem.partition(".")[0].strip()):
        stem = f"_{stem}"
    return f"{stem[: _MAX_CHARACTERS - len(extension) - 1]}.{extension}"


def refuse_false_claim(claimed: str | None, media_type: str) -> None:
    """Raises `invalid` (`attachment-type-differs`) if the claimed media type is not that of the content."""
    said = (claimed or "").partition(";")[0].strip().lower()
    if said not in {"", "application/octet-stream", media_type} | FILE_KINDS[media_type].also:
        raise differs()


def differs() -> WriteCareError:
    """The error for a file whose content is not what its name or media type says."""
    return invalid(
        "attachment-type-differs",
        "The content of the file does not match its name or its media type.",
    )
