"""A recording as it comes in: multipart form data, read as it streams, into files without names.

Nothing is held in memory beyond a mebibyte, and nothing lies anywhere under a name: a process that dies leaves no
plain audio behind. Known fields are `file` (one a track) and `participant` (one a track, in the files' order).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from comms.storage.scratch import open_scratch
from models.errors import WriteCareError, invalid, unavailable

MAX_TRACKS: Final = 16
_MAX_FIELD_BYTES: Final = 200
_FLUSH_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Upload:
    """The files in the order sent, at their beginnings, and whom they are of where that was said."""

    files: tuple[BinaryIO, ...] = field(repr=False)
    participants: tuple[UUID, ...]


@asynccontextmanager
async def received(request: Request, data_dir: Path) -> AsyncIterator[Upload]:
    """Reads the request's body; the files are gone when the block ends.

    Raises `invalid` (`upload-not-multipart`, `upload-malformed`, `upload-cut-off`, `upload-too-many-tracks`),
    `unavailable` (`disk-full`).
    """
    form = _Form(_boundary_of(request), data_dir)
    try:
        yield await _read(request, form)
    finally:
        form.close()


async def _read(request: Request, form: "_Form") -> Upload:
    try:
        async for chunk in request.stream():
            await form.take(chunk)
        return await form.finish()
    except FormParserError:
        raise invalid("upload-malformed", "The form data cannot be read: send multipart/form-data.") from None
    except ClientDisconnect:
        raise _cut_off() from None
    except OSError:
        raise unavailable("disk-full", "The upload cannot be kept: the disk is full or cannot be written.") from None


def is_multipart(request: Request) -> bool:
    """Whether the request brings form data at all."""
    return parse_options_header(request.headers.get("content-type", ""))[0] == b"multipart/form-data"


def _boundary_of(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise invalid("upload-not-multipart", "Send the recording as multipart/form-data, each track as `file`.")
    return options[b"boundary"]


def _cut_off() -> WriteCareError:
    return invalid("upload-cut-off", "The upload broke off before its end: send it again.")


class _Form:
    """The parser's callbacks, and what they have gathered so far."""

    def __init__(self, boundary: bytes, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._files: list[BinaryIO] = []
        self._participants: list[UUID] = []
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._field: bytearray | None = None  # the `participant` being read; None while a file is
        self._unwritten: list[tuple[BinaryIO, bytes]] = []
        self._unwritten_bytes = 0
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._take_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    async def take(self, chunk: bytes) -> None:
        if chunk:
            self._parser.write(chunk)
        if self._unwritten_bytes >= _FLUSH_BYTES:
            await self._flush()

    async def finish(self) -> Upload:
        await self._flush()
        if not self._ended:
            raise _cut_off()
        for file in self._files:
            file.seek(0)
        return Upload(tuple(self._files), tuple(self._participants))

    def close(self) -> None:
        for file in self._files:
            file.close()

    async def _flush(self) -> None:
        pending, self._unwritten, self._unwritten_bytes = self._unwritten, [], 0
        if pending:
            await asyncio.to_thread(_write_all, pending)

    def _begin_part(self) -> None:
        self._headers = {}

    def _end_header(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name")
        if name == b"file":
            if len(self._files) == MAX_TRACKS:
                raise invalid("upload-too-many-tracks", f"A recording has at most {MAX_TRACKS} tracks.")
            self._field = None
            self._files.append(open_scratch(self._data_dir))
        elif name == b"participant":
            if len(self._participants) == MAX_TRACKS:
                raise invalid("upload-too-many-tracks", f"A recording has at most {MAX_TRACKS} tracks.")
            self._field = bytearray()
        else:
            raise invalid("upload-malformed", "The form has a field that is neither `file` nor `participant`.")

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._unwritten.append((self._files[-1], data[start:end]))
            self._unwritten_bytes += end - start
        elif len(self._field) + end - start > _MAX_FIELD_BYTES:
            raise _bad_participant()
        else:
            self._field.extend(data[start:end])

    def _end_part(self) -> None:
        if self._field is not None:
            try:
                self._participants.append(UUID(self._field.decode().strip()))
            except ValueError:
                raise _bad_participant() from None

    def _end(self) -> None:
        self._ended = True


def _bad_participant() -> WriteCareError:
    return invalid("participant-invalid", "`participant` is the id of the person whose track it is.")


def _write_all(pending: list[tuple[BinaryIO, bytes]]) -> None:
    for file, data in pending:
        file.write(data)
