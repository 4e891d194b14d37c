"""WebSockets: who is let in, and how events are pushed to them.

A socket is refused before it is accepted (origin, ticket, permission) and pushes CloudEvents as text. Most hear
nothing; what a client says on the messaging socket is `comms/messaging/socket/client_messages.py`'s. A client that
talks without end is cut off. `?after=<position>` brings a client back to where it was; without it a socket tells what
comes from now on. A session's socket also says who is connected (comms/live/presence).
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from comms.calls.sessions.attendance import refuse_unheard
from comms.kernel.access.roles import RolePermission, refuse_unless
from comms.kernel.database import Actor, Database
from comms.kernel.metrics import Metrics
from comms.kernel.processes.background_tasks import end
from comms.live.fan_out import Feed
from comms.live.presence.leases import Place
from comms.live.subscription import Subscription
from comms.live.tickets import redeem_ticket
from comms.outbox.queries import EventType
from comms.web.context import House
from comms.web.dependencies import refuse_other_origins
from comms.web.problems import close_code_of, problem_of
from models.contract.errors import WriteCareError, missing

# A socket outlives neither a changed role nor an account that was closed for longer than this.
_LONGEST_SECONDS: Final = 3600.0
_SERVICE_RESTART: Final = 1012
_POLICY_VIOLATION: Final = 1008
# How long a client that has stopped reading may take to reach the close frame with its code and reason. Once it is
# over the connection is dropped, which the client sees as 1006; it comes back with ?after= either way.
_CLOSING_SECONDS: Final = 20.0
# What a client may say (some send heartbeats as messages where nobody listens): a burst, then one a second.
_BURST: Final = 30.0

Hear = Callable[[str], Awaitable[None]]


async def deaf(_text: str) -> None:
    """Hears nothing."""


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
            if channel.session_id is not None:
                at = feed.roll.at(actor, Place("session", channel.session_id), subscription.say)
                await stack.enter_async_context(at)
        except WriteCareError as error:
            await websocket.send_denial_response(problem_of(error))  # the socket was never open
            return
        # accepted once it is subscribed: whatever is committed from here on is told of
        await websocket.accept()
        await push(websocket, feed, subscription, after, metrics=house.metrics)


async def admit(websocket: WebSocket, database: Database, channel: Channel, ticket: str) -> Actor:
    """Whom the ticket speaks for; raises `refused` (origin, role), `unauthenticated` (ticket), `missing` (session)."""
    refuse_other_origins(websocket)
    actor = await redeem_ticket(database, ticket)
    refuse_unless(actor, channel.permission)
    if actor.session_id is not None and channel.session_id != actor.session_id:  # a guest, elsewhere
        raise missing("session")
    if channel.session_id is not None:
        async with database.acting_as(actor) as conn:
            await refuse_unheard(conn, actor, channel.session_id)
    return actor


async def push(
    websocket: WebSocket,
    feed: Feed,
    subscription: Subscription,
    after: int | None,
    hear: Hear = deaf,
    *,
    metrics: Metrics,
    longest_seconds: float = _LONGEST_SECONDS,
) -> None:
    """Pushes what came after position `after`, then what comes, until the client goes or is cut off with a code."""
    sending = asyncio.create_task(_send(websocket, feed, subscription, after))
    gone = asyncio.create_task(_until_gone(websocket, hear))
    broken = asyncio.create_task(subscription.broken.wait())  # a slow client's send may never come back
    tasks = {sending, gone, broken}
    try:
        done, _ = await asyncio.wait(tasks, timeout=longest_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(tasks)
    if gone in done:
        if gone.result() == "flooding":
            await _close(websocket, metrics, _POLICY_VIOLATION, "nobody-listens" if hear is deaf else "said-too-much")
        return
    failure = subscription.failure or (sending.exception() if sending in done else None)
    if isinstance(failure, WriteCareError):
        await _close(websocket, metrics, close_code_of(failure), failure.slug)
    elif failure is None:
        await _close(websocket, metrics, _SERVICE_RESTART, "sign-in-again")
    elif not isinstance(failure, WebSocketDisconnect):
        raise failure


async def _send(websocket: WebSocket, feed: Feed, subscription: Subscription, after: int | None) -> None:
    if after is not None:
        async for text in feed.past(subscription, after):
            await websocket.send_text(text)
    while True:
        await websocket.send_text(await subscription.next())


async def _until_gone(websocket: WebSocket, hear: Hear) -> Literal["gone", "flooding"]:
    """Hears the client until it goes, or says more than somebody would who knows this door."""
    clock = asyncio.get_running_loop().time
    left, heard_at = _BURST, clock()
    while (message := await websocket.receive())["type"] != "websocket.disconnect":
        left = min(_BURST, left + clock() - heard_at) - 1
        heard_at = clock()
        if left < 0:
            return "flooding"
        await hear(message.get("text") or "")
    return "gone"


async def _close(websocket: WebSocket, metrics: Metrics, code: int, reason: str) -> None:
    metrics.sockets_cut_off.labels(reason).inc()
    try:
        async with asyncio.timeout(_CLOSING_SECONDS):
            await websocket.close(code, reason)
    except (TimeoutError, RuntimeError, WebSocketDisconnect):
        return  # it is gone already
