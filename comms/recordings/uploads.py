"""A recording as it comes in: a form of `file` (one a track) and `participant` (one a track, in the files' order)."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

from fastapi import Request, Response

from comms.database import Actor, Connection
from comms.forms import FormShape, received_form
from comms.idempotency.attempts import Attempt, attempt_of
from comms.recordings.queries import Recording
from models.errors import invalid

MAX_TRACKS: Final = 16
_SHAPE: Final = FormShape(files=frozenset({"file"}), fields=frozenset({"participant"}), most=MAX_TRACKS)


@dataclass(frozen=True)
class Upload:
    """The files in the order sent, at their beginnings, and whom they are of where that was said."""

    files: tuple[BinaryIO, ...] = field(repr=False)
    participants: tuple[UUID, ...]


@asynccontextmanager
async def received(request: Request, data_dir: Path) -> AsyncIterator[Upload]:
    """Reads the request's body; the files are gone when the block ends.

    Raises what `received_form` does, and `invalid` (`participant-invalid`).
    """
    async with received_form(request, data_dir, _SHAPE) as form:
        yield Upload(tuple(sent.file for sent in form.files), tuple(_person(text) for _, text in form.fields))


class Once:
    """Gives an upload one effect, however often it is sent: its body streams, so the route cannot do it alone.

    Claimed first in each transaction of the upload, kept last in the one that stores.
    """

    def __init__(self, attempt: Attempt | None, body: bytes, answer: Callable[[Recording], Response]) -> None:
        self._attempt = attempt
        self._body = body
        self._answer = answer

    async def claim(self, conn: Connection, actor: Actor) -> None:
        """Raises where this upload has been answered before, as `Attempt.claim`; nothing without a key."""
        if self._attempt is not None:
            await self._attempt.claim(conn, actor, self._body)

    async def keep(self, recording: Recording) -> None:
        """Keeps the answer with the recording; nothing without a key."""
        if self._attempt is not None:
            await self._attempt.keep(self._answer(recording))


UNKEYED: Final = Once(None, b"", lambda _: Response())


async def once_of(request: Request, upload: Upload, answer: Callable[[Recording], Response]) -> Once:
    """What gives the request's upload one effect; reads the files once more where it has an Idempotency-Key."""
    attempt = attempt_of(request)
    return Once(attempt, await asyncio.to_thread(_digest, upload), answer) if attempt is not None else UNKEYED


def _digest(upload: Upload) -> bytes:
    found = hashlib.sha256(repr([str(person) for person in upload.participants]).encode())
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
