"""A recording as it comes in: a form of `file` (one a track) and `participant` (one a track, in the files' order)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

from fastapi import Request

from comms.forms import FormShape, received_form
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


def _person(text: str) -> UUID:
    try:
        return UUID(text.strip())
    except ValueError:
        raise invalid("participant-invalid", "`participant` is the id of the person whose track it is.") from None
