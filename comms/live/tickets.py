"""One-use tickets: they authenticate the WebSocket of a browser without a token in the URL.

A ticket is `tenant.id.secret`. It is valid once, for 30 seconds; the database stores only the hash of the secret.
"""

import hashlib
import secrets
from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import Field

from comms.kernel.access.system_actor import system_actor
from comms.kernel.database import Actor, Connection, Database, one
from models.contract.errors import Kind, WriteCareError
from models.contract.records import Record

LIFETIME_SECONDS: Final = 30.0


class Ticket(Record):
    """The ticket with which the client opens a WebSocket: `?ticket=…`."""

    ticket: str = Field(repr=False)
    expires_at: datetime


async def make_ticket(conn: Connection, actor: Actor, lifetime_seconds: float = LIFETIME_SECONDS) -> Ticket:
    """Creates a ticket for `actor` and deletes the expired tickets of the tenant."""
    await conn.execute("delete from ws_tickets where expires_at < now()")
    secret = secrets.token_urlsafe(32)
    scopes = None if actor.scopes is None else sorted(actor.scopes)
    row = await conn.execute(
        "insert into ws_tickets (tenant_id, user_id, role, sign_in_id, scopes, secret_hash, expires_at) "
        "values (%s, %s, %s, %s, %s, %s, now() + make_interval(secs => %s)) returning id, expires_at",
        (actor.tenant_id, actor.user_id, actor.role, actor.sign_in_id, scopes, _hash(secret), lifetime_seconds),
    )
    made = one(await row.fetchone())
    return Ticket(ticket=f"{actor.tenant_id}.{made['id']}.{secret}", expires_at=made["expires_at"])


async def redeem_ticket(database: Database, ticket: str) -> Actor:
    """Returns the actor of the ticket and uses it up; raises `unauthenticated` if it is invalid or has expired.

    Forged, expired and used tickets get the same error, and a wrong secret does not use the ticket up.
    """
    try:
        tenant, id, secret = ticket.split(".")
        bearer = system_actor(UUID(tenant))
        ticket_id = UUID(id)
    except ValueError:
        raise _invalid_ticket() from None
    async with database.acting_as(bearer) as conn:
        found = await conn.execute(
            "update ws_tickets t set used_at = now() from users u "
            "where t.id = %s and t.secret_hash = %s and t.used_at is null and t.expires_at > now() "
            "and u.tenant_id = t.tenant_id and u.id = t.user_id and u.active "
            "and (t.sign_in_id is null or exists (select 1 from sign_ins s where s.tenant_id = t.tenant_id "
            "    and s.id = t.sign_in_id and s.ended_at is null and s.expires_at > now())) "
            "returning t.user_id, t.role, t.sign_in_id, t.scopes, (select s.session_id from sign_ins s "
            "    where s.tenant_id = t.tenant_id and s.id = t.sign_in_id) as session_id",
            (ticket_id, _hash(secret)),
        )
        row = await found.fetchone()
    if row is None:
        raise _invalid_ticket()
    scopes = None if row["scopes"] is None else frozenset(row["scopes"])
    return Actor(
        bearer.tenant_id, row["user_id"], row["role"],
        sign_in_id=row["sign_in_id"], scopes=scopes, session_id=row["session_id"],
    )  # fmt: skip


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()  # a random secret of 256 bits needs no slow hash


def _invalid_ticket() -> WriteCareError:
    return WriteCareError(
        Kind.UNAUTHENTICATED,
        "ticket-invalid",
        "This ticket is invalid or has expired: get a new one with POST /api/ws/tickets.",
    )
