"""Opens an attachment in a confined child process: its media type, the content to store, its text.

The child is `comms/messaging/attachments/sanitising/child.py`. For its limits see `models/confinement/process.py`.
"""

import json
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from comms.messaging.attachments.media_types import ACCEPTED_MEDIA_TYPES, FILE_KINDS
from comms.messaging.attachments.sanitising.text_extraction import MAX_CHARACTERS
from models.confinement.process import Limits, Records, confined, open_descriptor
from models.contract.errors import WriteCareError, invalid, too_large

# a picture of 50 million pixels takes 0.2 GB, and rotation and colour conversion need copies
_MEMORY_BYTES: Final = 3 << 29
_MOST_SECONDS: Final = 90.0

_REFUSED: Final = {
    "attachment-type-not-taken": f"This kind of file is not accepted: send {ACCEPTED_MEDIA_TYPES}. Send no archives.",
    "attachment-encrypted": "The file is protected with a password. Remove the password and send it again.",
    "attachment-active": "The file contains a macro, a script or a program: remove it, or send the file as PDF.",
    "attachment-nested-archive": "The file contains other files: send each of them separately, or all as PDF.",
    "attachment-leads-out": "The file contains an unsafe path or a link: save it again with another program.",
    "attachment-unreadable": "The file is damaged or too complex: save it again with another program.",
}


@dataclass(frozen=True)
class Contents:
    """`file`: the content to store, positioned at its beginning. `text`: the text in it; `text_cut`: whether there is
    more.
    """

    media_type: str
    file: BinaryIO = field(repr=False)
    text: str | None = field(repr=False)
    text_cut: bool

    @property
    def is_sound(self) -> bool:
        return self.media_type.startswith("audio/")


def read_contents(sent: BinaryIO, kept: BinaryIO, max_bytes: int, *, allow_unconfined: bool = False) -> Contents:
    """Opens a file. If the content to store differs from the original, it is written to `kept`.

    Raises `invalid` (see `_REFUSED`), `too_large` (`attachment-expands`; also if the content to store is larger than
    `max_bytes`), and what `confined` raises. `allow_unconfined` opens the file even if the kernel refuses a limit.
    """
    limits = Limits(_MEMORY_BYTES, _MOST_SECONDS, allow_unconfined)
    with (
        open_descriptor(sent) as descriptor,
        confined("comms.messaging.attachments.sanitising.child", (), descriptor, limits) as records,
    ):
        try:
            return _read(records, sent, kept, max_bytes)
        except (ValueError, KeyError, TypeError):  # a compromised child may send anything
            raise _refusal("attachment-unreadable") from None


def _read(records: Records, sent: BinaryIO, kept: BinaryIO, max_bytes: int) -> Contents:
    text, size = None, 0
    for kind, body in records:
        if kind == b"B" and (size := size + len(body)) <= max_bytes:
            kept.write(body)
        elif kind == b"T":  # the child has checked it already, but it is not trusted
            text = body.decode(errors="replace").replace("\0", " ")[:MAX_CHARACTERS]
        elif kind == b"E" and (end := json.loads(body))["media_type"] in FILE_KINDS:
            file = kept if size else sent
            file.seek(0)
            return Contents(end["media_type"], file, text, bool(end["text_cut"]))
        elif kind != b"C":
            raise _refusal(json.loads(body)["slug"] if kind == b"X" else "attachment-expands")
    raise _refusal("attachment-unreadable")  # the child ended without a result: it crashed or reached a limit


def _refusal(slug: str) -> WriteCareError:
    if slug == "attachment-expands":
        return too_large(slug, "The content of the file is too large when it is unpacked: send fewer or smaller pages.")
    known = slug if slug in _REFUSED else "attachment-unreadable"
    return invalid(known, _REFUSED[known])
