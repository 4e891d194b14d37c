"""People: staff, residents, relatives, professionals. A guest is a person too, with the role 'external'."""

import uuid
from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import Field

from comms.audit.queries import record_act
from comms.database import Actor, Connection
from comms.homes.queries import read_home
from comms.identity.roles import APPOINTS, Role
from comms.tenants.queries import Slug
from models.errors import conflict, missing, refused
from models.records import Record


class NewUser(Record):
    """A person to be added; without a slug they get one that says nothing."""

    display_name: str = Field(min_length=1, max_length=255, repr=False)
    role: Role
    slug: Slug | None = Field(default=None, repr=False)
    email: str | None = Field(default=None, max_length=254, repr=False)
    home_id: UUID | None = None


class User(NewUser):
    """A person."""

    id: UUID
    slug: Slug = Field(repr=False)
    active: bool
    created_at: datetime


_COLUMNS: Final = "id, slug, display_name, email, role, home_id, active, created_at"


async def create_user(conn: Connection, actor: Actor, new: NewUser) -> User:
    """Raises `refused` (`role-not-yours-to-give`), a conflict (`slug-taken`), `missing` for an unknown home."""
    if new.role not in APPOINTS.get(actor.role, frozenset()):
        given = ", ".join(sorted(APPOINTS.get(actor.role, ()))) or "none"
        raise refused("role-not-yours-to-give", f"The role {actor.role} can give people these roles: {given}.")
    if new.home_id is not None:
        await read_home(conn, new.home_id)
    slug = new.slug or f"p-{uuid.uuid4().hex}"
    made = await conn.execute(
        "insert into users (tenant_id, slug, display_name, email, role, home_id) "  # noqa: S608 (constants)
        f"values (%s, %s, %s, %s, %s, %s) on conflict (tenant_id, slug) do nothing returning {_COLUMNS}",
        (actor.tenant_id, slug, new.display_name, new.email, new.role, new.home_id),
    )
    row = await made.fetchone()
    if row is None:
        raise conflict("slug-taken", "This slug is another person's already: choose another or leave it out.")
    user = User.model_validate(row)
    await record_act(conn, actor, "user.created", ("user", user.id), {"role": user.role})
    return user


async def read_user(conn: Connection, user_id: UUID) -> User:
    """Raises `missing`."""
    found = await conn.execute(f"select {_COLUMNS} from users where id = %s", (user_id,))  # noqa: S608 (a constant)
    row = await found.fetchone()
    if row is None:
        raise missing("person")
    return User.model_validate(row)


async def list_users(
    conn: Connection, *, role: Role | None, home_id: UUID | None, before: UUID, limit: int
) -> list[User]:
    """People, newest first, from before the id; of one role or home where named."""
    found = await conn.execute(
        f"select {_COLUMNS} from users where id < %(before)s "  # noqa: S608 (a constant)
        "and (%(role)s::text is null or role = %(role)s) and (%(home)s::uuid is null or home_id = %(home)s) "
        "order by id desc limit %(limit)s",
        {"before": before, "role": role, "home": home_id, "limit": limit},
    )
    return [User.model_validate(row) for row in await found.fetchall()]
