"""Tenants: the care groups that share this installation. None can read the data of another."""

from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import Field

from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from comms.kernel.text_types import Name, Slug
from models.contract.errors import conflict, missing, refused
from models.contract.records import Record


class NewTenant(Record):
    slug: Slug
    name: Name = Field(min_length=1, max_length=255)


class Tenant(NewTenant):
    """A care group."""

    name: str
    id: UUID
    created_at: datetime


_COLUMNS: Final = "id, slug, name, created_at"


async def create_tenant(conn: Connection, actor: Actor, new: NewTenant) -> Tenant:
    """Creates a tenant; raises a conflict (`slug-taken`), `refused` (`tenant-not-the-operators`)."""
    found = await conn.execute("select app.runs_installation() as may")
    if not one(await found.fetchone())["may"]:
        raise refused("tenant-not-the-operators", "Only the administrator of the operator's tenant may create tenants.")
    made = await conn.execute(
        "insert into tenants (slug, name) values (%s, %s) "  # noqa: S608 (constants)
        f"on conflict (slug) do nothing returning {_COLUMNS}",
        (new.slug, new.name),
    )
    row = await made.fetchone()
    if row is None:
        raise conflict("slug-taken", "Another tenant already has this slug: choose a different one.")
    tenant = Tenant.model_validate(row)
    await record_act(conn, actor, "tenant.created", ("tenant", tenant.id))
    return tenant


async def read_tenant(conn: Connection, tenant_id: UUID) -> Tenant:
    """Returns one tenant; raises `missing`."""
    found = await conn.execute(f"select {_COLUMNS} from tenants where id = %s", (tenant_id,))  # noqa: S608
    row = await found.fetchone()
    if row is None:
        raise missing("tenant")
    return Tenant.model_validate(row)


async def list_tenants(conn: Connection, *, before: UUID, limit: int) -> list[Tenant]:
    """Lists tenants with an id before `before`, newest first."""
    found = await conn.execute(
        f"select {_COLUMNS} from tenants where id < %s order by id desc limit %s",  # noqa: S608 (constants)
        (before, limit),
    )
    return [Tenant.model_validate(row) for row in await found.fetchall()]
