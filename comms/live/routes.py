"""Routes of live events: a one-use ticket, then a WebSocket."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query, Response, WebSocket
from starlette.requests import HTTPConnection

from comms.live.fan_out import EventFanOut
from comms.live.tickets import Ticket, make_ticket
from comms.live.websockets import SocketChannel, serve_events
from comms.outbox.queries import EventType
from comms.web.dependencies import AuthorisedRequest, authorised, context_of

router = APIRouter(tags=["live events"])

_ALERT_EVENTS: Final[frozenset[EventType]] = frozenset(
    {
        "safeguarding.alert", "safeguarding.alert.high_priority", "alert.reviewed", "alert.subject.changed",
        "glass.broken",
    }
)  # fmt: skip
_ALERTS: Final = SocketChannel("alerts.read", _ALERT_EVENTS)
# No alerts: an alert may be about a participant of the session.
_SESSION_EVENTS: Final[frozenset[EventType]] = frozenset(
    {
        "session.created", "session.started", "session.ended",
        "session.participant.joined", "session.participant.left",
        "session.recording.started", "session.recording.stopped", "recording.processed", "transcript.ready",
    }
)  # fmt: skip
After = Annotated[int | None, Query(ge=0, le=2**63 - 1, description="The position of the last event seen.")]


def fan_out_of(connection: HTTPConnection) -> EventFanOut:
    """Returns the fan-out that the process opened at its start."""
    fan_out: EventFanOut = connection.app.state.fan_out
    return fan_out


@router.post("/api/ws/tickets", status_code=201)
async def create_ticket(request: Annotated[AuthorisedRequest, authorised()], response: Response) -> Ticket:
    """Creates a ticket for one WebSocket, valid for 30 seconds: open `/ws/…?ticket=<ticket>`."""
    response.headers["Location"] = "/ws/alerts"  # where to use it; the secret must not be in a header
    return await make_ticket(request.conn, request.actor)


@router.websocket("/ws/alerts")
async def push_alerts(websocket: WebSocket, ticket: str = "", after: After = None) -> None:
    """Pushes CloudEvents of new and reviewed alerts and of break-glass access (only ids and codes), if the actor may
    read alerts.
    """
    await serve_events(websocket, context_of(websocket), fan_out_of(websocket), _ALERTS, ticket=ticket, after=after)


@router.websocket("/ws/sessions/{session_id}")
async def push_session(websocket: WebSocket, session_id: UUID, ticket: str = "", after: After = None) -> None:
    """Pushes CloudEvents of one session (its states, participants and recordings), if the actor may see it.

    Also who is connected: first `{"type": "presence", "present": […]}`, then `presence.joined` and `presence.left`.
    """
    channel = SocketChannel("sessions.read", _SESSION_EVENTS, session_id)
    await serve_events(websocket, context_of(websocket), fan_out_of(websocket), channel, ticket=ticket, after=after)
