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
from comms.sign_ins.queries import end_all_sign_ins
from comms.tenants.queries import Slug
from comms.texts import Name
from models.errors import conflict, missing, refused
from models.records import Record


class NewUser(Record):
    """A person to be added; without a slug they get one that says nothing."""

    display_name: Name = Field(min_length=1, max_length=255, repr=False)
    role: Role
    slug: Slug | None = Field(default=None, repr=False)
    email: Name | None = Field(default=None, max_length=254, repr=False)
    home_id: UUID | None = None


class User(NewUser):
    """A person."""

    id: UUID
    display_name: str = Field(repr=False)
    email: str | None = Field(repr=False)
    slug: Slug = Field(repr=False)
    active: bool
    created_at: datetime


class UserChange(Record):
    """What of a person is to be changed; what is left out stays."""

    active: bool | None = None
    role: Role | None = None


_COLUMNS: Final = "id, slug, display_name, email, role, home_id, active, created_at"


async def create_user(conn: Connection, actor: Actor, new: NewUser) -> User:
    """Raises `refused` (`role-not-yours-to-give`), a conflict (`slug-taken`), `missing` for an unknown home."""
    _refuse_unless_gives(actor, new.role)
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


async def read_managed_user(conn: Connection, actor: Actor, user_id: UUID) -> User:
    """A person whose account `actor` may manage: one with a role that theirs may give, and not themselves.

    Their row is locked until the transaction ends. Raises `missing`, `refused` (`person-not-yours-to-manage`).
    """
    found = await conn.execute(f"select {_COLUMNS} from users where id = %s for update", (user_id,))  # noqa: S608
    row = await found.fetchone()
    if row is None:
        raise missing("person")
    user = User.model_validate(row)
    if user.id == actor.user_id or user.role not in APPOINTS.get(actor.role, frozenset()):
        raise refused(
            "person-not-yours-to-manage", "Accounts are managed by someone else, who may give the role that they have."
        )
    return user


async def change_user(conn: Connection, actor: Actor, user_id: UUID, change: UserChange) -> User:
    """Opens or closes the person's account, gives them a role; either ends all their sign-ins.

    Raises `missing`, `refused` (`person-not-yours-to-manage`, `role-not-yours-to-give`).
    """
    user = await read_managed_user(conn, actor, user_id)
    if change.role is not None:
        _refuse_unless_gives(actor, change.role)
    changed = user.model_copy(update=change.model_dump(exclude_none=True))
    if changed != user:
        await conn.execute(
            "update users set active = %s, role = %s where id = %s", (changed.active, changed.role, user_id)
        )
        details = {"active": changed.active, "role": changed.role}
        await record_act(conn, actor, "user.changed", ("user", user_id), details)
        await end_all_sign_ins(conn, actor, user_id, "account_changed")
    return changed


async def close_user(conn: Connection, actor: Actor, user_id: UUID) -> None:
    """Closes the person's account and ends all their sign-ins; raises as `change_user`."""
    await change_user(conn, actor, user_id, UserChange(active=False))


def _refuse_unless_gives(actor: Actor, role: Role) -> None:
    if role not in APPOINTS.get(actor.role, frozenset()):
        given = ", ".join(sorted(APPOINTS.get(actor.role, ()))) or "none"
        raise refused("role-not-yours-to-give", f"The role {actor.role} can give people these roles: {given}.")
