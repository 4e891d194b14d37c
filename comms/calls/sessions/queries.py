"""Reads and changes sessions: calls, meetings, handovers, and recordings from elsewhere (`imported`).

The states are scheduled → active → ended, or scheduled → cancelled; an imported session is created as ended. Every
change locks the row of the session, raises its version, and emits its events with that version.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import uuid_utils.compat as uuid_utils
from pydantic import Field, StringConstraints, WithJsonSchema

from comms.calls.sessions.care_context import CareContext, NewCareContext, write_context, write_description
from comms.calls.sessions.connection_quality import ConnectionQuality
from comms.calls.sessions.measurements import SessionMetrics, measure_session
from comms.identity.homes.queries import read_home
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from comms.kernel.optimistic_locking import refuse_stale
from comms.kernel.text_types import Name, Words
from comms.kernel.time_types import Time
from comms.outbox.queries import emit
from models.contract.errors import conflict, missing, refused
from models.contract.records import Record

SessionType = Literal["video_call", "audio_call", "meeting", "handover", "imported"]
SessionStatus = Literal["scheduled", "active", "ended", "cancelled"]
ParticipantType = Literal["staff", "resident", "family", "professional", "guest"]

_NEXT: Final[dict[SessionStatus, frozenset[SessionStatus]]] = {
    "scheduled": frozenset({"active", "cancelled"}),
    "active": frozenset({"ended"}),
    "ended": frozenset(),
    "cancelled": frozenset(),
}
OWN_SESSIONS_ROLES: Final = frozenset({"resident", "external"})


class CallPermissions(Record):
    """What a participant may do in the call; the client offers nothing else."""

    camera: bool = True
    microphone: bool = True
    screen: bool = False
    chat: bool = True
    record: bool = False


class NewParticipant(Record):
    """A participant to add."""

    user_id: UUID
    participant_type: ParticipantType
    permissions: CallPermissions = CallPermissions()


class SessionParticipant(NewParticipant):
    """A participant, present or former: `left_at` is set when they have left."""

    id: UUID
    joined_at: datetime | None
    left_at: datetime | None
    connection_quality: ConnectionQuality | None
    created_at: datetime


Title = Annotated[
    Name,
    StringConstraints(min_length=1, max_length=255),
    WithJsonSchema({
        "type": "string", "minLength": 1, "maxLength": 255,
        "description": "Everybody who may list sessions sees it: write names only in the description.",
    }),
]  # fmt: skip


class NewSession(Record):
    session_type: SessionType
    title: Title = Field(repr=False)
    description: Words | None = Field(default=None, max_length=10_000, repr=False)
    scheduled_start_time: Time | None = None
    recording_enabled: bool = False
    care_context: NewCareContext = Field(default=NewCareContext(), repr=False)
    home_id: UUID | None = None
    participants: tuple[NewParticipant, ...] = Field(default=(), max_length=100)


class SessionChange(Record):
    """The fields to change; a field that is left out does not change."""

    title: Title | None = Field(default=None, repr=False)
    description: Words | None = Field(default=None, max_length=10_000, repr=False)
    scheduled_start_time: Time | None = None
    recording_enabled: bool | None = None
    care_context: NewCareContext | None = Field(default=None, repr=False)
    home_id: UUID | None = None
    status: SessionStatus | None = None


class Session(Record):
    """A session with all who take or took part.

    If `care_context_withheld`, description and context are null: the caller has no need to know them.
    """

    id: UUID
    session_type: SessionType
    title: str = Field(repr=False)
    description: str | None = Field(repr=False)
    scheduled_start_time: datetime | None
    actual_start_time: datetime | None
    end_time: datetime | None
    status: SessionStatus
    recording_enabled: bool
    care_context: CareContext | None = Field(repr=False)
    care_context_withheld: bool
    home_id: UUID | None
    participants: tuple[SessionParticipant, ...] = Field(repr=False)
    created_by: UUID
    version: int
    created_at: datetime
    updated_at: datetime


class SessionUpdate(Record):
    """A session after a change; `measured` is set if the change ended or cancelled it."""

    session: Session
    measured: SessionMetrics | None


_VISIBLE: Final = (
    "(%(everybodys)s or exists (select 1 from session_participants own "
    "where own.tenant_id = s.tenant_id and own.session_id = s.id and own.user_id = %(actor)s)) "
)
# Subselects read the care context only of rows that may show it: a join would evaluate the rule for every row.
_SELECT: Final = (
    "select s.id, s.session_type, s.title, s.scheduled_start_time, s.actual_start_time, s.end_time, "
    "s.status, s.recording_enabled, s.home_id, s.created_by, s.version, s.created_at, s.updated_at, "
    "not needs.to_know as care_context_withheld, case when needs.to_know then "
    "(select c.description from care_contexts c where c.tenant_id = s.tenant_id and c.session_id = s.id) "
    "end as description, case when needs.to_know then coalesce((select jsonb_build_object("
    "'incidents', c.incidents, 'earlier', c.earlier, 'residents', "
    "coalesce((select jsonb_agg(r.user_id order by r.user_id) from care_context_residents r "
    "where r.tenant_id = c.tenant_id and r.session_id = c.session_id), '[]')) from care_contexts c "
    "where c.tenant_id = s.tenant_id and c.session_id = s.id), '{}') end as care_context, "
    "coalesce((select jsonb_agg(jsonb_build_object('id', p.id, 'user_id', p.user_id, "
    "'participant_type', p.participant_type, 'permissions', p.permissions, 'joined_at', p.joined_at, "
    "'left_at', p.left_at, 'connection_quality', p.connection_quality_metrics, 'created_at', p.created_at) "
    "order by p.id) from session_participants p "
    "where p.tenant_id = s.tenant_id and p.session_id = s.id), '[]') as participants "
    "from communication_sessions s "
    "cross join lateral (select app.needs_care_context(s.id) as to_know offset 0) needs "
)


def _visibility_of(actor: Actor) -> dict[str, Any]:
    """Residents and external people see only sessions that they take part in; staff see all sessions of the tenant."""
    return {"everybodys": actor.role not in OWN_SESSIONS_ROLES, "actor": actor.user_id}


async def read_session(conn: Connection, actor: Actor, session_id: UUID) -> Session:
    """Returns the session as the actor may see it; raises `missing`."""
    found = await conn.execute(
        f"{_SELECT} where s.id = %(id)s and {_VISIBLE}", {**_visibility_of(actor), "id": session_id}
    )
    row = await found.fetchone()
    if row is None:
        raise missing("session")
    return Session.model_validate(row)


async def list_sessions(
    conn: Connection,
    actor: Actor,
    *,
    status: SessionStatus | None,
    session_type: SessionType | None,
    home_id: UUID | None,
    participant: UUID | None,
    before: UUID,
    limit: int,
) -> list[Session]:
    """Lists sessions with an id before `before`, newest first; each named filter applies."""
    narrowed = {
        "status": "s.status = %(status)s", "type": "s.session_type = %(type)s", "home": "s.home_id = %(home)s",
        "participant": "exists (select 1 from session_participants w "
        "where w.tenant_id = s.tenant_id and w.session_id = s.id and w.user_id = %(participant)s)",
    }  # fmt: skip
    values: dict[str, Any] = {"status": status, "type": session_type, "home": home_id, "participant": participant}
    named = "".join(f" and {condition}" for name, condition in narrowed.items() if values[name] is not None)
    found = await conn.execute(
        # selects the ids of the page first, so that the rule of the care context is evaluated only for them
        f"{_SELECT} where s.id = any (array(select s.id from communication_sessions s "  # noqa: S608 (constants)
        f"where {_VISIBLE} and s.id < %(before)s{named} "
        "order by s.id desc limit %(limit)s)) order by s.id desc".encode(),
        {**_visibility_of(actor), **values, "before": before, "limit": limit},
    )
    return [Session.model_validate(row) for row in await found.fetchall()]


async def count_sessions(conn: Connection, actor: Actor) -> dict[str, int]:
    """Counts the sessions of each status that the actor can see."""
    found = await conn.execute(
        f"select s.status, count(*) as n from communication_sessions s where {_VISIBLE} group by s.status",  # noqa: S608 (constants)
        _visibility_of(actor),
    )
    return {row["status"]: row["n"] async for row in found}


async def lock_session(conn: Connection, session_id: UUID) -> Session:
    """Returns the session and locks its row until the transaction ends; raises `missing`. For callers that may change
    sessions.
    """
    found = await conn.execute(f"{_SELECT} where s.id = %s for no key update of s", (session_id,))
    row = await found.fetchone()
    if row is None:
        raise missing("session")
    return Session.model_validate(row)


async def raise_version(conn: Connection, session_id: UUID) -> int:
    """Raises the version of the session and returns it, for its next event; the caller has locked the row."""
    raised = await conn.execute(
        "update communication_sessions set version = version + 1, updated_at = now() where id = %s returning version",
        (session_id,),
    )
    return int(one(await raised.fetchone())["version"])


async def create_session(conn: Connection, actor: Actor, new: NewSession) -> UUID:
    """Creates a session without participants and returns its id; raises `missing` (home, resident)."""
    if new.home_id is not None:
        await read_home(conn, new.home_id)
    over = new.session_type == "imported"
    session_id = uuid_utils.uuid7()  # made here, so that no statement waits for the insert
    await conn.execute(
        "insert into communication_sessions (tenant_id, id, session_type, title, scheduled_start_time, "
        "end_time, status, recording_enabled, home_id, created_by) "
        "values (%s, %s, %s, %s, %s, case when %s then now() end, %s, %s, %s, %s)",
        (
            actor.tenant_id, session_id, new.session_type, new.title, new.scheduled_start_time, over,
            "ended" if over else "scheduled", new.recording_enabled, new.home_id, actor.user_id,
        ),
    )  # fmt: skip
    if new.description is not None:
        await write_description(conn, actor, session_id, new.description)
    if new.care_context != NewCareContext():
        await write_context(conn, actor, session_id, new.care_context)
    await emit(
        conn, actor, "session.created", aggregate=("session", session_id), version=1,
        data={"session_id": str(session_id), "session_type": new.session_type},
    )  # fmt: skip
    await record_act(conn, actor, "session.created", ("session", session_id))
    return session_id


async def change_session(
    conn: Connection, actor: Actor, session_id: UUID, change: SessionChange, expected: int | None = None
) -> SessionUpdate:
    """Changes the fields that the change names.

    Raises `missing` (session, home, resident), `refused` (`care-context-withheld`), a conflict (`version-stale`,
    `session-status`).
    """
    session = await lock_session(conn, session_id)
    refuse_stale(session.version, expected)
    if change.home_id is not None:
        await read_home(conn, change.home_id)
    new_status = change.status if change.status not in (None, session.status) else None
    if new_status is not None and new_status not in _NEXT[session.status]:
        ways = ", ".join(sorted(_NEXT[session.status])) or "nothing"
        raise conflict("session-status", f"The session is {session.status}; it can become: {ways}.")
    await _change_context(conn, actor, session, change)
    named = change.model_fields_set
    await conn.execute(
        "update communication_sessions set title = coalesce(%(title)s, title), "
        "scheduled_start_time = case when %(schedule)s then %(scheduled)s else scheduled_start_time end, "
        "recording_enabled = coalesce(%(recording)s, recording_enabled), "
        "home_id = case when %(rehome)s then %(home)s else home_id end, "
        "status = coalesce(%(status)s, status), "
        "actual_start_time = case when %(status)s = 'active' then now() else actual_start_time end, "
        "end_time = case when %(status)s in ('ended', 'cancelled') then now() else end_time end where id = %(id)s",
        {
            "id": session_id, "title": change.title, "recording": change.recording_enabled, "status": new_status,
            "schedule": "scheduled_start_time" in named, "scheduled": change.scheduled_start_time,
            "rehome": "home_id" in named, "home": change.home_id,
        },
    )  # fmt: skip
    version = await raise_version(conn, session_id)
    await record_act(conn, actor, "session.changed", ("session", session_id), {"fields": sorted(named)})
    measured = (
        await _emit_status_change(conn, actor, session_id, new_status, version) if new_status is not None else None
    )
    return SessionUpdate(session=await read_session(conn, actor, session_id), measured=measured)


def require_context_visible(session: Session) -> None:
    """Raises `refused` (`care-context-withheld`) if the actor who read the session has no need to know its care
    context.
    """
    if session.care_context_withheld:
        raise refused(
            "care-context-withheld",
            "You may not see the care context of this session. Only those who may see it can change it, the home and "
            "the participants: ask one of them.",
        )


async def _change_context(conn: Connection, actor: Actor, session: Session, change: SessionChange) -> None:
    describe = "description" in change.model_fields_set
    # Also a new home needs this right: otherwise a user could move the session to their own home and then see its
    # context.
    if describe or change.care_context is not None or "home_id" in change.model_fields_set:
        require_context_visible(session)
    if describe:
        await write_description(conn, actor, session.id, change.description)
    if change.care_context is not None:
        await write_context(conn, actor, session.id, change.care_context)


async def end_session(conn: Connection, actor: Actor, session_id: UUID, expected: int | None = None) -> SessionUpdate:
    """Cancels a session that has not begun, ends one that has; raises a conflict if it is already over."""
    session = await lock_session(conn, session_id)
    end_status: SessionStatus = "cancelled" if session.status == "scheduled" else "ended"
    if session.status in ("ended", "cancelled"):
        raise conflict("session-status", f"The session is already {session.status}: there is nothing to end.")
    return await change_session(conn, actor, session_id, SessionChange(status=end_status), expected)


async def _emit_status_change(
    conn: Connection, actor: Actor, session_id: UUID, status: SessionStatus, version: int
) -> SessionMetrics | None:
    data: dict[str, Any] = {"session_id": str(session_id), "status": status}
    if status == "active":
        await emit(conn, actor, "session.started", aggregate=("session", session_id), version=version, data=data)
        return None
    measured = await measure_session(conn, session_id)
    data["metrics"] = measured.model_dump()
    await emit(conn, actor, "session.ended", aggregate=("session", session_id), version=version, data=data)
    return measured
