"""How a client comes by live events: a one-use ticket, then a WebSocket."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, WebSocket
from starlette.requests import HTTPConnection

from comms.events.feed import Feed
from comms.events.queries import EventType
from comms.events.sockets import tell
from comms.events.tickets import Ticket, make_ticket
from comms.http import Acting, acting, house_of

router = APIRouter(tags=["live events"])

ALERT_EVENTS: Final[tuple[EventType, ...]] = (
    "safeguarding.alert",
    "safeguarding.alert.high_priority",
    "alert.reviewed",
)
After = Annotated[int | None, Query(ge=0, le=2**63 - 1, description="The position of the last event seen.")]


def feed_of(connection: HTTPConnection) -> Feed:
    """The feed that the process opened at its start."""
    feed: Feed = connection.app.state.feed
    return feed


@router.post("/api/ws/tickets", status_code=201)
async def create_ticket(request: Annotated[Acting, acting()]) -> Ticket:
    """A ticket for one WebSocket, good for 30 seconds: open `/ws/…?ticket=<ticket>`."""
    return await make_ticket(request.conn, request.actor)


@router.websocket("/ws/alerts")
async def push_alerts(websocket: WebSocket, ticket: str = "", after: After = None) -> None:
    """CloudEvents of new and reviewed alerts, ids and severity alone, for those who may read alerts."""
    await tell(
        websocket, house_of(websocket), feed_of(websocket), ticket,
        permission="alerts.read", types=ALERT_EVENTS, after=after,
    )  # fmt: skip
