"""Reads who takes part in a session: for the models (before a transcription), and for live events."""

from collections.abc import Collection
from uuid import UUID

from pydantic import Field

from comms.calls.sessions.queries import OWN_SESSIONS_ROLES, ParticipantType, read_session
from comms.kernel.access.roles import Role
from comms.kernel.database import Actor, Connection
from models.contract.errors import missing
from models.contract.records import Record


class Attendee(Record):
    """A participant, present or former, with what helps to spell and understand their words."""

    participant_id: UUID
    user_id: UUID
    participant_type: ParticipantType
    role: Role
    display_name: str = Field(repr=False)


async def list_attendees(conn: Connection, session_id: UUID) -> tuple[Attendee, ...]:
    """Lists all who ever took part in the session, in the order in which they were added."""
    rows = await conn.execute(
        "select p.id as participant_id, p.user_id, p.participant_type, u.role, u.display_name "
        "from session_participants p join users u on u.tenant_id = p.tenant_id and u.id = p.user_id "
        "where p.session_id = %s order by p.id",
        (session_id,),
    )
    return tuple([Attendee(**row) async for row in rows])


async def require_session_visible(conn: Connection, actor: Actor, session_id: UUID) -> None:
    """Raises `missing` if the actor may not receive the events of the session: they cannot see it, or have left it."""
    await read_session(conn, actor, session_id)
    part = (session_id, actor.user_id)
    if sees_only_own_sessions(actor) and part not in await still_participating(conn, [part]):
        raise missing("session")


def sees_only_own_sessions(actor: Actor) -> bool:
    """Whether the actor receives only the events of sessions that they take part in now."""
    return actor.role in OWN_SESSIONS_ROLES


async def still_participating(conn: Connection, parts: Collection[tuple[UUID, UUID]]) -> set[tuple[UUID, UUID]]:
    """Returns those of the pairs (session, user) that have not ended."""
    if not parts:
        return set()
    found = await conn.execute(
        "select p.session_id, p.user_id from session_participants p "
        "join unnest(%s::uuid[], %s::uuid[]) as asked (session_id, user_id) using (session_id, user_id) "
        "where p.left_at is null",
        ([session_id for session_id, _ in parts], [user_id for _, user_id in parts]),
    )
    return {(row["session_id"], row["user_id"]) async for row in found}
