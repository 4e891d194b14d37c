"""Accepts or refuses WebSockets and pushes events to them.

A socket is refused before it is accepted (origin, ticket, permission). It pushes CloudEvents as text. Only the
messaging socket handles client messages (`comms/messaging/socket/client_messages.py`); the others discard them. A
client that sends too many is disconnected. With `?after=<position>` a client continues after the last event that it
received; without it, it receives only new events. The socket of a session also sends who is connected
(comms/live/presence).
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

# A socket ends after this time at the latest: then the new ticket has the current role and account.
_LONGEST_SECONDS: Final = 3600.0
_SERVICE_RESTART: Final = 1012
_POLICY_VIOLATION: Final = 1008
# The time in which a client that reads slowly can receive the close frame with its code and reason. Then the connection
# is dropped, and the client sees 1006. It reconnects with ?after= in both cases.
_CLOSING_SECONDS: Final = 20.0
# The permitted rate of client messages (some clients send heartbeats as messages): a burst, then one a second.
_BURST: Final = 30.0

OnMessage = Callable[[str], Awaitable[None]]


async def ignore_message(_text: str) -> None:
    """Discards a client message."""


@dataclass(frozen=True)
class SocketChannel:
    """The events that a socket receives: of these types, of one session if it is named; it requires the permission."""

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
    """Serves one event socket: checks the ticket, accepts, and sends events until one side disconnects."""
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
            await websocket.send_denial_response(problem_of(error))  # the socket was not accepted
            return
        # accepted after it is subscribed, so that it receives all events that are committed from now on
        await websocket.accept()
        await push_events(websocket, fan_out, subscription, after, metrics=ctx.metrics)


async def authorise_socket(websocket: WebSocket, database: Database, channel: SocketChannel, ticket: str) -> Actor:
    """Returns the actor of the ticket; raises `refused` (origin, role), `unauthenticated` (ticket), `missing`
    (session).
    """
    refuse_other_origins(websocket)
    actor = await redeem_ticket(database, ticket)
    refuse_unless(actor, channel.permission)
    if (
        actor.session_id is not None and channel.session_id != actor.session_id
    ):  # a guest may see only their own session
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
    """Sends events after position `after`, then new events, until one side disconnects."""
    sending = asyncio.create_task(_send(websocket, fan_out, subscription, after))
    gone = asyncio.create_task(_receive_until_disconnect(websocket, on_message))
    broken = asyncio.create_task(subscription.broken.wait())  # the send to a slow client may never return
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
    """Reads client messages until the client disconnects (`gone`) or exceeds the permitted rate (`flooding`)."""
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
        return  # already disconnected
