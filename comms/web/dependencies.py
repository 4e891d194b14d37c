"""The HTTP door: from a request to an actor who may do this and a transaction in their name.

A route declares what it needs and gets it checked:

    @router.get("/homes")
    async def list_homes(acting: Annotated[Acting, acting_with("homes.read")]) -> …:
        return await queries.list_homes(acting.conn, …)

One request is one transaction: it commits when the route returns, before the answer is sent, and is undone when
the route raises. Routes that need several (uploads) take `allowed` and open their own.
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
from comms.kernel.database import Actor, Connection, Origin
from comms.kernel.optimistic_locking import stale, unseen
from comms.web.context import House
from comms.web.credentials import owner_of, refuse_inactive
from comms.web.guest_routes import refuse_guest_elsewhere
from comms.web.idempotency.attempts import attempt_of
from models.contract.errors import refused

_ETAG: Final = re.compile(r'(?:W/)?"?([0-9]{1,9})[a-z]*"?')

bearer = HTTPBearer(
    auto_error=False, description="A token of a sign-in or of `./writecare token`, or a service account's key."
)


@dataclass(frozen=True)
class Acting:
    """A checked request: who acts, the transaction in their name, and the house it happens in."""

    actor: Actor
    conn: Connection
    house: House


def house_of(connection: HTTPConnection) -> House:
    """The house that the process opened at its start; for requests and WebSockets alike."""
    house: House = connection.app.state.house
    return house


async def _house(connection: HTTPConnection) -> House:
    return house_of(connection)  # asynchronous, as every dependency here: FastAPI gives others a thread


InHouse = Annotated[House, Depends(_house)]


Reason = Annotated[
    str | None,
    Header(
        alias="X-Access-Reason",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$",
        description="Why: a code such as a case number, never words. The log of acts keeps it.",
    ),
]


async def origin_of(connection: HTTPConnection, reason: Reason = None) -> Origin:
    """From where and why a request comes, for the log of acts."""
    try:
        address = str(ipaddress.ip_address(connection.client.host)) if connection.client is not None else None
    except ValueError:  # a socket's path, or a test's name
        address = None
    return Origin(UUID(connection.state.request_id), address, reason)


async def signed_in(
    request: Request,
    house: InHouse,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    origin: Annotated[Origin, Depends(origin_of)],
) -> Actor:
    """The owner of the request's token or key, with where the request comes from.

    Raises `unauthenticated`, `refused` (a guest, elsewhere), `unavailable` (`too-many-requests`).
    """
    credential = credentials.credentials if credentials is not None else None
    actor = await owner_of(house.database, house.verifier, credential)
    refuse_guest_elsewhere(actor, request.method, request.scope["route"].path)
    request.state.headers, refusal = await house.limits.count(actor)
    if refusal is not None:
        raise refusal
    return replace(actor, origin=origin)


SignedIn = Annotated[Actor, Depends(signed_in)]


async def count_stranger(house: InHouse, origin: Annotated[Origin, Depends(origin_of)]) -> None:
    """For every route that takes no token, before it does any work; raises 429 (`too-many-requests`)."""
    await house.limits.count_stranger(origin.address)


FROM_ANYBODY: Final = Depends(count_stranger)


@asynccontextmanager
async def _transaction(request: Request, house: House, actor: Actor) -> AsyncIterator[Acting]:
    async with house.database.acting_as(actor) as conn:
        await refuse_inactive(conn, actor)
        await claim_key(request, conn, actor)
        yield Acting(actor, conn, house)


async def claim_key(request: Request, conn: Connection, actor: Actor) -> None:
    """Claims the request's Idempotency-Key, where it has one, in its transaction; raises as `Attempt.claim`."""
    if (attempt := attempt_of(request)) is not None:
        await attempt.claim(conn, actor, await request.body())


def acting_with(permission: RolePermission) -> Any:
    """A dependency that gives `Acting` to roles which hold `permission`; raises `unauthenticated`, `refused`."""

    async def checked(request: Request, house: InHouse, actor: SignedIn) -> AsyncIterator[Acting]:
        refuse_unless(actor, permission)  # before a connection is taken
        async with _transaction(request, house, actor) as acting:
            yield acting

    return Depends(checked, scope="function")


def acting() -> Any:
    """A dependency that gives `Acting` to everyone signed in: for what is a person's own."""

    async def checked(request: Request, house: InHouse, actor: SignedIn) -> AsyncIterator[Acting]:
        async with _transaction(request, house, actor) as acting:
            yield acting

    return Depends(checked, scope="function")


def allowed(permission: RolePermission) -> Any:
    """A dependency that gives the `Actor` alone to roles which hold `permission`, their account checked."""

    async def checked(house: InHouse, actor: SignedIn) -> Actor:
        refuse_unless(actor, permission)
        async with house.database.acting_as(actor) as conn:
            await refuse_inactive(conn, actor)
        return actor

    return Depends(checked)


def active() -> Any:
    """A dependency that gives the `Actor` alone to everyone signed in, their account checked."""

    async def checked(house: InHouse, actor: SignedIn) -> Actor:
        async with house.database.acting_as(actor) as conn:
            await refuse_inactive(conn, actor)
        return actor

    return Depends(checked)


# --- versions ------------------------------------------------------------------------------------------------


async def if_match(
    value: Annotated[str | None, Header(alias="If-Match", description='The ETag last seen, e.g. "3".')] = None,
) -> int | None:
    """The version that the caller believes to change; None where they name none. Raises 412 for any other ETag."""
    if value is None or value.strip() == "*":
        return None
    found = _ETAG.fullmatch(value.strip())
    if found is None:
        raise stale()
    return int(found[1])


IfMatch = Annotated[int | None, Depends(if_match)]


async def if_match_required(
    value: Annotated[
        str | None,
        Header(alias="If-Match", description='The ETag that was seen, e.g. "3". Without it, or with `*`: 428.'),
    ] = None,
) -> int:
    """The version that a person saw before they decided. Raises 428 where none is named, 412 for any other ETag."""
    version = await if_match(value)
    if version is None:
        raise unseen()
    return version


SeenVersion = Annotated[int, Depends(if_match_required)]


def tag(response: Response, version: int, view: str = "") -> None:
    """Says the record's version as its ETag; `view`, in letters, tells apart who is shown less of the same version."""
    response.headers["ETag"] = f'"{version}{view}"'


def refuse_other_origins(connection: HTTPConnection) -> None:
    """A browser says where a page came from; a page of another origin may not use a visitor's network to get in.

    Raises `refused` (`origin-refused`).
    """
    origin = connection.headers.get("origin")
    if origin is not None and _authority(origin) != connection.headers.get("host", "").lower():
        raise refused("origin-refused", "This is opened from this address's own pages, or by programs.")


def _authority(origin: str) -> str | None:
    """The host and port of an `Origin`; None for `null` and for what is none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:  # such as a half-open IPv6 address
        return None


def bearer_of(header: str | None) -> str | None:
    """The token in an `Authorization` header, where there is one: for doors without FastAPI's dependencies."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
