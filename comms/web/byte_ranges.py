"""Sends stored bytes over HTTP, all or a range of them (RFC 9110, 13 and 14), for seeking and for resumed downloads."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Header, Request, Response
from fastapi.responses import StreamingResponse

from comms.kernel.optimistic_locking import etag_matches
from comms.kernel.storage.segment_encryption import ByteRange
from comms.web.middleware import is_head
from comms.web.problems import problem_of
from models.contract.errors import WriteCareError, invalid


@dataclass(frozen=True)
class RangeRequest:
    """What a request asks for: all bytes, a range (if the ETag is still the same), or only the headers."""

    range: str | None
    if_range: str | None
    if_none_match: str | None
    head: bool

    def range_of(self, etag: str) -> str | None:
        """The range; None for all bytes, also if `If-Range` is not the current ETag (a weak tag never is)."""
        if self.head or (self.if_range is not None and self.if_range.strip() != etag):
            return None
        return self.range


async def range_request(
    request: Request,
    wanted: Annotated[str | None, Header(alias="Range", description="Bytes, e.g. `bytes=0-1023`.")] = None,
    if_range: Annotated[
        str | None,
        Header(
            alias="If-Range", description="The ETag of the part that you have: if it has changed, you get all bytes."
        ),
    ] = None,
) -> RangeRequest:
    """The dependency of a route: reads the range headers of the request."""
    return RangeRequest(wanted, if_range, request.headers.get("if-none-match"), is_head(request.scope))


RangeDep = Annotated[RangeRequest, Depends(range_request)]

_RANGE: Final = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """The bytes that a `Range` header asks for (RFC 9110, 14.2); None for all bytes.

    Raises `invalid` (`range-not-satisfiable`) for bytes beyond the end. A header that is not understood, or that asks
    for several ranges, gets all bytes, as the RFC allows.
    """
    match = _RANGE.fullmatch(header.strip()) if header is not None else None
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= size or start >= end:
        raise invalid("range-not-satisfiable", f"The file has {size} bytes: ask for a range within them.")
    return ByteRange(start, end)


@dataclass(frozen=True)
class StoredBytes:
    """Bytes in storage. `etag` is strong: the same tag means the same bytes."""

    size: int
    media_type: str
    etag: str
    read: Callable[[ByteRange], AsyncIterator[bytes]]


async def answer_range(asked: RangeRequest, stored: StoredBytes, headers: Mapping[str, str]) -> Response:
    """Streams the bytes that are asked for. A range beyond the end is 416; bytes that the caller has already are 304.

    Raises what reading the first piece raises: damaged or missing bytes are a problem, not an interrupted download.
    """
    if etag_matches(asked.if_none_match, stored.etag):
        return Response(None, 304, headers={"ETag": stored.etag})
    try:
        byte_range = parse_range(asked.range_of(stored.etag), stored.size)
    except WriteCareError as error:
        return problem_of(error, headers={"Content-Range": f"bytes */{stored.size}"})
    sent = byte_range or ByteRange(0, stored.size)
    more = {**headers, "ETag": stored.etag, "Accept-Ranges": "bytes", "Content-Length": str(sent.end - sent.start)}
    if asked.head:
        return Response(None, 200, headers=more, media_type=stored.media_type)
    pieces = stored.read(sent)
    first = await anext(pieces, b"")

    async def body() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    if byte_range is not None:
        more["Content-Range"] = f"bytes {byte_range.start}-{byte_range.end - 1}/{stored.size}"
    return StreamingResponse(body(), 206 if byte_range is not None else 200, headers=more, media_type=stored.media_type)
