"""Maps each error kind to an HTTP status, a WebSocket close code and whether a job is retried; makes RFC 9457 problems.

Domain code raises only `WriteCareError`. This module decides, once, what a kind means to an HTTP client, a WebSocket or
the job queue. A problem says what to do next and never repeats what the caller sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from comms.kernel.text_types import TEXT_INVALID
from comms.kernel.time_types import TIME_INVALID
from models.contract.errors import Kind, WriteCareError
from models.contract.records import Record

TYPE_PREFIX: Final = "https://writecarenotes.com/problems/"
MEDIA_TYPE: Final = "application/problem+json"


@dataclass(frozen=True)
class KindMapping:
    """What a kind becomes: HTTP status, WebSocket close code, and whether a job is retried."""

    status: int
    close_code: int
    retry: bool


MAPPING_OF_KIND: Final[Mapping[Kind, KindMapping]] = {
    Kind.INVALID: KindMapping(status=422, close_code=4422, retry=False),
    Kind.REFUSED: KindMapping(status=403, close_code=4403, retry=False),
    Kind.MISSING: KindMapping(status=404, close_code=4404, retry=False),
    Kind.CONFLICT: KindMapping(status=409, close_code=4409, retry=False),
    Kind.TOO_LARGE: KindMapping(status=413, close_code=1009, retry=False),
    Kind.UNAUTHENTICATED: KindMapping(status=401, close_code=4401, retry=False),
    Kind.UNAVAILABLE: KindMapping(status=503, close_code=1013, retry=True),
}

# These slugs have their own HTTP status; WebSockets and jobs use the mapping of their kind.
_OWN_STATUS: Final[Mapping[str, int]] = {
    "host-malformed": 400,
    "host-unknown": 421,
    "version-stale": 412,
    "version-required": 428,
    "upload-not-multipart": 415,
    "attachment-type-not-taken": 415,
    "attachment-type-differs": 415,
    "range-not-satisfiable": 416,
    "too-many-requests": 429,
}

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")

# Our rules that a schema cannot express: if nothing else is wrong, the type of the problem names the rule.
_OWN_TYPES: Final[Mapping[str, str]] = {TEXT_INVALID: "text-invalid", TIME_INVALID: "time-invalid"}

# The problems for errors of the framework, by status.
_FRAMEWORK: Final[Mapping[int, tuple[str, str]]] = {
    400: ("request-malformed", "The request cannot be read: send the body that /docs describes."),
    404: ("not-found", "There is nothing at this address: /docs lists all addresses."),
    405: (
        "method-not-allowed",
        "This address does not accept this method: the Allow header lists those that it accepts.",
    ),
}


class InvalidField(Record):
    """Where in the request an error is, and what is wrong; never the value itself."""

    location: str
    detail: str


class ProblemDetails(Record):
    """RFC 9457: `type` is stable and can be matched on, `detail` is for people."""

    type: str = Field(examples=[f"{TYPE_PREFIX}not-found"])
    title: str
    status: int
    detail: str
    request_id: str | None = None
    fields: tuple[InvalidField, ...] | None = None
    progress: dict[str, Any] | None = Field(
        default=None, description="For a recording that is not ready: its progress (`transcript-in-progress` …)."
    )


def status_of(error: WriteCareError) -> int:
    """The HTTP status of an error."""
    return _OWN_STATUS.get(error.slug, MAPPING_OF_KIND[error.kind].status)


def close_code_of(error: WriteCareError) -> int:
    """The close code of a WebSocket for an error."""
    return MAPPING_OF_KIND[error.kind].close_code


def is_retried(error: WriteCareError) -> bool:
    """Whether a job that failed with this error is retried; otherwise its recording is parked."""
    return MAPPING_OF_KIND[error.kind].retry


def problem(
    status: int,
    slug: str,
    detail: str,
    *,
    request_id: str | None = None,
    fields: tuple[InvalidField, ...] | None = None,
    progress: dict[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An RFC 9457 response."""
    body = ProblemDetails(
        type=TYPE_PREFIX + slug, title=HTTPStatus(status).phrase, status=status, detail=detail,
        request_id=request_id, fields=fields, progress=progress,
    )  # fmt: skip
    more = dict(headers or {})
    if status == 401:
        more["WWW-Authenticate"] = "Bearer"
    if status == 503:
        more.setdefault("Retry-After", "5")
    return JSONResponse(body.model_dump(exclude_none=True), status, headers=more, media_type=MEDIA_TYPE)


def problem_of(
    error: WriteCareError,
    request_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    progress: dict[str, Any] | None = None,
) -> JSONResponse:
    """The response for a `WriteCareError`."""
    more = dict(headers or {})
    if error.retry_after_seconds is not None:
        more["Retry-After"] = str(error.retry_after_seconds)
    return problem(status_of(error), error.slug, error.detail, request_id=request_id, progress=progress, headers=more)


def install_problem_handlers(app: FastAPI) -> None:
    """Makes every failure of `app` an RFC 9457 problem."""
    app.add_exception_handler(WriteCareError, _on_our_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_framework_error)


_DESCRIPTIONS: Final[Mapping[int, str]] = {
    401: "The token is missing, invalid or has expired",
    403: "The role lacks the permission, or there is no lawful basis",
    404: "It does not exist, or you may not see it",
    409: "The current state does not allow it",
    412: "It has changed since the version in If-Match",
    413: "Larger or longer than allowed",
    428: "The decision names no version: send If-Match with the ETag that you read",
    415: "Not multipart/form-data, or a file type that is not accepted",
    416: "The range is beyond the end",
    422: "The request is not valid",
    429: "Too many requests or attempts: try again after the time in Retry-After",
    503: "Try again shortly",
}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The entries of these failures in /openapi.json, for FastAPI's `responses`."""
    return {status: {"description": _DESCRIPTIONS[status], "model": ProblemDetails} for status in statuses}


_EXAMPLES: Final[Mapping[int, tuple[str, str]]] = {
    401: ("token-expired", "This token has expired: sign in again for a new one."),
    403: (
        "role-lacks-permission",
        "The role resident lacks homes.create. These roles have it: care_manager, platform_admin.",
    ),
    404: ("not-found", "There is no such session, or you may not see it."),
    409: ("session-status", "The session has already ended."),
    412: ("version-stale", "The record has changed since you read it: read it again and repeat the change."),
    413: ("body-too-large", "The body may have at most 16777216 bytes here: send a smaller one."),
    415: ("upload-not-multipart", "Send the file as multipart/form-data, as /docs describes."),
    416: ("range-not-satisfiable", "The file has 32044 bytes: ask for a range within them."),
    422: ("request-invalid", "The request is not valid: `fields` lists the errors, and /docs describes the schemas."),
    428: (
        "version-required",
        "Send If-Match with the ETag that you read: another person may have decided in the meantime.",
    ),
    429: ("too-many-requests", "You may send 12000 requests per minute: try again in 42 seconds."),
    503: ("database-unreachable", "The database cannot be reached; try again shortly."),
}


def description_of(status: int) -> str:
    """What this status means in this API."""
    return _DESCRIPTIONS[status]


def example_problem(status: int) -> dict[str, Any]:
    """An example of a problem with this status."""
    slug, detail = _EXAMPLES[status]
    body = ProblemDetails(type=TYPE_PREFIX + slug, title=HTTPStatus(status).phrase, status=status, detail=detail)
    return body.model_dump(exclude_none=True)


# Every route may answer with these.
PROBLEM_RESPONSES: Final = problem_responses(401, 403, 404, 409, 422, 429, 503)


def _request_id(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)


async def _on_our_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, WriteCareError)
    return problem_of(error, _request_id(request))


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # pydantic's `input` and `ctx` contain what the caller sent, perhaps private text: neither is returned.
    slugs = [_OWN_TYPES.get(found["type"], "request-invalid") for found in error.errors()]
    slug = "request-invalid" if "request-invalid" in slugs else slugs[0]
    fields = tuple(
        InvalidField(location="/".join(str(part) for part in _public_location(found["loc"])), detail=_rule(found))
        for found in error.errors()[:20]
    )
    return problem(
        422, slug, "The request is not valid: `fields` lists the errors, and /docs describes the schemas.",
        request_id=_request_id(request), fields=fields,
    )  # fmt: skip


def _public_location(location: tuple[Any, ...]) -> tuple[Any, ...]:
    """The location, with long parts replaced: they may be keys that the caller made up."""
    return tuple(part if isinstance(part, int) or len(str(part)) <= 64 else "…" for part in location)


def _rule(found: dict[str, Any]) -> str:
    if found["type"] in ("value_error", "assertion_error", "json_invalid"):
        return "This value is not accepted here."
    return str(found["msg"])


async def _on_framework_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, WriteCareError):
        # FastAPI wraps what reading the body raises; our own error (too large, interrupted) is more precise.
        return problem_of(error.__cause__, _request_id(request))
    slug, detail = _FRAMEWORK.get(
        error.status_code, ("request-refused", "The request cannot be answered: /docs describes the requests.")
    )
    headers = {"Allow": ", ".join(_methods_at(request))} if error.status_code == 405 else error.headers
    return problem(error.status_code, slug, detail, request_id=_request_id(request), headers=headers)


def _methods_at(request: Request) -> tuple[str, ...]:
    """The methods of all routes at the request's address; the framework names only those of one route."""
    asked = {"type": "http", "path": request.scope["path"], "root_path": "", "query_string": b"", "headers": []}
    taken = [
        method
        for method in _METHODS
        if any(route.matches({**asked, "method": method})[0] is Match.FULL for route in request.app.router.routes)
    ]
    return ("GET", "HEAD", *taken[1:]) if taken[:1] == ["GET"] else tuple(taken)
