"""Sign-ins: one record for each time that a person signed in, with its end.

An access token names its sign-in (claim `sid`). Every request checks in one query that the account is active and the
sign-in is open (`comms/web/credentials.refuse_inactive`). Code that ends a sign-in also sends a NOTIFY on the channel
`revoked`, without payload, in the same transaction. Processes with open sockets then call `find_ended`.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from models.contract.errors import missing
from models.contract.records import Record

REVOKED_CHANNEL: Final = "revoked"

SignInKind = Literal["local", "oidc", "guest"]
EndReason = Literal[
    "signed_out", "signed_out_everywhere", "signed_out_by_administrator", "account_changed", "password_changed",
    "refresh_reused",
]  # fmt: skip


class SignIn(Record):
    """One sign-in of a person."""

    id: UUID
    user_id: UUID
    role: str
    kind: SignInKind
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


_COLUMNS: Final = "id, user_id, role, kind, created_at, last_seen_at, expires_at"
_IS_OPEN: Final = "ended_at is null and expires_at > now()"


async def open_sign_in(conn: Connection, person: Actor, kind: SignInKind, lifetime_seconds: float) -> Actor:
    """Opens a sign-in for `person` with this lifetime; returns the Actor with its id. `conn` must act as the system
    actor."""
    made = await conn.execute(
        "insert into sign_ins (tenant_id, user_id, role, kind, session_id, expires_at) "
        "values (%s, %s, %s, %s, %s, now() + make_interval(secs => %s)) returning id",
        (person.tenant_id, person.user_id, person.role, kind, person.session_id, lifetime_seconds),
    )
    row = one(await made.fetchone())
    await record_act(conn, person, "sign_in.opened", ("sign_in", row["id"]), {"kind": kind})
    return replace(person, sign_in_id=row["id"])


async def list_sign_ins(conn: Connection, user_id: UUID, *, before: UUID, limit: int) -> list[SignIn]:
    """Lists the person's open sign-ins with an id before `before`, newest first."""
    found = await conn.execute(
        f"select {_COLUMNS} from sign_ins where user_id = %s and id < %s and {_IS_OPEN} "  # noqa: S608 (constants)
        "order by id desc limit %s",
        (user_id, before, limit),
    )
    return [SignIn.model_validate(row) for row in await found.fetchall()]


async def end_sign_in(conn: Connection, actor: Actor, user_id: UUID, sign_in_id: UUID, reason: EndReason) -> None:
    """Ends one sign-in of this user; raises `missing` if it belongs to another user or has already ended."""
    ended = await conn.execute(
        "update sign_ins set ended_at = now(), ended_because = %s "
        "where id = %s and user_id = %s and ended_at is null returning id",
        (reason, sign_in_id, user_id),
    )
    if await ended.fetchone() is None:
        raise missing("sign-in")
    await record_act(conn, actor, "sign_in.ended", ("sign_in", sign_in_id), {"because": reason})
    await conn.execute(f"notify {REVOKED_CHANNEL}".encode())


async def end_all_sign_ins(
    conn: Connection, actor: Actor, user_id: UUID, reason: EndReason, *, spare: UUID | None = None
) -> None:
    """Ends every sign-in of the user except `spare`. Sends the NOTIFY even if the user had no open sign-in."""
    ended = await conn.execute(
        "update sign_ins set ended_at = now(), ended_because = %s "
        "where user_id = %s and ended_at is null and id is distinct from %s returning id",
        (reason, user_id, spare),
    )
    for row in await ended.fetchall():
        await record_act(conn, actor, "sign_in.ended", ("sign_in", row["id"]), {"because": reason})
    await conn.execute(f"notify {REVOKED_CHANNEL}".encode())


async def find_ended(conn: Connection, sign_ins: Collection[UUID], users: Collection[UUID]) -> set[UUID]:
    """Returns which of these sign-ins and users of one tenant are no longer valid. An unknown id is not valid.

    `conn` must act as the system actor of that tenant (`comms/kernel/access/system_actor.py`): no other role can read
    everybody's sign-ins.
    """
    found = await conn.execute(
        f"select id from unnest(%s::uuid[]) as asked(id) where not exists "  # noqa: S608 (constants)
        f"(select 1 from sign_ins s where s.id = asked.id and {_IS_OPEN}) "
        "union select id from unnest(%s::uuid[]) as asked(id) where not exists "
        "(select 1 from users u where u.id = asked.id and u.active)",
        (list(sign_ins), list(users)),
    )
    return {row["id"] async for row in found}
