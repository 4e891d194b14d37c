"""Break-glass: temporary access, with a reason, to one object that the person's role does not show them.

Each use writes an audit entry, sends an event to those who see alerts, and stays on the list of the data-protection
officer and the safeguarding lead until one of them, but not the user themselves, acknowledges it. Row-level security
grants the access while it lasts, but never to an alert about the actor.
"""

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from psycopg.errors import ForeignKeyViolation, InsufficientPrivilege
from pydantic import Field

from comms.kernel.access.roles import RolePermission, refuse_unless
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from comms.kernel.text_types import Words
from comms.outbox.queries import emit
from models.contract.errors import conflict, missing, refused
from models.contract.records import Record

ObjectKind = Literal["care_context", "alert"]


class NewBrokenGlass(Record):
    """A request for access: the object, the reason and the duration. A care context is named by its session."""

    object_kind: ObjectKind
    object_id: UUID
    reason: Words = Field(min_length=1, max_length=2000, repr=False)
    minutes: int = Field(ge=1, le=60)


class BrokenGlass(Record):
    """One break-glass access. It is an open notice until it is acknowledged."""

    id: UUID
    user_id: UUID
    object_kind: ObjectKind
    object_id: UUID
    reason: str = Field(repr=False)
    expires_at: datetime
    acknowledged_by: UUID | None
    acknowledged_at: datetime | None
    created_at: datetime


_COLUMNS: Final = (
    "id, user_id, case when alert_id is null then 'care_context' else 'alert' end as object_kind, "
    "coalesce(alert_id, session_id) as object_id, reason, expires_at, acknowledged_by, acknowledged_at, created_at"
)


async def break_glass(conn: Connection, actor: Actor, new: NewBrokenGlass) -> BrokenGlass:
    """Gives `actor` access to the object; raises `missing` if the object does not exist or is about them."""
    alert_id = new.object_id if new.object_kind == "alert" else None
    session_id = new.object_id if new.object_kind == "care_context" else None
    try:
        made = await conn.execute(
            "insert into broken_glass (tenant_id, user_id, session_id, alert_id, reason, expires_at) "  # noqa: S608
            f"values (%s, %s, %s, %s, %s, now() + make_interval(mins => %s)) returning {_COLUMNS}",
            (actor.tenant_id, actor.user_id, session_id, alert_id, new.reason, new.minutes),
        )
        glass = BrokenGlass(**one(await made.fetchone()))
    except (ForeignKeyViolation, InsufficientPrivilege):  # do not reveal whether the object exists
        raise missing(new.object_kind.replace("_", " ")) from None
    named = {"alert_id": str(alert_id)} if alert_id is not None else {"session_id": str(session_id)}
    await record_act(
        conn, actor, "glass.broken", _audit_object(glass), {"break_glass_id": str(glass.id), "minutes": new.minutes}
    )
    await emit(
        conn, actor, "glass.broken", aggregate=("break_glass", glass.id), version=1,
        data={"break_glass_id": str(glass.id), "user_id": str(actor.user_id), **named},
    )  # fmt: skip
    return glass


async def list_broken_glass(
    conn: Connection, *, acknowledged: bool | None, before: UUID, limit: int
) -> list[BrokenGlass]:
    """Lists all accesses with an id before `before`, newest first; only acknowledged or only open ones if given."""
    found = await conn.execute(
        f"select {_COLUMNS} from broken_glass where id < %(before)s "  # noqa: S608 (a constant)
        "and (%(acknowledged)s::bool is null or (acknowledged_at is not null) = %(acknowledged)s) "
        "order by id desc limit %(limit)s",
        {"acknowledged": acknowledged, "before": before, "limit": limit},
    )
    return [BrokenGlass(**row) for row in await found.fetchall()]


async def acknowledge(conn: Connection, actor: Actor, glass_id: UUID) -> BrokenGlass:
    """Records that a responsible person has seen the access. A second call changes nothing and is no error.

    Raises `missing`, `refused` (`glass-your-own`).
    """
    glass = await _read(conn, glass_id)
    found = await conn.execute("select %s = any (app.own_accounts()) as own", (glass.user_id,))
    if one(await found.fetchone())["own"]:  # from this account or another of the same person
        raise refused("glass-your-own", "This was your own access: another person must acknowledge it.")
    if glass.acknowledged_at is not None:
        return glass
    acknowledged = await conn.execute(
        "update broken_glass set acknowledged_by = %s, acknowledged_at = now() "  # noqa: S608 (a constant)
        f"where id = %s and acknowledged_at is null returning {_COLUMNS}",
        (actor.user_id, glass_id),
    )
    row = await acknowledged.fetchone()
    if row is None:
        raise conflict("glass-acknowledged", "Another person has just acknowledged it: read it again.")
    await record_act(conn, actor, "glass.acknowledged", _audit_object(glass), {"break_glass_id": str(glass_id)})
    return BrokenGlass(**row)


async def require_permission_or_glass(
    conn: Connection, actor: Actor, alert_id: UUID, permission: RolePermission
) -> None:
    """Raises `refused` if `actor` has neither the permission nor break-glass access to this alert."""
    found = await conn.execute("select %s = any (app.alerts_opened()) as opened", (alert_id,))
    if not one(await found.fetchone())["opened"]:
        refuse_unless(actor, permission)


def _audit_object(glass: BrokenGlass) -> tuple[str, UUID]:
    """Returns the object of the audit entry. An actor who may not see the alert must not see that others looked at
    it."""
    return "alert" if glass.object_kind == "alert" else "session", glass.object_id


async def _read(conn: Connection, glass_id: UUID) -> BrokenGlass:
    found = await conn.execute(f"select {_COLUMNS} from broken_glass where id = %s", (glass_id,))  # noqa: S608
    row = await found.fetchone()
    if row is None:
        raise missing("broken glass")
    return BrokenGlass(**row)
