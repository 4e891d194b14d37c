"""The messaging WebSocket: sends events of the user's own conversations and handles client messages."""

from contextlib import AsyncExitStack
from typing import Final

from fastapi import APIRouter, WebSocket

from comms.live.fan_out import EventFanOut
from comms.live.routes import After, fan_out_of
from comms.live.websockets import SocketChannel, authorise_socket, push_events
from comms.messaging.socket.client_messages import MessagingSocketHandler
from comms.outbox.queries import CONVERSATION_EVENTS
from comms.web.context import AppContext
from comms.web.dependencies import context_of
from comms.web.problems import problem_of
from models.contract.errors import WriteCareError

router = APIRouter(tags=["live events"])

MESSAGING: Final = SocketChannel("messages.read", CONVERSATION_EVENTS)


async def serve_messaging(
    websocket: WebSocket, ctx: AppContext, fan_out: EventFanOut, *, ticket: str, after: int | None
) -> None:
    """Serves a messaging socket: as `serve_events`, but for the actor's conversations, and it handles client
    messages.
    """
    async with AsyncExitStack() as stack:
        try:
            actor = await authorise_socket(websocket, ctx.database, MESSAGING, ticket)
            subscription = await stack.enter_async_context(fan_out.subscribe(actor, MESSAGING.types))
        except WriteCareError as error:
            await websocket.send_denial_response(problem_of(error))
            return
        await websocket.accept()
        handler = MessagingSocketHandler(
            ctx.database, fan_out.presence_tracker, subscription, subscription.start if after is None else after
        )
        stack.push_async_callback(handler.end)
        await push_events(websocket, fan_out, subscription, after, handler.on_message, metrics=ctx.metrics)


@router.websocket("/ws/messaging")
async def push_messaging(websocket: WebSocket, ticket: str = "", after: After = None) -> None:
    """CloudEvents of the caller's conversations, from the time of their membership: messages, members, reactions.

    For the messages of the client, and the server's messages about an open conversation, see
    `comms/messaging/socket/client_messages.py`.
    """
    await serve_messaging(websocket, context_of(websocket), fan_out_of(websocket), ticket=ticket, after=after)
