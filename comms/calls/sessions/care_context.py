"""Stores the care context of a session: residents, incidents and a description, in separate tables.

The database has one rule for who needs to know it (`app.needs_care_context`). All others get the
session without it.
"""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from comms.kernel.database import Actor, Connection, one
from models.contract.errors import missing
from models.contract.records import Record

IncidentReference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$")]


class NewCareContext(Record):
    """The ids of the residents, and the references of the incidents in the system that records them. No free text."""

    residents: tuple[UUID, ...] = Field(default=(), max_length=100, repr=False)
    incidents: tuple[IncidentReference, ...] = Field(default=(), max_length=100, repr=False)


class CareContext(NewCareContext):
    """The stored context; `earlier` is free text from before the fields existed, and is read-only."""

    earlier: dict[str, Any] | None = Field(default=None, repr=False)


async def write_description(conn: Connection, actor: Actor, session_id: UUID, description: str | None) -> None:
    """Replaces the description. Only for actors who need to know."""
    await conn.execute(
        "insert into care_contexts (tenant_id, session_id, description) values (%s, %s, %s) "
        "on conflict (tenant_id, session_id) do update set description = excluded.description",
        (actor.tenant_id, session_id, description),
    )


async def write_context(conn: Connection, actor: Actor, session_id: UUID, context: NewCareContext) -> None:
    """Replaces the context. Only for actors who need to know.

    Raises `missing` if one of the ids is not that of a resident of this tenant.
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
