"""Homes: where the residents of a tenant live and its staff work."""

from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import Field

from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection
from comms.kernel.text_types import Name
from models.contract.errors import conflict, missing
from models.contract.records import Record


class NewHome(Record):
    name: Name = Field(min_length=1, max_length=255)


class Home(NewHome):
    """A care home."""

    name: str
    id: UUID
    created_at: datetime


_COLUMNS: Final = "id, name, created_at"


async def create_home(conn: Connection, actor: Actor, new: NewHome) -> Home:
    """Creates a home; raises a conflict (`name-taken`)."""
    made = await conn.execute(
        "insert into homes (tenant_id, name) values (%s, %s) "  # noqa: S608 (constants)
        f"on conflict (tenant_id, name) do nothing returning {_COLUMNS}",
        (actor.tenant_id, new.name),
    )
    row = await made.fetchone()
    if row is None:
        raise conflict("name-taken", "A home with this name already exists: choose another name.")
    home = Home.model_validate(row)
    await record_act(conn, actor, "home.created", ("home", home.id))
    return home


async def read_home(conn: Connection, home_id: UUID) -> Home:
    """Returns one home; raises `missing`."""
    found = await conn.execute(f"select {_COLUMNS} from homes where id = %s", (home_id,))  # noqa: S608 (a constant)
    row = await found.fetchone()
    if row is None:
        raise missing("home")
    return Home.model_validate(row)


async def list_homes(conn: Connection, *, before: UUID, limit: int) -> list[Home]:
    """Lists homes with an id before `before`, newest first."""
    found = await conn.execute(
        f"select {_COLUMNS} from homes where id < %s order by id desc limit %s",  # noqa: S608 (a constant)
        (before, limit),
    )
    return [Home.model_validate(row) for row in await found.fetchall()]
