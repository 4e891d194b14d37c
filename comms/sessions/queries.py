"""Sessions: calls, meetings, handovers, and recordings brought from elsewhere ('imported').

scheduled → active → ended, or scheduled → cancelled; an imported session is over when it is made. Every change takes
the session's row, raises its version and tells of it under that version.
"""

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import uuid_utils.compat as uuid_utils
from psycopg.types.json import Jsonb
from pydantic import AwareDatetime, Field

from comms.audit.queries import record_act
from comms.database import Actor, Connection, one
from comms.events.queries import emit
from comms.homes.queries import read_home
from comms.versions import refuse_stale
from models.errors import conflict, missing
from models.records import Record

SessionType = Literal["video_call", "audio_call", "meeting", "handover", "imported"]
SessionStatus = Literal["scheduled", "active", "ended", "cancelled"]
ParticipantType = Literal["staff", "resident", "family", "professional", "guest"]

_NEXT: Final[dict[SessionStatus, frozenset[SessionStatus]]] = {
    "scheduled": frozenset({"active", "cancelled"}),
    "active": frozenset({"ended"}),
    "ended": frozenset(),
    "cancelled": frozenset(),
}
OWN_SESSIONS_ALONE: Final = frozenset({"resident", "external"})


class NewParticipant(Record):
    """Somebody to take part; `permissions` are the call's own switches (camera, screen …)."""

    user_id: UUID
    participant_type: ParticipantType
    permissions: dict[str, Any] = Field(default_factory=dict)


class SessionParticipant(NewParticipant):
    """Somebody who takes part, or did: `left_at` is set then."""

    id: UUID
    joined_at: datetime | None
    left_at: datetime | None
    created_at: datetime


class NewSession(Record):
    session_type: SessionType
    title: str = Field(min_length=1, max_length=255, repr=False)
    description: str | None = Field(default=None, max_length=10_000, repr=False)
    scheduled_start_time: AwareDatetime | None = None
    recording_enabled: bool = False
    care_context: dict[str, Any] = Field(default_factory=dict, repr=False)
    home_id: UUID | None = None
    participants: tuple[NewParticipant, ...] = Field(default=(), max_length=100)


class SessionChange(Record):
    """What is to be different; what is left out stays."""

    title: str | None = Field(default=None, min_length=1, max_length=255, repr=False)
    description: str | None = Field(default=None, max_length=10_000, repr=False)
    scheduled_start_time: AwareDatetime | None = None
    recording_enabled: bool | None = None
    care_context: dict[str, Any] | None = Field(default=None, repr=False)
    home_id: UUID | None = None
    status: SessionStatus | None = None


class Session(Record):
    """A session with everyone who takes or took part."""

    id: UUID
    session_type: SessionType
    title: str = Field(repr=False)
    description: str | None = Field(repr=False)
    scheduled_start_time: datetime | None
    actual_start_time: datetime | None
    end_time: datetime | None
    status: SessionStatus
    recording_enabled: bool
    care_context: dict[str, Any] = Field(repr=False)
    home_id: UUID | None
    participants: tuple[SessionParticipant, ...] = Field(repr=False)
    created_by: UUID
    version: int
    created_at: datetime
    updated_at: datetime


_SELECT: Final = (
    "select s.id, s.session_type, s.title, s.description, s.scheduled_start_time, s.actual_start_time, s.end_time, "
    "s.status, s.recording_enabled, s.care_context, s.home_id, s.created_by, s.version, s.created_at, s.updated_at, "
    "coalesce((select jsonb_agg(jsonb_build_object('id', p.id, 'user_id', p.user_id, "
    "'participant_type', p.participant_type, 'permissions', p.permissions, 'joined_at', p.joined_at, "
    "'left_at', p.left_at, 'created_at', p.created_at) order by p.id) from session_participants p "
    "where p.tenant_id = s.tenant_id and p.session_id = s.id), '[]') as participants "
    "from communication_sessions s where (%(everybodys)s or exists (select 1 from session_participants own "
    "where own.tenant_id = s.tenant_id and own.session_id = s.id and own.user_id = %(actor)s)) "
)


def _seen_by(actor: Actor) -> dict[str, Any]:
    """Residents and people from outside see the sessions that they take part in; staff see the tenant's."""
    return {"everybodys": actor.role not in OWN_SESSIONS_ALONE, "actor": actor.user_id}


async def read_session(conn: Connection, actor: Actor, session_id: UUID) -> Session:
    """Raises `missing`."""
    found = await conn.execute(f"{_SELECT} and s.id = %(id)s", {**_seen_by(actor), "id": session_id})
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
    """Sessions, newest first, from before the id; narrowed by whatever is named."""
    found = await conn.execute(
        f"{_SELECT} and s.id < %(before)s "  # noqa: S608 (a constant)
        "and (%(status)s::text is null or s.status = %(status)s) "
        "and (%(type)s::text is null or s.session_type = %(type)s) "
        "and (%(home)s::uuid is null or s.home_id = %(home)s) "
        "and (%(participant)s::uuid is null or exists (select 1 from session_participants w "
        "where w.tenant_id = s.tenant_id and w.session_id = s.id and w.user_id = %(participant)s)) "
        "order by s.id desc limit %(limit)s",
        {
            **_seen_by(actor), "status": status, "type": session_type, "home": home_id,
            "participant": participant, "before": before, "limit": limit,
        },
    )  # fmt: skip
    return [Session.model_validate(row) for row in await found.fetchall()]


async def lock_session(conn: Connection, session_id: UUID) -> Session:
    """The session, its row taken until the transaction ends; raises `missing`. For those who may change sessions."""
    everybodys = {"everybodys": True, "actor": None, "id": session_id}
    found = await conn.execute(f"{_SELECT} and s.id = %(id)s for no key update of s", everybodys)
    row = await found.fetchone()
    if row is None:
        raise missing("session")
    return Session.model_validate(row)


async def raise_version(conn: Connection, session_id: UUID) -> int:
    """The version of the session's next event; its row must be locked."""
    raised = await conn.execute(
        "update communication_sessions set version = version + 1, updated_at = now() where id = %s returning version",
        (session_id,),
    )
    return int(one(await raised.fetchone())["version"])


async def create_session(conn: Connection, actor: Actor, new: NewSession) -> UUID:
    """Makes a session, without its participants, and returns its id; raises `missing` for an unknown home."""
    if new.home_id is not None:
        await read_home(conn, new.home_id)
    over = new.session_type == "imported"
    session_id = uuid_utils.uuid7()  # made here, so that nothing has to wait for the row
    await conn.execute(
        "insert into communication_sessions (tenant_id, id, session_type, title, description, scheduled_start_time, "
        "end_time, status, recording_enabled, care_context, home_id, created_by) "
        "values (%s, %s, %s, %s, %s, %s, case when %s then now() end, %s, %s, %s, %s, %s)",
        (
            actor.tenant_id, session_id, new.session_type, new.title, new.description, new.scheduled_start_time, over,
            "ended" if over else "scheduled", new.recording_enabled, Jsonb(new.care_context), new.home_id,
            actor.user_id,
        ),
    )  # fmt: skip
    await emit(
        conn, actor, "session.created", aggregate=("session", session_id), version=1,
        data={"session_id": str(session_id), "session_type": new.session_type},
    )  # fmt: skip
    await record_act(conn, actor, "session.created", ("session", session_id))
    return session_id


async def change_session(
    conn: Connection, actor: Actor, session_id: UUID, change: SessionChange, expected: int | None = None
) -> Session:
    """Applies what the change names; raises `missing`, a conflict (`version-stale`, `session-status`)."""
    session = await lock_session(conn, session_id)
    refuse_stale(session.version, expected)
    if change.home_id is not None:
        await read_home(conn, change.home_id)
    moved = change.status if change.status not in (None, session.status) else None
    if moved is not None and moved not in _NEXT[session.status]:
        ways = ", ".join(sorted(_NEXT[session.status])) or "nothing"
        raise conflict("session-status", f"The session is {session.status}; it can become: {ways}.")
    named = {name: getattr(change, name) for name in change.model_fields_set if name != "status"}
    await conn.execute(
        "update communication_sessions set title = coalesce(%(title)s, title), "
        "description = case when %(describe)s then %(description)s else description end, "
        "scheduled_start_time = case when %(schedule)s then %(scheduled)s else scheduled_start_time end, "
        "recording_enabled = coalesce(%(recording)s, recording_enabled), "
        "care_context = coalesce(%(context)s, care_context), "
        "home_id = case when %(rehome)s then %(home)s else home_id end, "
        "status = coalesce(%(status)s, status), "
        "actual_start_time = case when %(status)s = 'active' then now() else actual_start_time end, "
        "end_time = case when %(status)s in ('ended', 'cancelled') then now() else end_time end where id = %(id)s",
        {
            "id": session_id, "title": change.title, "recording": change.recording_enabled, "status": moved,
            "context": Jsonb(change.care_context) if change.care_context is not None else None,
            "describe": "description" in named, "description": change.description,
            "schedule": "scheduled_start_time" in named, "scheduled": change.scheduled_start_time,
            "rehome": "home_id" in named, "home": change.home_id,
        },
    )  # fmt: skip
    version = await raise_version(conn, session_id)
    await record_act(
        conn, actor, "session.changed", ("session", session_id), {"fields": sorted(change.model_fields_set)}
    )
    if moved is not None:
        await _tell_of_move(conn, actor, session_id, moved, version)
    return await read_session(conn, actor, session_id)


async def end_session(conn: Connection, actor: Actor, session_id: UUID, expected: int | None = None) -> Session:
    """Cancels a session that has not begun, ends one that has; raises a conflict where it is over already."""
    session = await lock_session(conn, session_id)
    way: SessionStatus = "cancelled" if session.status == "scheduled" else "ended"
    if session.status in ("ended", "cancelled"):
        raise conflict("session-status", f"The session is {session.status} already.")
    return await change_session(conn, actor, session_id, SessionChange(status=way), expected)


async def _tell_of_move(conn: Connection, actor: Actor, session_id: UUID, status: SessionStatus, version: int) -> None:
    data: dict[str, Any] = {"session_id": str(session_id), "status": status}
    if status in ("ended", "cancelled"):
        measured = await conn.execute(
            "select extract(epoch from end_time - actual_start_time)::float8 as duration_seconds, "
            "(select count(*) from session_participants p where p.session_id = s.id) as participants, "
            "(select count(*) from recordings r where r.session_id = s.id and r.status <> 'deleted') as recordings "
            "from communication_sessions s where id = %s",
            (session_id,),
        )
        data["metrics"] = one(await measured.fetchone())
    event: Literal["session.started", "session.ended"] = "session.started" if status == "active" else "session.ended"
    await emit(conn, actor, event, aggregate=("session", session_id), version=version, data=data)
