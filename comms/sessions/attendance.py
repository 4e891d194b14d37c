"""Who is heard in a session, as the models may know them: the worker asks this before it transcribes and reads."""

from uuid import UUID

from pydantic import Field

from comms.database import Connection
from comms.identity.roles import Role
from comms.sessions.queries import ParticipantType
from models.records import Record


class Attendee(Record):
    """Somebody who took part, with what helps to spell and to understand them."""

    participant_id: UUID
    user_id: UUID
    participant_type: ParticipantType
    role: Role
    display_name: str = Field(repr=False)


async def list_attendees(conn: Connection, session_id: UUID) -> tuple[Attendee, ...]:
    """Everybody who ever took part in the session, in the order in which they were added."""
    rows = await conn.execute(
        "select p.id as participant_id, p.user_id, p.participant_type, u.role, u.display_name "
        "from session_participants p join users u on u.tenant_id = p.tenant_id and u.id = p.user_id "
        "where p.session_id = %s order by p.id",
        (session_id,),
    )
    return tuple([Attendee(**row) async for row in rows])
