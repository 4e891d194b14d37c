"""Stored bytes over HTTP, whole or a range of them (RFC 9110, 14): a player seeks, a broken download goes on."""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from fastapi import Response
from fastapi.responses import StreamingResponse

from comms.problems import problem_of
from comms.storage.sealed import Span
from models.errors import WriteCareError, invalid

_RANGE: Final = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


def wanted_span(header: str | None, size: int) -> Span | None:
    """The bytes that a `Range` header asks for (RFC 9110, 14.2), None for the whole.

    Raises `invalid` (`range-not-satisfiable`) for bytes beyond the end. What is not understood, and several ranges
    at once, are answered with the whole, as the RFC allows.
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
        raise invalid("range-not-satisfiable", f"There are {size} bytes: ask for a range within them.")
    return Span(start, end)


async def answer_range(
    wanted: str | None,
    size: int,
    read: Callable[[Span], AsyncIterator[bytes]],
    media_type: str,
    headers: Mapping[str, str],
) -> Response:
    """The bytes that the `Range` header `wanted` asks for, streamed; a range beyond the end is a problem (416).

    Raises what the first piece of `read` does: what is damaged or missing is a problem, not a broken-off download.
    """
    try:
        span = wanted_span(wanted, size)
    except WriteCareError as error:
        return problem_of(error, headers={"Content-Range": f"bytes */{size}"})
    sent = span or Span(0, size)
    pieces = read(sent)
    first = await anext(pieces, b"")

    async def body() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    more = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(sent.end - sent.start)}
    if span is not None:
        more["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{size}"
    return StreamingResponse(body(), 206 if span is not None else 200, headers=more, media_type=media_type)
