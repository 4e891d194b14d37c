"""The messaging WebSocket: events of one's own conversations, and what the client says in them."""

from contextlib import AsyncExitStack
from typing import Final

from fastapi import APIRouter, WebSocket

from comms.live.fan_out import Feed
from comms.live.routes import After, feed_of
from comms.live.websockets import Channel, admit, push
from comms.messaging.socket.client_messages import Visits
from comms.outbox.queries import OF_CONVERSATIONS
from comms.web.context import House
from comms.web.dependencies import house_of
from comms.web.problems import problem_of
from models.contract.errors import WriteCareError

router = APIRouter(tags=["live events"])

MESSAGING: Final = Channel("messages.read", OF_CONVERSATIONS)


async def converse(websocket: WebSocket, house: House, feed: Feed, *, ticket: str, after: int | None) -> None:
    """As `tell`, of the conversations that one is in; what the client says is heard."""
    async with AsyncExitStack() as stack:
        try:
            actor = await admit(websocket, house.database, MESSAGING, ticket)
            subscription = await stack.enter_async_context(feed.subscribe(actor, MESSAGING.types))
        except WriteCareError as error:
            await websocket.send_denial_response(problem_of(error))
            return
        await websocket.accept()
        visits = Visits(house.database, feed.roll, subscription, subscription.start if after is None else after)
        stack.push_async_callback(visits.end)
        await push(websocket, feed, subscription, after, visits.hear, metrics=house.metrics)


@router.websocket("/ws/messaging")
async def push_messaging(websocket: WebSocket, ticket: str = "", after: After = None) -> None:
    """CloudEvents of the conversations that one is in, of one's own time in them: messages, members, reactions.

    What a client may say, and what it is then told of a conversation that it has open:
    `comms/messaging/socket/client_messages.py`.
    """
    await converse(websocket, house_of(websocket), feed_of(websocket), ticket=ticket, after=after)
