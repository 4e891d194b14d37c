"""People: staff, residents, relatives, professionals. A guest is a person too, with the role 'external'."""

import uuid
from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import Field

from comms.identity.account_changes.queries import ChangeKind, record_change, request_change, withdraw_changes
from comms.identity.homes.queries import read_home
from comms.identity.sign_ins.queries import end_all_sign_ins
from comms.kernel.access.roles import APPOINTABLE_ROLES, PRIVILEGED, Role, role_has
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection
from comms.kernel.text_types import Name, Slug
from models.contract.errors import conflict, missing, refused
from models.contract.records import Record


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
    """A person, who is not active before a second person approves where their role reads alerts or manages accounts.

    Raises `refused` (`role-not-yours-to-give`), a conflict (`slug-taken`), `missing` for an unknown home.
    """
    _require_appointable(actor, new.role)
    if new.home_id is not None:
        await read_home(conn, new.home_id)
    slug = new.slug or f"p-{uuid.uuid4().hex}"
    waits = new.role in PRIVILEGED
    made = await conn.execute(
        "insert into users (tenant_id, slug, display_name, email, role, home_id, active, made_alone_by) "  # noqa: S608
        "values (%(tenant)s, %(slug)s, %(name)s, %(email)s, %(role)s, %(home)s, %(active)s, "
        "(select m.person_id from users m where m.tenant_id = %(tenant)s and m.id = %(actor)s)) "
        f"on conflict (tenant_id, slug) do nothing returning {_COLUMNS}",
        {
            "tenant": actor.tenant_id, "slug": slug, "name": new.display_name, "email": new.email, "role": new.role,
            "home": new.home_id, "active": not waits, "actor": actor.user_id,
        },
    )  # fmt: skip
    row = await made.fetchone()
    if row is None:
        raise conflict("slug-taken", "This slug is another person's already: choose another or leave it out.")
    user = User.model_validate(row)
    await record_act(conn, actor, "user.created", ("user", user.id), {"role": user.role})
    if waits:
        await request_change(conn, actor, user.id, "account", user.role)
    await propose_same_person(conn, actor, user.id)
    return user


async def propose_same_person(conn: Connection, actor: Actor, user_id: UUID) -> None:
    """Asks a second person whether a new account is that of the person who has an older one with its e-mail address.

    Whoever types an address could otherwise make somebody else's account and a new one those of one person.
    """
    found = await conn.execute(
        "select me.role, u.id from users me join users u on u.tenant_id = me.tenant_id "
        "and lower(u.email) = lower(me.email) and u.person_id <> me.person_id "
        "where me.id = %s and u.role not in ('external', 'service') order by u.role = any (%s) desc, u.id limit 1",
        (user_id, list(PRIVILEGED)),
    )
    if (row := await found.fetchone()) is not None:
        await request_change(conn, actor, user_id, "person", row["role"], same_as=row["id"])


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
    manages = APPOINTABLE_ROLES.get(actor.role, frozenset()) | _programs(actor)
    if user.id == actor.user_id or user.role not in manages:
        raise refused(
            "person-not-yours-to-manage", "Accounts are managed by someone else, who may give the role that they have."
        )
    return user


async def change_user(conn: Connection, actor: Actor, user_id: UUID, change: UserChange) -> User:
    """Opens or closes the account, gives a role; either ends all its sign-ins. `conn` acts as the door for `actor`.

    What gives somebody a role that reads alerts or manages accounts, or opens such an account again, waits for a second
    person; the rest of the change is made at once, and closing withdraws what waits. Raises `missing`, `refused`
    (`person-not-yours-to-manage`, `role-not-yours-to-give`), a conflict (`change-waiting`).
    """
    user = await read_managed_user(conn, actor, user_id)
    if change.role is not None and change.role != user.role:
        _require_appointable(actor, change.role)
    wanted = user.model_copy(update=change.model_dump(exclude_none=True))
    changed = wanted
    if wanted.role in PRIVILEGED and wanted.role != user.role:
        await request_change(conn, actor, user_id, "role", wanted.role)
        changed = user.model_copy(update={"active": user.active and wanted.active})
    elif wanted.role in PRIVILEGED and wanted.active and not user.active:
        await request_change(conn, actor, user_id, "account", wanted.role)
        changed = user
    if changed != user:
        await _make_change(conn, actor, user, changed)
    if change.active is False:
        await withdraw_changes(conn, actor, user_id)
    return changed


async def close_user(conn: Connection, actor: Actor, user_id: UUID) -> None:
    """Closes the account, a person's or a program's, ends all its sign-ins and withdraws what waits for it; `conn` acts
    as the door for `actor`. Raises as `read_managed_user`."""
    await change_user(conn, actor, user_id, UserChange(active=False))


async def _make_change(conn: Connection, actor: Actor, before: User, after: User) -> None:
    await conn.execute("update users set active = %s, role = %s where id = %s", (after.active, after.role, before.id))
    details = {"active": after.active, "role": after.role}
    await record_act(conn, actor, "user.changed", ("user", before.id), details)
    kind: ChangeKind = "role" if after.role != before.role else "account"
    await record_change(conn, actor, before.id, kind, after.role)
    await end_all_sign_ins(conn, actor, before.id, "account_changed")


def _programs(actor: Actor) -> frozenset[str]:
    """Programs are managed by who gives them their keys, and nobody gives their role to a person."""
    return frozenset({"service"}) if role_has(actor.role, "service_accounts.manage") else frozenset()


def _require_appointable(actor: Actor, role: Role) -> None:
    if role not in APPOINTABLE_ROLES.get(actor.role, frozenset()):
        given = ", ".join(sorted(APPOINTABLE_ROLES.get(actor.role, ()))) or "none"
        raise refused("role-not-yours-to-give", f"The role {actor.role} can give people these roles: {given}.")
