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

from comms.calls.sessions.attendance import require_session_visible
from comms.kernel.access.roles import RolePermission, refuse_unless
from comms.kernel.database import Actor, Database
from comms.kernel.metrics import Metrics
from comms.kernel.processes.background_tasks import end
from comms.live.fan_out import EventFanOut
from comms.live.presence.leases import PresenceScope
from comms.live.subscription import Subscription
from comms.live.tickets import redeem_ticket
from comms.outbox.queries import EventType
from comms.web.context import AppContext
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

OnMessage = Callable[[str], Awaitable[None]]


async def ignore_message(_text: str) -> None:
    """Hears nothing."""


@dataclass(frozen=True)
class SocketChannel:
    """What a socket tells of: events of these types (of one session where it is named), to roles that may hear it."""

    permission: RolePermission
    types: frozenset[EventType]
    session_id: UUID | None = None


async def serve_events(
    websocket: WebSocket,
    ctx: AppContext,
    fan_out: EventFanOut,
    channel: SocketChannel,
    *,
    ticket: str,
    after: int | None,
) -> None:
    """The whole of a socket: let in or refused, then told until it goes or is cut off."""
    async with AsyncExitStack() as stack:
        try:
            actor = await authorise_socket(websocket, ctx.database, channel, ticket)
            subscription_context = fan_out.subscribe(actor, channel.types, channel.session_id)
            subscription = await stack.enter_async_context(subscription_context)
            if channel.session_id is not None:
                open_lease = fan_out.presence_tracker.open_lease(
                    actor, PresenceScope("session", channel.session_id), subscription.enqueue
                )
                await stack.enter_async_context(open_lease)
        except WriteCareError as error:
            await websocket.send_denial_response(problem_of(error))  # the socket was never open
            return
        # accepted once it is subscribed: whatever is committed from here on is told of
        await websocket.accept()
        await push_events(websocket, fan_out, subscription, after, metrics=ctx.metrics)


async def authorise_socket(websocket: WebSocket, database: Database, channel: SocketChannel, ticket: str) -> Actor:
    """Whom the ticket speaks for; raises `refused` (origin, role), `unauthenticated` (ticket), `missing` (session)."""
    refuse_other_origins(websocket)
    actor = await redeem_ticket(database, ticket)
    refuse_unless(actor, channel.permission)
    if actor.session_id is not None and channel.session_id != actor.session_id:  # a guest, elsewhere
        raise missing("session")
    if channel.session_id is not None:
        async with database.acting_as(actor) as conn:
            await require_session_visible(conn, actor, channel.session_id)
    return actor


async def push_events(
    websocket: WebSocket,
    fan_out: EventFanOut,
    subscription: Subscription,
    after: int | None,
    on_message: OnMessage = ignore_message,
    *,
    metrics: Metrics,
    longest_seconds: float = _LONGEST_SECONDS,
) -> None:
    """Pushes what came after position `after`, then what comes, until the client goes or is cut off with a code."""
    sending = asyncio.create_task(_send(websocket, fan_out, subscription, after))
    gone = asyncio.create_task(_receive_until_disconnect(websocket, on_message))
    broken = asyncio.create_task(subscription.broken.wait())  # a slow client's send may never come back
    tasks = {sending, gone, broken}
    try:
        done, _ = await asyncio.wait(tasks, timeout=longest_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(tasks)
    if gone in done:
        if gone.result() == "flooding":
            await _close_with_reason(
                websocket,
                metrics,
                _POLICY_VIOLATION,
                "nobody-listens" if on_message is ignore_message else "said-too-much",
            )
        return
    failure = subscription.failure or (sending.exception() if sending in done else None)
    if isinstance(failure, WriteCareError):
        await _close_with_reason(websocket, metrics, close_code_of(failure), failure.slug)
    elif failure is None:
        await _close_with_reason(websocket, metrics, _SERVICE_RESTART, "sign-in-again")
    elif not isinstance(failure, WebSocketDisconnect):
        raise failure


async def _send(websocket: WebSocket, fan_out: EventFanOut, subscription: Subscription, after: int | None) -> None:
    if after is not None:
        async for text in fan_out.replay(subscription, after):
            await websocket.send_text(text)
    while True:
        await websocket.send_text(await subscription.next())


async def _receive_until_disconnect(websocket: WebSocket, on_message: OnMessage) -> Literal["gone", "flooding"]:
    """Hears the client until it goes, or says more than somebody would who knows this door."""
    clock = asyncio.get_running_loop().time
    left, heard_at = _BURST, clock()
    while (message := await websocket.receive())["type"] != "websocket.disconnect":
        left = min(_BURST, left + clock() - heard_at) - 1
        heard_at = clock()
        if left < 0:
            return "flooding"
        await on_message(message.get("text") or "")
    return "gone"


async def _close_with_reason(websocket: WebSocket, metrics: Metrics, code: int, reason: str) -> None:
    metrics.sockets_cut_off.labels(reason).inc()
    try:
        async with asyncio.timeout(_CLOSING_SECONDS):
            await websocket.close(code, reason)
    except (TimeoutError, RuntimeError, WebSocketDisconnect):
        return  # it is gone already
