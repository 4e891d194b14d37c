"""WebSockets: who is let in, and how events are pushed to them.

A socket is refused before it is accepted (origin, ticket, permission), pushes CloudEvents as text, and hears
nothing. `?after=<position>` brings a client back to where it was; without it a socket tells what comes from now on.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from comms.database import Actor, Database
from comms.events.envelope import SentEvent, envelope
from comms.events.feed import Feed, Subscription
from comms.events.queries import EventType
from comms.events.tickets import redeem_ticket
from comms.house import House
from comms.identity.roles import RolePermission, refuse_unless
from comms.problems import close_code_of, problem_of
from comms.sessions.queries import read_session
from models.errors import WriteCareError, missing, refused

# A socket outlives neither a changed role nor an account that was closed for longer than this.
_LONGEST_SECONDS: Final = 3600.0
_SERVICE_RESTART: Final = 1012
_CLOSING_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Channel:
    """What a socket tells of: events of these types (of one session where it is named), to roles that may hear it."""

    permission: RolePermission
    types: frozenset[EventType]
    session_id: UUID | None = None


async def tell(
    websocket: WebSocket, house: House, feed: Feed, channel: Channel, *, ticket: str, after: int | None
) -> None:
    """The whole of a socket: let in or refused, then told until it goes or is cut off."""
    async with AsyncExitStack() as stack:
        try:
            actor = await admit(websocket, house.database, channel, ticket)
            place = feed.subscribe(actor, channel.types, channel.session_id)
            subscription = await stack.enter_async_context(place)
        except WriteCareError as error:
            await websocket.send_denial_response(problem_of(error))  # the socket was never open
            return
        # accepted once it is subscribed: whatever is committed from here on is told of
        await websocket.accept()
        await push(websocket, feed, subscription, after)


async def admit(websocket: WebSocket, database: Database, channel: Channel, ticket: str) -> Actor:
    """Whom the ticket speaks for; raises `refused` (origin, role), `unauthenticated` (ticket), `missing` (session)."""
    _refuse_other_origins(websocket)
    actor = await redeem_ticket(database, ticket)
    refuse_unless(actor, channel.permission)
    if actor.session_id is not None and channel.session_id != actor.session_id:  # a guest, elsewhere
        raise missing("session")
    if channel.session_id is not None:
        async with database.acting_as(actor) as conn:
            await read_session(conn, actor, channel.session_id)
    return actor


async def push(
    websocket: WebSocket,
    feed: Feed,
    subscription: Subscription,
    after: int | None,
    *,
    longest_seconds: float = _LONGEST_SECONDS,
) -> None:
    """Pushes what came after position `after`, then what comes, until the client goes or is cut off with a code."""
    sending = asyncio.create_task(_send(websocket, feed, subscription, after))
    gone = asyncio.create_task(_until_gone(websocket))
    broken = asyncio.create_task(subscription.broken.wait())  # a slow client's send may never come back
    tasks = {sending, gone, broken}
    try:
        done, _ = await asyncio.wait(tasks, timeout=longest_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if gone in done:
        return
    failure = subscription.failure or (sending.exception() if sending in done else None)
    if isinstance(failure, WriteCareError):
        await _close(websocket, close_code_of(failure), failure.slug)
    elif failure is None:
        await _close(websocket, _SERVICE_RESTART, "sign-in-again")
    elif not isinstance(failure, WebSocketDisconnect):
        raise failure


async def _send(websocket: WebSocket, feed: Feed, subscription: Subscription, after: int | None) -> None:
    if after is not None:
        async for event in feed.past(subscription, after):
            await _send_one(websocket, event)
    while True:
        await _send_one(websocket, await subscription.next())


async def _send_one(websocket: WebSocket, event: SentEvent) -> None:
    await websocket.send_text(envelope(event).model_dump_json())


async def _until_gone(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass  # this door only tells; what a client says is not read


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    try:
        await asyncio.wait_for(websocket.close(code, reason), _CLOSING_SECONDS)
    except (TimeoutError, RuntimeError, WebSocketDisconnect):
        return  # it is gone already


def _refuse_other_origins(websocket: WebSocket) -> None:
    """A browser says where a page came from; a page of another origin may not use a visitor's network to get in."""
    origin = websocket.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != websocket.headers.get("host", "").lower():
        raise refused("origin-refused", "WebSockets are opened from this address's own pages, or by programs.")
