"""Routes of sessions and their participants. The version of a session is its ETag; `If-Match` guards a change."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response

from comms.calls.sessions import connection_quality, participants, queries
from comms.calls.sessions.connection_quality import ConnectionQuality, ConnectionReport
from comms.calls.sessions.measurements import count_session
from comms.calls.sessions.participants import ParticipantChange
from comms.calls.sessions.queries import (
    NewParticipant,
    NewSession,
    Session,
    SessionChange,
    SessionParticipant,
    SessionStatus,
    SessionType,
    SessionUpdate,
)
from comms.web.dependencies import AuthorisedRequest, IfMatch, authorised_for, set_etag
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page, page_of
from comms.web.problems import problem_responses
from comms.web.route_class import PlatformRoute

router = APIRouter(prefix="/api/sessions", tags=["sessions"], route_class=PlatformRoute)

ReadAccess = Annotated[AuthorisedRequest, authorised_for("sessions.read")]
WriteAccess = Annotated[AuthorisedRequest, authorised_for("sessions.write")]


@router.post("", status_code=201)
async def create_session(new: NewSession, authorised: WriteAccess, response: Response) -> Session:
    """Creates a session, with the participants that the body names."""
    session_id = await queries.create_session(authorised.conn, authorised.actor, new)
    for participant in new.participants:
        await participants.add_participant(authorised.conn, authorised.actor, session_id, participant)
    session = await queries.read_session(authorised.conn, authorised.actor, session_id)
    response.headers["Location"] = f"/api/sessions/{session_id}"
    _set_etag(response, session)
    return session


@router.get("")
async def list_sessions(
    authorised: ReadAccess,
    *,
    status: SessionStatus | None = None,
    session_type: SessionType | None = None,
    home_id: UUID | None = None,
    participant: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Session]:
    """Lists sessions, newest first; residents and external people see only sessions that they take part in."""
    found = await queries.list_sessions(
        authorised.conn, authorised.actor, status=status, session_type=session_type, home_id=home_id,
        participant=participant, before=cursor or MAX_UUID, limit=limit + 1,
    )  # fmt: skip
    return page_of(found, limit)


@router.get("/{session_id}")
async def read_session(session_id: UUID, authorised: ReadAccess, response: Response) -> Session:
    """Returns one session with its participants."""
    session = await queries.read_session(authorised.conn, authorised.actor, session_id)
    _set_etag(response, session)
    return session


@router.put("/{session_id}", responses=problem_responses(412))
async def change_session(
    session_id: UUID, change: SessionChange, authorised: WriteAccess, expected: IfMatch, response: Response
) -> Session:
    """Changes the fields that the body names; `status` goes from scheduled to active to ended, or to cancelled."""
    return _changed(
        authorised,
        await queries.change_session(authorised.conn, authorised.actor, session_id, change, expected),
        response,
    )


@router.delete("/{session_id}", responses=problem_responses(412))
async def end_session(session_id: UUID, authorised: WriteAccess, expected: IfMatch, response: Response) -> Session:
    """Ends a running session, or cancels one that has not begun."""
    return _changed(
        authorised, await queries.end_session(authorised.conn, authorised.actor, session_id, expected), response
    )


@router.post("/{session_id}/participants", status_code=201)
async def add_participant(
    session_id: UUID, new: NewParticipant, authorised: WriteAccess, response: Response
) -> SessionParticipant:
    """Adds a participant; in a running or imported session they join at once."""
    participant = await participants.add_participant(authorised.conn, authorised.actor, session_id, new)
    response.headers["Location"] = f"/api/sessions/{session_id}/participants/{new.user_id}"
    return participant


@router.get("/{session_id}/participants")
async def list_participants(session_id: UUID, authorised: ReadAccess) -> Page[SessionParticipant]:
    """Lists all who take or took part, in the order in which they were added, on one page."""
    session = await queries.read_session(authorised.conn, authorised.actor, session_id)
    return Page(items=session.participants, next=None)


@router.get("/{session_id}/participants/{user_id}")
async def read_participant(session_id: UUID, user_id: UUID, authorised: ReadAccess) -> SessionParticipant:
    """Returns one participant, present or former."""
    return await participants.read_participant(authorised.conn, authorised.actor, session_id, user_id)


@router.put("/{session_id}/participants/{user_id}", responses=problem_responses(412))
async def change_participant(
    session_id: UUID,
    user_id: UUID,
    change: ParticipantChange,
    *,
    authorised: ReadAccess,
    expected: IfMatch,
    response: Response,
) -> SessionParticipant:
    """Changes the fields that the body names; `joined`: they are in the call now, or have left it. The ETag is that of
    the session.

    A user who can see the session may change their own `joined`.
    """
    changed = await participants.change_participant(
        authorised.conn, authorised.actor, session_id, user_id, change, expected=expected
    )
    _set_etag(response, await queries.read_session(authorised.conn, authorised.actor, session_id))
    return changed


@router.delete("/{session_id}/participants/{user_id}", status_code=204, responses=problem_responses(412))
async def remove_participant(session_id: UUID, user_id: UUID, authorised: WriteAccess, expected: IfMatch) -> None:
    """Removes a participant; the record that they took part remains. `If-Match` is the version of the session."""
    await participants.remove_participant(authorised.conn, authorised.actor, session_id, user_id, expected)


@router.post("/{session_id}/connection-quality")
async def report_connection(session_id: UUID, report: ConnectionReport, authorised: ReadAccess) -> ConnectionQuality:
    """Stores the connection quality that the client of a participant measured; returns the summary so far."""
    return await connection_quality.report_connection(authorised.conn, authorised.actor, session_id, report)


def _changed(authorised: AuthorisedRequest, changed: SessionUpdate, response: Response) -> Session:
    if changed.measured is not None:
        count_session(authorised.ctx.metrics, changed.session.session_type, changed.measured)
    _set_etag(response, changed.session)
    return changed.session


def _set_etag(response: Response, session: Session) -> None:
    """The ETag also says whether the context is withheld: a user who gains the right to see it must not get 304."""
    set_etag(response, session.version, "w" if session.care_context_withheld else "")
