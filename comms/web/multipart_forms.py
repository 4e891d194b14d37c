"""Reads multipart form data while it streams in; its files go to temporary files without names.

At most 1 MiB is held in memory. No file has a name on the disk, so a process that dies leaves no plain audio behind
(docs/decisions/0009). It serves recordings and attachments here, and the ingress of the model API in `serving`.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from comms.kernel.storage.scratch_files import open_scratch
from models.contract.errors import WriteCareError, invalid, unavailable

FORM_BYTES: Final = 1 << 16  # more than a form adds to its one file
_MAX_FIELD_BYTES: Final = 200
_FLUSH_BYTES: Final = 1 << 20
_LONGEST_BOUNDARY: Final = 70  # RFC 2046, 5.1.1


@dataclass(frozen=True)
class FormLimits:
    """What a form may contain: the names of its files and of its short fields, and how many parts of each name.

    `too_many` is the slug of the problem if there are more.
    """

    files: frozenset[str]
    fields: frozenset[str]
    most: int
    too_many: str = "upload-too-many-tracks"


@dataclass(frozen=True)
class UploadedFormFile:
    """A file, positioned at its beginning; `filename` and `media_type` come from the sender, if given."""

    name: str
    filename: str | None
    media_type: str | None
    file: BinaryIO = field(repr=False)


@dataclass(frozen=True)
class ParsedForm:
    """The files and fields (name, text), in the order in which they were sent."""

    files: tuple[UploadedFormFile, ...]
    fields: tuple[tuple[str, str], ...] = field(repr=False)


@asynccontextmanager
async def parse_form(request: Request, data_dir: Path, shape: FormLimits) -> AsyncIterator[ParsedForm]:
    """Reads the request's body; deletes the files when the block ends.

    Raises `invalid` (`upload-not-multipart`, `upload-malformed`, `upload-cut-off`, `shape.too_many`),
    `unavailable` (`disk-full`).
    """
    form = _FormParser(_boundary_of(request), data_dir, shape)
    try:
        yield await _read(request, form)
    finally:
        form.close()


async def _read(request: Request, form: "_FormParser") -> ParsedForm:
    try:
        async for chunk in request.stream():
            await form.take(chunk)
        return await form.finish()
    except FormParserError:
        raise _malformed() from None
    except ClientDisconnect:
        raise _upload_interrupted() from None
    except OSError:
        raise unavailable(
            "disk-full", "The upload cannot be stored: the disk is full or not writable. Try again later."
        ) from None


def is_multipart(request: Request) -> bool:
    """Whether the request's body is multipart form data."""
    return parse_options_header(request.headers.get("content-type", ""))[0] == b"multipart/form-data"


def _boundary_of(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise invalid("upload-not-multipart", "Send the file as multipart/form-data, as /docs describes.")
    boundary = options[b"boundary"]
    if len(boundary) > _LONGEST_BOUNDARY:
        raise _malformed()
    return boundary


def _malformed() -> WriteCareError:
    return invalid("upload-malformed", "The form data is malformed: send multipart/form-data, as /docs describes.")


def _upload_interrupted() -> WriteCareError:
    return invalid("upload-cut-off", "The upload was interrupted: send it again.")


class _FormParser:
    """The callbacks of the parser, and what they have collected so far."""

    def __init__(self, boundary: bytes, data_dir: Path, shape: FormLimits) -> None:
        self._data_dir = data_dir
        self._shape = shape
        self._files: list[UploadedFormFile] = []
        self._fields: list[tuple[str, str]] = []
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._seen: Counter[str] = Counter()
        self._name = ""  # of the current part
        self._field: bytearray | None = None  # the text of the current part; None if it is a file
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

    async def finish(self) -> ParsedForm:
        await self._flush()
        if not self._ended:
            raise _upload_interrupted()
        for sent in self._files:
            sent.file.seek(0)
        return ParsedForm(tuple(self._files), tuple(self._fields))

    def close(self) -> None:
        for sent in self._files:
            sent.file.close()

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
        self._name = options.get(b"name", b"").decode(errors="replace")
        if self._name not in self._shape.files | self._shape.fields:
            raise invalid("upload-malformed", "The form has an unknown part: /docs lists the parts that are allowed.")
        self._seen[self._name] += 1
        if self._seen[self._name] > self._shape.most:
            raise invalid(self._shape.too_many, f"Send at most {self._shape.most} parts with the name `{self._name}`.")
        if self._name in self._shape.fields:
            self._field = bytearray()
        else:
            filename = options.get(b"filename")
            called = filename.decode(errors="replace") if filename is not None else None
            claimed = self._headers.get(b"content-type", b"").decode(errors="replace") or None
            self._field = None
            self._files.append(UploadedFormFile(self._name, called, claimed, open_scratch(self._data_dir)))

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            self._unwritten.append((self._files[-1].file, data[start:end]))
            self._unwritten_bytes += end - start
        elif len(self._field) + end - start > _MAX_FIELD_BYTES:
            raise invalid("upload-malformed", f"The field `{self._name}` is too long: /docs describes its values.")
        else:
            self._field.extend(data[start:end])

    def _end_part(self) -> None:
        if self._field is not None:
            self._fields.append((self._name, self._field.decode(errors="replace")))

    def _end(self) -> None:
        self._ended = True


def _write_all(pending: list[tuple[BinaryIO, bytes]]) -> None:
    for file, data in pending:
        file.write(data)
