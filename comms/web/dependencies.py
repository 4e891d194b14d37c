"""FastAPI dependencies: they authenticate a request, check the permission and open a transaction for the actor.

A route declares what it needs:

    @router.get("/homes")
    async def list_homes(authorised: Annotated[AuthorisedRequest, authorised_for("homes.read")]) -> …:
        return await queries.list_homes(authorised.conn, …)

One request is one transaction: it commits when the route returns, before the answer is sent, and rolls back when the
route raises. Routes that need several transactions (uploads) take `actor_with` and open their own.
"""

import ipaddress
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import Depends, Header, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from comms.kernel.access.roles import RolePermission, refuse_unless
from comms.kernel.database import Actor, Connection, RequestOrigin
from comms.kernel.optimistic_locking import version_required, version_stale
from comms.web.context import AppContext
from comms.web.credentials import authenticate, refuse_inactive
from comms.web.guest_routes import restrict_guest
from comms.web.idempotency.attempts import keyed_request_of
from models.contract.errors import refused

_ETAG: Final = re.compile(r'(?:W/)?"?([0-9]{1,9})[a-z]*"?')

bearer = HTTPBearer(
    auto_error=False, description="A token of a sign-in or of `./writecare token`, or a service account's key."
)


@dataclass(frozen=True)
class AuthorisedRequest:
    """A checked request: the actor, the transaction for the actor, and the application context."""

    actor: Actor
    conn: Connection
    ctx: AppContext


def context_of(connection: HTTPConnection) -> AppContext:
    """The application context that the process opened at its start; for requests and WebSockets."""
    ctx: AppContext = connection.app.state.ctx
    return ctx


async def _context_dependency(connection: HTTPConnection) -> AppContext:
    return context_of(connection)  # async, as every dependency here: FastAPI runs others in a thread


ContextDep = Annotated[AppContext, Depends(_context_dependency)]


Reason = Annotated[
    str | None,
    Header(
        alias="X-Access-Reason",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$",
        description="The reason: a code such as a case number, never text. The audit log stores it.",
    ),
]


async def origin_of(connection: HTTPConnection, reason: Reason = None) -> RequestOrigin:
    """The address and the reason of a request, for the audit log."""
    try:
        address = str(ipaddress.ip_address(connection.client.host)) if connection.client is not None else None
    except ValueError:  # the path of a Unix socket, or a test's name
        address = None
    return RequestOrigin(UUID(connection.state.request_id), address, reason)


async def authenticated_actor(
    request: Request,
    ctx: ContextDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    origin: Annotated[RequestOrigin, Depends(origin_of)],
) -> Actor:
    """The owner of the request's token or key, with the origin of the request.

    Raises `unauthenticated`, `refused` (a guest on a route that is closed to guests), `unavailable`
    (`too-many-requests`).
    """
    credential = credentials.credentials if credentials is not None else None
    actor = await authenticate(ctx.database, ctx.verifier, credential)
    restrict_guest(actor, request.method, request.scope["route"].path)
    request.state.headers, refusal = await ctx.limits.count(actor)
    if refusal is not None:
        raise refusal
    return replace(actor, origin=origin)


AuthenticatedActor = Annotated[Actor, Depends(authenticated_actor)]


async def count_anonymous(ctx: ContextDep, origin: Annotated[RequestOrigin, Depends(origin_of)]) -> None:
    """Counts a request to a route without a token, before any work; raises 429 (`too-many-requests`)."""
    await ctx.limits.count_anonymous(origin.address)


RATE_LIMIT_BY_ADDRESS: Final = Depends(count_anonymous)


@asynccontextmanager
async def _transaction(request: Request, ctx: AppContext, actor: Actor) -> AsyncIterator[AuthorisedRequest]:
    async with ctx.database.acting_as(actor) as conn:
        await refuse_inactive(conn, actor)
        await claim_key(request, conn, actor)
        yield AuthorisedRequest(actor, conn, ctx)


async def claim_key(request: Request, conn: Connection, actor: Actor) -> None:
    """Claims the request's Idempotency-Key, if it has one, in its transaction; raises as `KeyedRequest.claim`."""
    if (keyed_request := keyed_request_of(request)) is not None:
        await keyed_request.claim(conn, actor, await request.body())


def authorised_for(permission: RolePermission) -> Any:
    """A dependency: the `AuthorisedRequest`, if the role holds `permission`; raises `unauthenticated`, `refused`."""

    async def checked(request: Request, ctx: ContextDep, actor: AuthenticatedActor) -> AsyncIterator[AuthorisedRequest]:
        refuse_unless(actor, permission)  # before a connection is taken
        async with _transaction(request, ctx, actor) as authorised:
            yield authorised

    return Depends(checked, scope="function")


def authorised() -> Any:
    """A dependency: the `AuthorisedRequest` of any signed-in user, for routes about their own data."""

    async def checked(request: Request, ctx: ContextDep, actor: AuthenticatedActor) -> AsyncIterator[AuthorisedRequest]:
        async with _transaction(request, ctx, actor) as authorised:
            yield authorised

    return Depends(checked, scope="function")


def actor_with(permission: RolePermission) -> Any:
    """A dependency: only the `Actor`, if the role holds `permission` and the account is active."""

    async def checked(ctx: ContextDep, actor: AuthenticatedActor) -> Actor:
        refuse_unless(actor, permission)
        async with ctx.database.acting_as(actor) as conn:
            await refuse_inactive(conn, actor)
        return actor

    return Depends(checked)


def active_actor() -> Any:
    """A dependency: only the `Actor` of any signed-in user whose account is active."""

    async def checked(ctx: ContextDep, actor: AuthenticatedActor) -> Actor:
        async with ctx.database.acting_as(actor) as conn:
            await refuse_inactive(conn, actor)
        return actor

    return Depends(checked)


# --- versions ------------------------------------------------------------------------------------------------


async def if_match(
    value: Annotated[str | None, Header(alias="If-Match", description='The ETag that you last read, e.g. "3".')] = None,
) -> int | None:
    """The version that the caller expects to change; None without one. Raises 412 for an ETag of another form."""
    if value is None or value.strip() == "*":
        return None
    found = _ETAG.fullmatch(value.strip())
    if found is None:
        raise version_stale()
    return int(found[1])


IfMatch = Annotated[int | None, Depends(if_match)]


async def if_match_required(
    value: Annotated[
        str | None,
        Header(alias="If-Match", description='The ETag that you read, e.g. "3". Without it, or with `*`: 428.'),
    ] = None,
) -> int:
    """The version that a person read before deciding. Raises 428 without one, 412 for an ETag of another form."""
    version = await if_match(value)
    if version is None:
        raise version_required()
    return version


SeenVersion = Annotated[int, Depends(if_match_required)]


def set_etag(response: Response, version: int, view: str = "") -> None:
    """Sets the record's version as its ETag; `view` (letters) marks an answer that hides part of the version."""
    response.headers["ETag"] = f'"{version}{view}"'


def refuse_other_origins(connection: HTTPConnection) -> None:
    """Raises `refused` (`origin-refused`) if a browser sends the request from a page of another origin.

    Such a page could otherwise use its visitor's network to reach this server.
    """
    origin = connection.headers.get("origin")
    if origin is not None and _host_and_port(origin) != connection.headers.get("host", "").lower():
        raise refused(
            "origin-refused", "Requests from pages of other origins are refused: use the pages of this address."
        )


def _host_and_port(origin: str) -> str | None:
    """The host and port of an `Origin` header; None for `null` and for an invalid value."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:  # for example an IPv6 address without its closing bracket
        return None


def bearer_of(header: str | None) -> str | None:
    """The token of an `Authorization` header, or None. For code that does not use FastAPI dependencies."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
