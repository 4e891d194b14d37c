"""Adds, changes and removes the participants of a session; each change raises its version and emits an event."""

from typing import Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from comms.calls.sessions.queries import (
    NewParticipant,
    ParticipantType,
    Session,
    SessionParticipant,
    lock_session,
    raise_version,
    read_session,
    require_context_visible,
)
from comms.kernel.access.roles import refuse_unless, role_has
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection
from comms.kernel.optimistic_locking import refuse_stale
from comms.outbox.queries import emit
from models.contract.errors import conflict, missing, refused
from models.contract.records import Record


class PermissionsChange(Record):
    """The permissions to change; a field that is left out does not change."""

    camera: bool | None = None
    microphone: bool | None = None
    screen: bool | None = None
    chat: bool | None = None
    record: bool | None = None


class ParticipantChange(Record):
    """The fields to change; `joined` true: they are in the call now, false: they have left it."""

    participant_type: ParticipantType | None = None
    permissions: PermissionsChange | None = None
    joined: bool | None = None


async def add_participant(conn: Connection, actor: Actor, session_id: UUID, new: NewParticipant) -> SessionParticipant:
    """Adds a participant; they join at once if the session is active or imported.

    Raises `missing` (session, person), `refused` (`care-context-withheld`), a conflict (`already-taking-part`,
    `session-status`).
    """
    session = await lock_session(conn, session_id)
    require_context_visible(session)
    if session.status == "cancelled" or (session.status == "ended" and session.session_type != "imported"):
        raise conflict("session-status", f"The session is {session.status}: nobody can be added.")
    if await (await conn.execute("select 1 from users where id = %s", (new.user_id,))).fetchone() is None:
        raise missing("person")
    joined = session.status == "active" or session.session_type == "imported"
    made = await conn.execute(
        "insert into session_participants (tenant_id, session_id, user_id, participant_type, permissions, joined_at) "
        "values (%s, %s, %s, %s, %s, case when %s then now() end) "
        "on conflict (tenant_id, session_id, user_id) do nothing returning id",
        (actor.tenant_id, session_id, new.user_id, new.participant_type, Jsonb(new.permissions.model_dump()), joined),
    )
    if await made.fetchone() is None:
        raise conflict("already-taking-part", "This person is already a participant: change them with PUT.")
    await record_act(conn, actor, "session.participant.added", ("session", session_id), {"user_id": str(new.user_id)})
    version = await raise_version(conn, session_id)
    if joined:
        await _emit(conn, actor, "session.participant.joined", session_id, user_id=new.user_id, version=version)
    return await read_participant(conn, actor, session_id, new.user_id)


async def change_participant(
    conn: Connection,
    actor: Actor,
    session_id: UUID,
    user_id: UUID,
    change: ParticipantChange,
    *,
    expected: int | None = None,
) -> SessionParticipant:
    """Changes the fields that the change names. Everybody may join and leave; the rest needs `sessions.write`.

    `expected` is the version of the session, which every change of its participants raises. Raises `missing`, `refused`
    (`role-lacks-permission`, `removed-from-session`) and a conflict (`session-status`, `version-stale`).
    """
    own = user_id == actor.user_id and change.model_fields_set <= {"joined"}
    if not own:
        refuse_unless(actor, "sessions.write")
    session = await lock_session(conn, session_id)
    refuse_stale(session.version, expected)
    before = _participant_of(session, user_id)
    if change.joined is not None and session.status != "active":
        raise conflict("session-status", f"The session is {session.status}: you can join or leave only an active one.")
    if change.joined and not role_has(actor.role, "sessions.write"):
        await _refuse_removed(conn, session_id, user_id)
    await conn.execute(
        "update session_participants set participant_type = coalesce(%(type)s, participant_type), "
        "permissions = permissions || %(permissions)s, "
        "joined_at = case when %(joined)s then coalesce(joined_at, now()) else joined_at end, "
        "removed_at = case when %(joined)s then null else removed_at end, "
        "left_at = case when %(joined)s then null when not %(joined)s then coalesce(left_at, now()) else left_at end "
        "where session_id = %(session)s and user_id = %(user)s",
        {
            "type": change.participant_type, "joined": change.joined, "session": session_id, "user": user_id,
            "permissions": Jsonb(change.permissions.model_dump(exclude_none=True) if change.permissions else {}),
        },
    )  # fmt: skip
    version = await raise_version(conn, session_id)
    present = before.joined_at is not None and before.left_at is None
    if change.joined is True and not present:
        await _emit(conn, actor, "session.participant.joined", session_id, user_id=user_id, version=version)
    if change.joined is False and before.left_at is None:
        await _emit(conn, actor, "session.participant.left", session_id, user_id=user_id, version=version)
    await record_act(conn, actor, "session.participant.changed", ("session", session_id), {"user_id": str(user_id)})
    return await read_participant(conn, actor, session_id, user_id)


async def remove_participant(
    conn: Connection, actor: Actor, session_id: UUID, user_id: UUID, expected: int | None = None
) -> None:
    """Ends their participation; they cannot rejoin by themselves. The record that they took part remains.

    Raises `missing`, a conflict (`version-stale`); removing twice is no error.
    """
    session = await lock_session(conn, session_id)
    before = _participant_of(session, user_id)
    if before.left_at is None:
        refuse_stale(session.version, expected)
    await conn.execute(
        "update session_participants set left_at = coalesce(left_at, now()), removed_at = coalesce(removed_at, now()) "
        "where session_id = %s and user_id = %s",
        (session_id, user_id),
    )
    if before.left_at is None:
        version = await raise_version(conn, session_id)
        await _emit(conn, actor, "session.participant.left", session_id, user_id=user_id, version=version)
    await record_act(conn, actor, "session.participant.removed", ("session", session_id), {"user_id": str(user_id)})


async def _refuse_removed(conn: Connection, session_id: UUID, user_id: UUID) -> None:
    found = await conn.execute(
        "select 1 from session_participants where session_id = %s and user_id = %s and removed_at is not null",
        (session_id, user_id),
    )
    if await found.fetchone() is not None:
        raise refused(
            "removed-from-session",
            "You were removed from this call: ask a person who manages the session to let you join again.",
        )


def _participant_of(session: Session, user_id: UUID) -> SessionParticipant:
    for participant in session.participants:
        if participant.user_id == user_id:
            return participant
    raise missing("participant")


async def read_participant(conn: Connection, actor: Actor, session_id: UUID, user_id: UUID) -> SessionParticipant:
    """Returns one participant; raises `missing` (session, participant)."""
    return _participant_of(await read_session(conn, actor, session_id), user_id)


async def _emit(
    conn: Connection,
    actor: Actor,
    event: Literal["session.participant.joined", "session.participant.left"],
    session_id: UUID,
    *,
    user_id: UUID,
    version: int,
) -> None:
    await emit(
        conn, actor, event, aggregate=("session", session_id), version=version,
        data={"session_id": str(session_id), "user_id": str(user_id)},
    )  # fmt: skip
