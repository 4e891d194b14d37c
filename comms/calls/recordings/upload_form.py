"""Parses the upload form: `file` (one for each track), `participant` (one for each file, in order), `channels`.

`duplicate=keep` stores the upload although the session has a recording of the same files.
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
    """The files in the order sent, each at its beginning; their participants, if named; and how to read the channels.

    `digests` are the SHA-256 digests of the files. `keep_duplicate`: store it although the session has the same files.
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
    """Reads the request body; the files are deleted when the block ends.

    Raises what `parse_form` raises, and `invalid` (`participant-invalid`, `channels-invalid`, `duplicate-invalid`).
    """
    async with parse_form(request, data_dir, _SHAPE) as form:
        said = [text for name, text in form.fields if name == "duplicate"]
        if said not in ([], ["keep"]):
            raise invalid("duplicate-invalid", "Send `duplicate=keep`, or leave the field out.")
        people = tuple(_person(text) for name, text in form.fields if name == "participant")
        wanted = [text.strip() for name, text in form.fields if name == "channels"] or ["auto"]
        yield await upload_of(
            tuple(sent.file for sent in form.files), people, channels=_channels(wanted), keep_duplicate=bool(said)
        )


def keyed_upload_of(
    request: Request, upload: Upload, answer: Callable[[Recording], Response]
) -> KeyedUpload[Recording]:
    """Returns the upload with its Idempotency-Key, or `UNKEYED_UPLOAD` if the request has no key."""
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
        raise invalid(
            "participant-invalid", "`participant` must be the user id of the person whose track it is."
        ) from None


def _channels(wanted: list[str]) -> Channels:
    for known in get_args(Channels):
        if wanted == [known]:
            answer: Channels = known
            return answer
    raise invalid("channels-invalid", f"`channels` must be one of: {', '.join(get_args(Channels))}.")
