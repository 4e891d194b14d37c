"""A recording as it comes in: a form of `file` (one a track), `participant` (one a file, in order) and `channels`.

`duplicate=keep` says that it is to be kept although the session has a recording of the same files.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, get_args
from uuid import UUID

from fastapi import Request, Response

from comms.calls.recordings.queries import Recording
from comms.web.idempotency.attempts import keyed_request_of
from comms.web.idempotency.uploads import UNKEYED_UPLOAD, KeyedUpload
from comms.web.multipart_forms import FormLimits, parse_form
from models.contract.audio_tracks import Channels
from models.contract.errors import invalid

MAX_TRACKS: Final = 16
_FIELDS: Final = frozenset({"participant", "duplicate", "channels"})
_SHAPE: Final = FormLimits(files=frozenset({"file"}), fields=_FIELDS, most=MAX_TRACKS)


@dataclass(frozen=True)
class Upload:
    """The files in the order sent, at their beginnings, whom they are of where that was said, and how to read them.

    `digests` are the files' own (SHA-256). `keep_duplicate`: it is stored though the session has the same already.
    """

    files: tuple[BinaryIO, ...] = field(repr=False)
    participants: tuple[UUID, ...]
    digests: tuple[bytes, ...] = field(repr=False)
    channels: Channels = "auto"
    keep_duplicate: bool = False


async def upload_of(
    files: tuple[BinaryIO, ...],
    participants: tuple[UUID, ...] = (),
    *,
    channels: Channels = "auto",
    keep_duplicate: bool = False,
) -> Upload:
    """Reads the files once for their digests, and leaves them at their beginnings."""
    digests = tuple([await asyncio.to_thread(_digest, file) for file in files])
    return Upload(files, participants, digests, channels, keep_duplicate)


@asynccontextmanager
async def parse_upload(request: Request, data_dir: Path) -> AsyncIterator[Upload]:
    """Reads the request's body; the files are gone when the block ends.

    Raises what `parse_form` does, and `invalid` (`participant-invalid`, `channels-invalid`, `duplicate-invalid`).
    """
    async with parse_form(request, data_dir, _SHAPE) as form:
        said = [text for name, text in form.fields if name == "duplicate"]
        if said not in ([], ["keep"]):
            raise invalid("duplicate-invalid", "`duplicate` is `keep`, or is left out.")
        people = tuple(_person(text) for name, text in form.fields if name == "participant")
        wanted = [text.strip() for name, text in form.fields if name == "channels"] or ["auto"]
        yield await upload_of(
            tuple(sent.file for sent in form.files), people, channels=_channels(wanted), keep_duplicate=bool(said)
        )


def keyed_upload_of(
    request: Request, upload: Upload, answer: Callable[[Recording], Response]
) -> KeyedUpload[Recording]:
    """What gives the request's upload one effect, where it has an Idempotency-Key."""
    keyed_request = keyed_request_of(request)
    if keyed_request is None:
        return UNKEYED_UPLOAD
    sent = repr(([str(person) for person in upload.participants], upload.channels, upload.keep_duplicate)).encode()
    return KeyedUpload(keyed_request, hashlib.sha256(sent + b"".join(upload.digests)).digest(), answer)


def _digest(file: BinaryIO) -> bytes:
    found = hashlib.sha256()
    while piece := file.read(1 << 20):
        found.update(piece)
    file.seek(0)
    return found.digest()


def _person(text: str) -> UUID:
    try:
        return UUID(text.strip())
    except ValueError:
        raise invalid("participant-invalid", "`participant` is the id of the person whose track it is.") from None


def _channels(wanted: list[str]) -> Channels:
    for known in get_args(Channels):
        if wanted == [known]:
            answer: Channels = known
            return answer
    raise invalid("channels-invalid", f"`channels` is one of: {', '.join(get_args(Channels))}.")
