"""A recording as it comes in: a form of `file` (one a track), `participant` (one a file, in order) and `channels`."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, get_args
from uuid import UUID

from fastapi import Request, Response

from comms.forms import FormShape, received_form
from comms.idempotency.attempts import attempt_of
from comms.idempotency.once import UNKEYED, Once
from comms.recordings.queries import Recording
from models.errors import invalid
from models.sound import Channels

MAX_TRACKS: Final = 16
_SHAPE: Final = FormShape(files=frozenset({"file"}), fields=frozenset({"participant", "channels"}), most=MAX_TRACKS)


@dataclass(frozen=True)
class Upload:
    """The files in the order sent, at their beginnings, whom they are of where that was said, and how to read them."""

    files: tuple[BinaryIO, ...] = field(repr=False)
    participants: tuple[UUID, ...]
    channels: Channels = "auto"


@asynccontextmanager
async def received(request: Request, data_dir: Path) -> AsyncIterator[Upload]:
    """Reads the request's body; the files are gone when the block ends.

    Raises what `received_form` does, and `invalid` (`participant-invalid`, `channels-invalid`).
    """
    async with received_form(request, data_dir, _SHAPE) as form:
        people = tuple(_person(text) for name, text in form.fields if name == "participant")
        wanted = [text.strip() for name, text in form.fields if name == "channels"] or ["auto"]
        yield Upload(tuple(sent.file for sent in form.files), people, _channels(wanted))


async def once_of(request: Request, upload: Upload, answer: Callable[[Recording], Response]) -> Once[Recording]:
    """What gives the request's upload one effect; reads the files once more where it has an Idempotency-Key."""
    attempt = attempt_of(request)
    return Once(attempt, await asyncio.to_thread(_digest, upload), answer) if attempt is not None else UNKEYED


def _digest(upload: Upload) -> bytes:
    found = hashlib.sha256(repr([str(person) for person in upload.participants]).encode())
    if upload.channels != "auto":
        found.update(upload.channels.encode())
    for file in upload.files:
        while piece := file.read(1 << 20):
            found.update(piece)
        found.update(file.tell().to_bytes(8))  # where one file ends and the next begins
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
