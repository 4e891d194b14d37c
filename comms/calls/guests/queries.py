"""Guests: people without an account who join one session by a signed link.

The link is valid until it expires or its invitation is revoked. The first use creates a user with the role `external`
(with the id of the invitation) and a participant. Each use opens a sign-in that is limited to that session.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from uuid import UUID

import uuid_utils.compat as uuid_utils
from pydantic import Field

from comms.calls.sessions.participants import add_participant, remove_participant
from comms.calls.sessions.queries import NewParticipant, lock_session, read_session, require_context_visible
from comms.identity.sign_ins.queries import end_all_sign_ins, open_sign_in
from comms.kernel.access.tokens import invitation_invalid
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from comms.kernel.text_types import Name
from comms.kernel.time_types import Time
from models.contract.errors import conflict, invalid, missing
from models.contract.records import Record

_LONGEST_INVITATION: Final = timedelta(days=30)
_LONGEST_SIGN_IN_SECONDS: Final = 12 * 3600.0


class NewInvitation(Record):
    """Whom to invite to the session, and until when the link is valid."""

    display_name: Name = Field(min_length=1, max_length=255, repr=False)
    participant_type: Literal["family", "professional", "guest"]
    email: Name | None = Field(default=None, max_length=254, repr=False)
    expires_at: Time


class Invitation(NewInvitation):
    """An invitation to a session; `entered_at` is the first use of its link."""

    display_name: str = Field(repr=False)
    email: str | None = Field(repr=False)
    expires_at: datetime
    id: UUID
    session_id: UUID
    invited_by: UUID
    entered_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime


_COLUMNS: Final = (
    "id, session_id, display_name, participant_type, email, invited_by, expires_at, entered_at, revoked_at, created_at"
)


async def invite(conn: Connection, actor: Actor, session_id: UUID, new: NewInvitation) -> Invitation:
    """Creates an invitation.

    Raises `missing`, `refused` (`care-context-withheld`), `invalid` (`expiry-invalid`), a conflict (`session-status`).
    """
    now = datetime.now(UTC)
    if not now < new.expires_at <= now + _LONGEST_INVITATION:
        raise invalid("expiry-invalid", f"`expires_at` must be in the next {_LONGEST_INVITATION.days} days.")
    session = await lock_session(conn, session_id)
    require_context_visible(session)  # a guest becomes a participant, who may see the context
    if session.status in ("ended", "cancelled"):
        raise conflict("session-status", f"The session is {session.status}: nobody can be invited.")
    made = await conn.execute(
        "insert into session_invitations (tenant_id, id, session_id, display_name, participant_type, email, "  # noqa: S608
        f"invited_by, expires_at) values (%s, %s, %s, %s, %s, %s, %s, %s) returning {_COLUMNS}",
        (
            actor.tenant_id, uuid_utils.uuid7(), session_id, new.display_name, new.participant_type, new.email,
            actor.user_id, new.expires_at,
        ),
    )  # fmt: skip
    invitation = Invitation(**one(await made.fetchone()))
    await record_act(conn, actor, "guest.invited", ("session", session_id), {"invitation_id": str(invitation.id)})
    return invitation


async def list_invitations(
    conn: Connection, actor: Actor, session_id: UUID, *, before: UUID, limit: int
) -> list[Invitation]:
    """Lists the invitations of the session with an id before `before`, newest first; without their links.

    Raises `missing` (session).
    """
    await read_session(conn, actor, session_id)
    found = await conn.execute(
        f"select {_COLUMNS} from session_invitations where session_id = %s and id < %s "  # noqa: S608 (a constant)
        "order by id desc limit %s",
        (session_id, before, limit),
    )
    return [Invitation(**row) for row in await found.fetchall()]


async def revoke(conn: Connection, actor: Actor, session_id: UUID, invitation_id: UUID) -> None:
    """Revokes an invitation: its link stops working, and the guest who used it is removed and signed out.

    Raises `missing`; revoking twice is no error.
    """
    await lock_session(conn, session_id)  # the same lock order as `enter`: session, then invitation
    found = await conn.execute(
        "select entered_at, revoked_at from session_invitations where id = %s and session_id = %s for no key update",
        (invitation_id, session_id),
    )
    row = await found.fetchone()
    if row is None:
        raise missing("invitation")
    if row["revoked_at"] is not None:
        return
    await conn.execute("update session_invitations set revoked_at = now() where id = %s", (invitation_id,))
    await record_act(conn, actor, "guest.revoked", ("session", session_id), {"invitation_id": str(invitation_id)})
    if row["entered_at"] is not None:
        await remove_participant(conn, actor, session_id, invitation_id)
        await end_all_sign_ins(conn, actor, invitation_id, "signed_out_by_administrator")


async def enter(conn: Connection, tenant_id: UUID, invitation_id: UUID) -> tuple[Actor, int]:
    """Signs the guest in to the session; returns the actor and the lifetime in seconds.

    `conn` must act as the system actor. Raises `unauthenticated` (`invitation-invalid`) if the invitation is invalid,
    revoked or has expired, and a conflict (`session-status`) if the session was over before the first use.
    """
    session_id = await _session_of(conn, invitation_id)
    await lock_session(conn, session_id)
    found = await conn.execute(
        "select display_name, participant_type, email, entered_at, extract(epoch from expires_at - now()) as seconds "
        "from session_invitations where id = %s and revoked_at is null and expires_at > now() for no key update",
        (invitation_id,),
    )
    row = await found.fetchone()
    if row is None:
        raise invitation_invalid()
    guest = Actor(tenant_id, invitation_id, "external", session_id=session_id)
    if row["entered_at"] is None:
        await conn.execute(
            "insert into users (tenant_id, id, slug, display_name, email, role) "
            "values (%s, %s, %s, %s, %s, 'external')",
            (tenant_id, invitation_id, f"guest-{invitation_id.hex}", row["display_name"], row["email"]),
        )
        who = NewParticipant(user_id=invitation_id, participant_type=row["participant_type"])
        await add_participant(conn, guest, session_id, who)
        await conn.execute("update session_invitations set entered_at = now() where id = %s", (invitation_id,))
    await record_act(conn, guest, "guest.entered", ("session", session_id), {"invitation_id": str(invitation_id)})
    seconds = min(float(row["seconds"]), _LONGEST_SIGN_IN_SECONDS)
    return await open_sign_in(conn, guest, "guest", seconds), int(seconds)


async def _session_of(conn: Connection, invitation_id: UUID) -> UUID:
    found = await conn.execute("select session_id from session_invitations where id = %s", (invitation_id,))
    row = await found.fetchone()
    if row is None:
        raise invitation_invalid()
    session_id: UUID = row["session_id"]
    return session_id
