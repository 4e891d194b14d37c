"""What a file may be called: the sender's name for it, made harmless wherever it is written to a disk or shown."""

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
    """The name to keep: without folders, signs of control and of direction, and what a system keeps for itself.

    Where it has no extension it gets its kind's. Raises `invalid` (`attachment-type-differs`) where it has another's.
    """
    name = PurePosixPath((sent or "").replace("\\", "/")).name
    # C: what cannot be seen, turns the direction of reading, or is no character; Z: all kinds of space
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
    """Raises `invalid` (`attachment-type-differs`) where the sender says that it is of another kind than it is."""
    said = (claimed or "").partition(";")[0].strip().lower()
    if said not in {"", "application/octet-stream", media_type} | FILE_KINDS[media_type].also:
        raise differs()


def differs() -> WriteCareError:
    """What is raised where a file is not what it is called."""
    return invalid("attachment-type-differs", "The file is of another kind than its name or its media type says.")
