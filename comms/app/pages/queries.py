"""Reads the content of the start page: the signed-in user, and counts of what they may see in their tenant.

Row-level security limits the counts: they include only rows that the user may see.
"""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from pydantic import Field

from comms.calls.sessions.queries import count_sessions
from comms.governance.break_glass.queries import BrokenGlass, list_broken_glass
from comms.identity.account_changes.queries import AccountChange, list_changes
from comms.kernel.access.roles import PERMISSIONS, Role, RolePermission, known_role
from comms.kernel.database import Actor, Connection, one
from comms.safeguarding.alerts.subjects import SubjectDecision, open_proposals, recent_decisions
from comms.web.pagination import MAX_UUID
from models.contract.records import Record

_MOST_NOTICES: Final = 20
_LATELY: Final = timedelta(days=30)
_WHO: Final = (
    "select u.display_name, (select t.name from tenants t where t.id = %(tenant)s) as tenant_name "
    "from users u where u.id = %(user)s"
)
_OPEN_ALERTS: Final = "alerts where state in ('new', 'claimed', 'escalated')"


class Welcome(Record):
    """The signed-in user, their permissions, and what their tenant contains. A count is None if their role may not see
    it.
    """

    display_name: str = Field(repr=False)
    tenant_name: str | None = Field(repr=False)
    role: Role
    permissions: tuple[RolePermission, ...]
    guest_of: UUID | None
    homes: int | None
    people: int | None
    sessions: dict[str, int]
    recordings: int | None
    open_alerts: int | None
    broken_glass: tuple[BrokenGlass, ...] = Field(repr=False)
    own_changes: tuple[AccountChange, ...]  # recent changes to this account by other people
    waiting_changes: tuple[AccountChange, ...]  # changes that this user may approve as the second person
    second_factor_due: bool
    proposed_subjects: tuple[SubjectDecision, ...] = Field(repr=False)  # proposals that wait for a second person
    decided_subjects: tuple[SubjectDecision, ...] = Field(repr=False)  # recent decisions
    names: dict[UUID, str] = Field(repr=False)  # names of the people in the fields above


async def read_welcome(conn: Connection, actor: Actor) -> Welcome:
    """Reads the start page of `actor`; raises `invalid` for an unknown role."""
    role = known_role(actor.role)
    may = {name for name, holders in PERMISSIONS.items() if role in holders}
    may &= may if actor.scopes is None else actor.scopes
    broken = await _notices(conn) if "glass.watch" in may else []
    own = await _own_changes(conn) if actor.session_id is None else []
    waiting = await _waiting_changes(conn) if "users.approve" in may else []
    proposed = await open_proposals(conn) if "alerts.oversee" in may else []
    decided = await recent_decisions(conn) if "audit.read" in may else []
    people = {glass.user_id for glass in broken} | _people_in([*own, *waiting])
    people |= {id for one in (*proposed, *decided) for id in (one.user_id, one.decided_by) if id is not None}
    return Welcome(
        **one(await (await conn.execute(_WHO, {"user": actor.user_id, "tenant": actor.tenant_id})).fetchone()),
        role=role,
        permissions=tuple(name for name in PERMISSIONS if name in may),
        guest_of=actor.session_id,
        homes=await _count(conn, "homes") if "homes.read" in may and actor.session_id is None else None,
        people=await _count(conn, "users where active") if "users.read" in may else None,
        sessions=await count_sessions(conn, actor) if "sessions.read" in may else {},
        recordings=await _count(conn, "recordings where status <> 'deleted'") if "recordings.read" in may else None,
        open_alerts=await _count(conn, _OPEN_ALERTS) if "alerts.read" in may else None,
        broken_glass=tuple(broken),
        own_changes=tuple(own),
        waiting_changes=tuple(waiting),
        second_factor_due=actor.sign_in_id is not None and actor.scopes == frozenset(),
        proposed_subjects=tuple(proposed),
        decided_subjects=tuple(decided),
        names=await _names(conn, people),
    )


async def _count(conn: Connection, rows: str) -> int:
    found = await conn.execute(f"select count(*) as n from {rows}".encode())  # noqa: S608 (constants)
    return int(one(await found.fetchone())["n"])


async def _notices(conn: Connection) -> list[BrokenGlass]:
    return await list_broken_glass(conn, acknowledged=False, before=MAX_UUID, limit=_MOST_NOTICES)


async def _own_changes(conn: Connection) -> list[AccountChange]:
    found = await list_changes(conn, own=True, before=MAX_UUID, limit=_MOST_NOTICES)
    since = datetime.now(UTC) - _LATELY
    return [change for change in found if change.created_at > since]


async def _waiting_changes(conn: Connection) -> list[AccountChange]:
    return await list_changes(conn, state="waiting", before=MAX_UUID, limit=_MOST_NOTICES)


def _people_in(changes: list[AccountChange]) -> set[UUID]:
    people = {person for change in changes for person in (change.user_id, change.asked_by, change.decided_by)}
    return people - {None}  # type: ignore[return-value]


async def _names(conn: Connection, people: set[UUID]) -> dict[UUID, str]:
    found = await conn.execute("select id, display_name from users where id = any(%s)", (list(people),))
    return {row["id"]: row["display_name"] async for row in found}
