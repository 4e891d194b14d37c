"""Passwords: kept as hashes, changed by their owner, or set with a one-use link that an administrator hands over.

At least twelve characters and no rules of composition (NCSC, OWASP ASVS 5.0 6.2). A new password ends every other
sign-in of the person.
"""

import hashlib
import secrets
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from pydantic import Field, StringConstraints

from comms.audit.queries import record_act
from comms.database import Actor, Connection, one
from comms.identity.door import door
from comms.sign_ins.queries import end_all_sign_ins
from models.errors import Kind, WriteCareError
from models.records import Record

RESET_HOURS: Final = 72  # over a week-end

Password = Annotated[
    str, StringConstraints(min_length=12, max_length=1024), Field(examples=["a long sentence to remember"])
]


class PasswordReset(Record):
    """What is handed to the person: they set a password with it, once."""

    token: str = Field(repr=False)
    expires_at: datetime


async def read_password_hash(conn: Connection, user_id: UUID) -> str | None:
    """The stored hash, None where the person has no password."""
    row = await (await conn.execute("select hash from passwords where user_id = %s", (user_id,))).fetchone()
    return None if row is None else str(row["hash"])


async def signs_on_elsewhere(conn: Connection, person: Actor) -> bool:
    """Whether the person is known from the provider of single sign-on; `conn` acts as the tenant's door."""
    found = await conn.execute("select 1 from sso_subjects where user_id = %s", (person.user_id,))
    return await found.fetchone() is not None


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


async def make_password_reset(conn: Connection, actor: Actor, user_id: UUID) -> PasswordReset:
    """A one-use token for the person, in the place of any before; `actor` hands it to them."""
    secret = secrets.token_urlsafe(32)
    made = await conn.execute(
        "insert into password_resets (tenant_id, user_id, secret_hash, made_by, expires_at) "
        "values (%s, %s, %s, %s, now() + make_interval(hours => %s)) on conflict (tenant_id, user_id) do update "
        "set secret_hash = excluded.secret_hash, made_by = excluded.made_by, expires_at = excluded.expires_at "
        "returning expires_at",
        (actor.tenant_id, user_id, _hash(secret), actor.user_id, RESET_HOURS),
    )
    row = one(await made.fetchone())
    await record_act(conn, actor, "password.reset_made", ("user", user_id))
    return PasswordReset(token=f"wcp.{actor.tenant_id}.{user_id}.{secret}", expires_at=row["expires_at"])


def owner_of_reset(token: str) -> Actor:
    """The door for the person whom the token names, before it is checked; raises `unauthenticated`."""
    try:
        _, tenant, user, _ = token.split(".")
        return door(UUID(tenant), UUID(user))
    except ValueError:
        raise _not_good() from None


async def redeem_password_reset(conn: Connection, token: str) -> None:
    """Uses the token up; raises `unauthenticated` (`reset-invalid`) where it is not good (any more)."""
    owner = owner_of_reset(token)
    used = await conn.execute(
        "delete from password_resets r using users u where r.user_id = %s and r.secret_hash = %s "
        "and r.expires_at > now() and u.tenant_id = r.tenant_id and u.id = r.user_id and u.active returning 1",
        (owner.user_id, _hash(token.rpartition(".")[2])),
    )
    if await used.fetchone() is None:
        raise _not_good()


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()  # 256 random bits need no slow hash


def _not_good() -> WriteCareError:
    return WriteCareError(
        Kind.UNAUTHENTICATED, "reset-invalid", "This link is not good (any more): ask for another one."
    )
