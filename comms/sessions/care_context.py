"""What a session is about: residents, incidents and a description, in a table of its own, seen by those who need to.

Who that is, is one rule of the database (`app.needs_care_context`); to everybody else the session
comes without it.
"""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from comms.database import Actor, Connection, one
from models.errors import missing
from models.records import Record

IncidentReference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$")]


class NewCareContext(Record):
    """Residents by their ids, incidents by the references of whatever system keeps them: codes, no words."""

    residents: tuple[UUID, ...] = Field(default=(), max_length=100, repr=False)
    incidents: tuple[IncidentReference, ...] = Field(default=(), max_length=100, repr=False)


class CareContext(NewCareContext):
    """The context as it is kept; `earlier` is what was written freely before there was a shape, and only read."""

    earlier: dict[str, Any] | None = Field(default=None, repr=False)


async def write_description(conn: Connection, actor: Actor, session_id: UUID, description: str | None) -> None:
    """Puts the description in the place of the one before; for those who need to know alone."""
    await conn.execute(
        "insert into care_contexts (tenant_id, session_id, description) values (%s, %s, %s) "
        "on conflict (tenant_id, session_id) do update set description = excluded.description",
        (actor.tenant_id, session_id, description),
    )


async def write_context(conn: Connection, actor: Actor, session_id: UUID, context: NewCareContext) -> None:
    """Puts the context in the place of the one before; for those who need to know alone.

    Raises `missing` where one of the residents is unknown here, or is no resident.
    """
    residents = list(set(context.residents))
    await _refuse_others(conn, residents)
    await conn.execute(
        "insert into care_contexts (tenant_id, session_id, incidents) values (%s, %s, %s) "
        "on conflict (tenant_id, session_id) do update set incidents = excluded.incidents",
        (actor.tenant_id, session_id, list(dict.fromkeys(context.incidents))),
    )
    await conn.execute(
        "delete from care_context_residents where session_id = %s and user_id <> all(%s)", (session_id, residents)
    )
    await conn.execute(
        "insert into care_context_residents (tenant_id, session_id, user_id) select %s, %s, unnest(%s::uuid[]) "
        "on conflict (tenant_id, session_id, user_id) do nothing",
        (actor.tenant_id, session_id, residents),
    )


async def _refuse_others(conn: Connection, residents: list[UUID]) -> None:
    if not residents:
        return
    known = await conn.execute("select count(*) as n from users where id = any(%s) and role = 'resident'", (residents,))
    if one(await known.fetchone())["n"] != len(residents):
        raise missing("resident")
