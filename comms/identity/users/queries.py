"""Users: staff, residents, relatives and professionals. A guest is a user with the role 'external'."""

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
    """A person to add. Without a slug, a random one is generated."""

    display_name: Name = Field(min_length=1, max_length=255, repr=False)
    role: Role
    slug: Slug | None = Field(default=None, repr=False)
    email: Name | None = Field(default=None, max_length=254, repr=False)
    home_id: UUID | None = None


class User(NewUser):
    """A person with an account."""

    id: UUID
    display_name: str = Field(repr=False)
    email: str | None = Field(repr=False)
    slug: Slug = Field(repr=False)
    active: bool
    created_at: datetime


class UserChange(Record):
    """The changes to a person's account. Omitted fields stay as they are."""

    active: bool | None = None
    role: Role | None = None


_COLUMNS: Final = "id, slug, display_name, email, role, home_id, active, created_at"


async def create_user(conn: Connection, actor: Actor, new: NewUser) -> User:
    """Creates a person. If the role reads alerts or manages accounts, the account stays inactive until a second person
    approves it.

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
        raise conflict("slug-taken", "Another person already has this slug: choose a different one or leave it out.")
    user = User.model_validate(row)
    await record_act(conn, actor, "user.created", ("user", user.id), {"role": user.role})
    if waits:
        await request_change(conn, actor, user.id, "account", user.role)
    await propose_same_person(conn, actor, user.id)
    return user


async def propose_same_person(conn: Connection, actor: Actor, user_id: UUID) -> None:
    """Asks a second person to confirm that a new account and an older one with the same e-mail address have one owner.

    Without this check, an actor could link another person's account to a new one by typing that person's address.
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
    """Returns one person; raises `missing`."""
    found = await conn.execute(f"select {_COLUMNS} from users where id = %s", (user_id,))  # noqa: S608 (a constant)
    row = await found.fetchone()
    if row is None:
        raise missing("person")
    return User.model_validate(row)


async def list_users(
    conn: Connection, *, role: Role | None, home_id: UUID | None, before: UUID, limit: int
) -> list[User]:
    """Lists people with an id before `before`, newest first; only those of one role or home if given."""
    found = await conn.execute(
        f"select {_COLUMNS} from users where id < %(before)s "  # noqa: S608 (a constant)
        "and (%(role)s::text is null or role = %(role)s) and (%(home)s::uuid is null or home_id = %(home)s) "
        "order by id desc limit %(limit)s",
        {"before": before, "role": role, "home": home_id, "limit": limit},
    )
    return [User.model_validate(row) for row in await found.fetchall()]


async def read_managed_user(conn: Connection, actor: Actor, user_id: UUID) -> User:
    """Returns a person whose account `actor` may manage: not the actor, and with a role that the actor may assign.

    Locks the person's row until the transaction ends. Raises `missing`, `refused` (`person-not-yours-to-manage`).
    """
    found = await conn.execute(f"select {_COLUMNS} from users where id = %s for update", (user_id,))  # noqa: S608
    row = await found.fetchone()
    if row is None:
        raise missing("person")
    user = User.model_validate(row)
    manages = APPOINTABLE_ROLES.get(actor.role, frozenset()) | _programs(actor)
    if user.id == actor.user_id or user.role not in manages:
        raise refused(
            "person-not-yours-to-manage",
            "You may not manage this account: ask another person who may assign its role. Nobody manages their own.",
        )
    return user


async def change_user(conn: Connection, actor: Actor, user_id: UUID, change: UserChange) -> User:
    """Opens or closes the account or changes the role; each ends all its sign-ins. `conn` must act as the system actor
    for `actor`.

    Two changes wait for a second person: a role that reads alerts or manages accounts, and opening such an account
    again. The rest of the change is made at once. Closing an account withdraws its pending changes. Raises `missing`,
    `refused` (`person-not-yours-to-manage`, `role-not-yours-to-give`), a conflict (`change-waiting`).
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
    """Closes the account of a person or a program, ends its sign-ins and withdraws its pending changes.

    `conn` must act as the system actor for `actor`. Raises as `read_managed_user`.
    """
    await change_user(conn, actor, user_id, UserChange(active=False))


async def _make_change(conn: Connection, actor: Actor, before: User, after: User) -> None:
    await conn.execute("update users set active = %s, role = %s where id = %s", (after.active, after.role, before.id))
    details = {"active": after.active, "role": after.role}
    await record_act(conn, actor, "user.changed", ("user", before.id), details)
    kind: ChangeKind = "role" if after.role != before.role else "account"
    await record_change(conn, actor, before.id, kind, after.role)
    await end_all_sign_ins(conn, actor, before.id, "account_changed")


def _programs(actor: Actor) -> frozenset[str]:
    """Returns the role `service` if `actor` may issue keys. This role is never assigned to a person."""
    return frozenset({"service"}) if role_has(actor.role, "service_accounts.manage") else frozenset()


def _require_appointable(actor: Actor, role: Role) -> None:
    if role not in APPOINTABLE_ROLES.get(actor.role, frozenset()):
        given = ", ".join(sorted(APPOINTABLE_ROLES.get(actor.role, ()))) or "none"
        raise refused("role-not-yours-to-give", f"The role {actor.role} may assign only these roles: {given}.")
