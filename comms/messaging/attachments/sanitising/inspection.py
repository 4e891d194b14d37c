"""What is inside a file that somebody attaches: its kind, what of it is kept, its words. Found in a confined child.

The child is `comms/messaging/attachments/sanitising/child.py`; what it is kept from, so that a hostile file hurts
nobody, says `models/confinement/process.py`.
"""

import json
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from comms.messaging.attachments.media_types import ACCEPTED_MEDIA_TYPES, FILE_KINDS
from comms.messaging.attachments.sanitising.text_extraction import MAX_CHARACTERS
from models.confinement.process import Limits, Records, confined, open_descriptor
from models.contract.errors import WriteCareError, invalid, too_large

_MEMORY_BYTES: Final = 3 << 29  # a picture of 50 million points takes 0.2 GB, and is turned and recoloured
_MOST_SECONDS: Final = 90.0

_REFUSED: Final = {
    "attachment-type-not-taken": f"This kind of file is not taken: send {ACCEPTED_MEDIA_TYPES}. Archives are never taken.",
    "attachment-encrypted": "The file is locked with a password: nobody here could read it. Send it unlocked.",
    "attachment-active": "There is a macro, a script or a program in the file: send it without, or as PDF.",
    "attachment-nested-archive": "Other files are packed inside this one: send each of them on its own, or all as PDF.",
    "attachment-leads-out": "A name inside the file leads out of it: it was not made by an honest program.",
    "attachment-unreadable": "The file is damaged, or too intricate to be read: save it again with another program.",
}


@dataclass(frozen=True)
class Contents:
    """`file` is what is to be kept, at its beginning; `text` the words inside, `text_cut` where there are more."""

    media_type: str
    file: BinaryIO = field(repr=False)
    text: str | None = field(repr=False)
    text_cut: bool

    @property
    def is_sound(self) -> bool:
        return self.media_type.startswith("audio/")


def read_contents(sent: BinaryIO, kept: BinaryIO, max_bytes: int, *, allow_unconfined: bool = False) -> Contents:
    """Opens what was sent; where it is to be kept otherwise than it was sent, it is written to `kept`.

    Raises `invalid` (`_REFUSED` has them all) and `too_large` (`attachment-expands`: also what is kept is at most
    `max_bytes`), and what `confined` does: `allow_unconfined` opens the file though the kernel refuses a limit.
    """
    limits = Limits(_MEMORY_BYTES, _MOST_SECONDS, allow_unconfined)
    with (
        open_descriptor(sent) as descriptor,
        confined("comms.messaging.attachments.sanitising.child", (), descriptor, limits) as records,
    ):
        try:
            return _read(records, sent, kept, max_bytes)
        except (ValueError, KeyError, TypeError):  # a child that was taken over answers as it likes
            raise _refusal("attachment-unreadable") from None


def _read(records: Records, sent: BinaryIO, kept: BinaryIO, max_bytes: int) -> Contents:
    text, size = None, 0
    for kind, body in records:
        if kind == b"B" and (size := size + len(body)) <= max_bytes:
            kept.write(body)
        elif kind == b"T":  # the child has checked and counted; it is not trusted
            text = body.decode(errors="replace").replace("\0", " ")[:MAX_CHARACTERS]
        elif kind == b"E" and (end := json.loads(body))["media_type"] in FILE_KINDS:
            file = kept if size else sent
            file.seek(0)
            return Contents(end["media_type"], file, text, bool(end["text_cut"]))
        elif kind != b"C":
            raise _refusal(json.loads(body)["slug"] if kind == b"X" else "attachment-expands")
    raise _refusal("attachment-unreadable")  # no verdict: it crashed, or ran into one of its limits


def _refusal(slug: str) -> WriteCareError:
    if slug == "attachment-expands":
        return too_large(slug, "The file is small only as long as nobody opens it: send fewer or smaller pages.")
    known = slug if slug in _REFUSED else "attachment-unreadable"
    return invalid(known, _REFUSED[known])
