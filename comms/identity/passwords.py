"""Stores password hashes; sets, changes and resets passwords.

Only the owner chooses a password: with the current password, or with a one-time code. It has at least twelve characters
and must not be easy to guess; there are no composition rules (NCSC, OWASP ASVS 5.0 6.2). A new password ends every
other sign-in of the person.
"""

from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from comms.identity.account_changes.approval import needs_second_person
from comms.identity.account_changes.one_time_codes import Code, make_code, make_first_half
from comms.identity.account_changes.queries import AccountChange, record_change, request_change
from comms.identity.sign_ins.queries import end_all_sign_ins
from comms.identity.users.queries import User
from comms.kernel.access.system_actor import system_actor
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection
from comms.kernel.settings import Settings
from models.contract.errors import refused
from models.contract.records import Record

Password = Annotated[
    str, StringConstraints(min_length=12, max_length=1024), Field(examples=["a long sentence to remember"])
]


class PasswordReset(Record):
    """A password reset that has started. The code is e-mailed to the person, or two people hand over one printed half
    each."""

    change: AccountChange
    first_half: str | None = Field(
        default=None, repr=False, description="The half that you hand to the person; the approver gets the other half."
    )


async def read_password_hash(conn: Connection, user_id: UUID) -> str | None:
    """Returns the stored hash, or None if the person has no password."""
    row = await (await conn.execute("select hash from passwords where user_id = %s", (user_id,))).fetchone()
    return None if row is None else str(row["hash"])


async def refuse_unless_local(conn: Connection, settings: Settings, user_id: UUID) -> None:
    """Raises `refused` if the account must not have a local password. `conn` must act as the system actor of the
    tenant.

    A service account has no password (`service-has-no-password`). A person who uses single sign-on has none either
    (`signs-on-elsewhere`): it would still work after the provider closes their account.
    """
    found = await conn.execute(
        "select u.role = 'service' as program, exists (select from sso_subjects s where s.tenant_id = u.tenant_id "
        "and s.user_id = u.id) as elsewhere from users u where u.id = %s",
        (user_id,),
    )
    row = await found.fetchone()
    if row is not None and row["program"]:
        raise refused("service-has-no-password", "A service account signs in with its key, not with a password.")
    if row is not None and row["elsewhere"] and not settings.passwords_beside_single_sign_on:
        raise refused("signs-on-elsewhere", "This person uses single sign-on: change the password at its provider.")


async def keep_password_hash(conn: Connection, person: Actor, hashed: str) -> None:
    """Stores the hash; it replaces the previous one."""
    await conn.execute(
        "insert into passwords (tenant_id, user_id, hash) values (%s, %s, %s) "
        "on conflict (tenant_id, user_id) do update set hash = excluded.hash, set_at = now()",
        (person.tenant_id, person.user_id, hashed),
    )


async def set_password(conn: Connection, person: Actor, hashed: str) -> None:
    """Sets the person's new password, writes an audit entry and ends all their sign-ins except that of `person`."""
    await keep_password_hash(conn, person, hashed)
    await record_act(conn, person, "password.set", ("user", person.user_id))
    await end_all_sign_ins(conn, person, person.user_id, "password_changed", spare=person.sign_in_id)


async def reset_password(
    conn: Connection, actor: Actor, user: User, *, by_email: bool
) -> tuple[PasswordReset, Code | None]:
    """Starts a password reset for `user`, whom `actor` may manage. `conn` must act as the system actor for `actor`.

    Returns the whole code if it must be e-mailed to the person now. A privileged account and a printed code need a
    second person first.
    """
    owner = system_actor(actor.tenant_id, user.id)
    mailed = by_email and user.email is not None
    if mailed and not needs_second_person(user.role):
        change = await record_change(conn, actor, user.id, "password", user.role)
        await mark_single_person(conn, actor, user.id)
        await end_all_sign_ins(conn, actor, user.id, "account_changed")
        return PasswordReset(change=change), await make_code(conn, owner)
    change = await request_change(conn, actor, user.id, "password", user.role)
    half = None if mailed else await make_first_half(conn, owner)
    return PasswordReset(change=change, first_half=half), None


async def mark_single_person(conn: Connection, actor: Actor, user_id: UUID) -> None:
    """Records that only one person created or reset the account: data about that person is then withheld from it
    too."""
    await conn.execute(
        "update users u set made_alone_by = m.person_id from users m "
        "where u.id = %s and m.tenant_id = u.tenant_id and m.id = %s",
        (user_id, actor.user_id),
    )
