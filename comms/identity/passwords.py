"""Passwords: kept as hashes, chosen by their owner alone, with the one before or with a one-time code.

At least twelve characters, not easy to guess, and no rules of composition (NCSC, OWASP ASVS 5.0 6.2). A new password
ends every other sign-in of the person.
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
    """A reset: sent to the person by e-mail, or a printed code of two halves that two people hand over."""

    change: AccountChange
    first_half: str | None = Field(
        default=None, repr=False, description="The half that you hand to the person; whoever approves has the other."
    )


async def read_password_hash(conn: Connection, user_id: UUID) -> str | None:
    """The stored hash, None where the person has no password."""
    row = await (await conn.execute("select hash from passwords where user_id = %s", (user_id,))).fetchone()
    return None if row is None else str(row["hash"])


async def refuse_unless_local(conn: Connection, settings: Settings, user_id: UUID) -> None:
    """Raises `refused` for an account that is to have no password here; `conn` acts as the tenant's door.

    A program's (`service-has-no-password`), and that of a person who signs on with the provider (`signs-on-elsewhere`):
    it would outlive the one that the provider closes.
    """
    found = await conn.execute(
        "select u.role = 'service' as program, exists (select from sso_subjects s where s.tenant_id = u.tenant_id "
        "and s.user_id = u.id) as elsewhere from users u where u.id = %s",
        (user_id,),
    )
    row = await found.fetchone()
    if row is not None and row["program"]:
        raise refused("service-has-no-password", "A program signs in with its key.")
    if row is not None and row["elsewhere"] and not settings.passwords_beside_single_sign_on:
        raise refused("signs-on-elsewhere", "This person signs on with the provider, which keeps their password.")


async def keep_password_hash(conn: Connection, person: Actor, hashed: str) -> None:
    """Puts the hash in the place of the one before."""
    await conn.execute(
        "insert into passwords (tenant_id, user_id, hash) values (%s, %s, %s) "
        "on conflict (tenant_id, user_id) do update set hash = excluded.hash, set_at = now()",
        (person.tenant_id, person.user_id, hashed),
    )


async def set_password(conn: Connection, person: Actor, hashed: str) -> None:
    """The person's new password: it is logged, and ends every sign-in of theirs but the one that `person` acts from."""
    await keep_password_hash(conn, person, hashed)
    await record_act(conn, person, "password.set", ("user", person.user_id))
    await end_all_sign_ins(conn, person, person.user_id, "password_changed", spare=person.sign_in_id)


async def reset_password(
    conn: Connection, actor: Actor, user: User, *, by_email: bool
) -> tuple[PasswordReset, Code | None]:
    """Begins a reset of the password of `user`, whom `actor` may manage; `conn` acts as the door for `actor`.

    Returns the whole code where it is to be sent to the person now. A privileged account, and a code that is printed,
    wait for a second person.
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
    """Notes that one person alone made or reset the account: what is about that person is withheld from it too."""
    await conn.execute(
        "update users u set made_alone_by = m.person_id from users m "
        "where u.id = %s and m.tenant_id = u.tenant_id and m.id = %s",
        (user_id, actor.user_id),
    )
