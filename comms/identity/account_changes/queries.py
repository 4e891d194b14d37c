"""Changes to accounts: what one person did or requested to another person's account, and who approved it.

Each change is a row in `account_changes`. The owner of the account and the data-protection officer can see it. A change
that needs a second person stays pending until one approves it (`comms/identity/account_changes/approval.py`,
docs/decisions/0034).
"""

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from comms.kernel.access.roles import Role
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection
from models.contract.errors import conflict, missing
from models.contract.records import Record

WAITING_HOURS: Final = 72  # long enough for a weekend

ChangeKind = Literal["account", "role", "password", "second_factor", "person"]
ChangeState = Literal["waiting", "done", "refused", "withdrawn", "expired"]


class AccountChange(Record):
    """A change to an account. `asked_by` is null if the operator of the installation made it."""

    id: UUID
    user_id: UUID
    kind: ChangeKind
    role: Role
    same_as: UUID | None
    state: ChangeState
    asked_by: UUID | None
    decided_by: UUID | None
    decided_at: datetime | None
    created_at: datetime
    expires_at: datetime


COLUMNS: Final = (
    "id, user_id, kind, role, same_as, case when state = 'waiting' and expires_at <= now() then 'expired' else state "
    "end as state, asked_by, decided_by, decided_at, created_at, expires_at"
)


async def request_change(
    conn: Connection, actor: Actor, user_id: UUID, kind: ChangeKind, role: str, *, same_as: UUID | None = None
) -> AccountChange:
    """Requests a change that needs a second person; it replaces a pending one of the same kind.

    Raises a conflict (`change-waiting`) if one is pending and `conn` does not act as the system actor.
    """
    await conn.execute(
        "update account_changes set state = 'withdrawn', decided_by = %s, decided_at = now() "
        "where user_id = %s and kind = %s and state = 'waiting'",
        (actor.user_id, user_id, kind),
    )
    return await _insert(conn, actor, (user_id, role), kind, same_as, waits=True)


async def withdraw_changes(conn: Connection, actor: Actor, user_id: UUID) -> None:
    """Withdraws all pending changes of the account, which `actor` closes. `conn` must act as the system actor."""
    withdrawn = await conn.execute(
        "update account_changes set state = 'withdrawn', decided_at = now(), "
        "decided_by = (select u.id from users u where u.id = %s) "
        "where user_id = %s and state = 'waiting' returning id, kind",
        (actor.user_id, user_id),
    )
    for row in await withdrawn.fetchall():
        details = {"change_id": str(row["id"]), "kind": row["kind"]}
        await record_act(conn, actor, "account_change.withdrawn", ("user", user_id), details)
    await conn.execute("delete from enrolments where user_id = %s", (user_id,))


async def record_change(conn: Connection, actor: Actor, user_id: UUID, kind: ChangeKind, role: str) -> AccountChange:
    """Records a change that one person made without approval, so that the owner and the officer see it."""
    return await _insert(conn, actor, (user_id, role), kind, None, waits=False)


async def list_changes(
    conn: Connection, *, state: ChangeState | None = None, own: bool = False, before: UUID, limit: int
) -> list[AccountChange]:
    """Lists changes that the actor may see, with an id before `before`, newest first; `own`: only of the actor's own
    accounts."""
    found = await conn.execute(
        f"select * from (select {COLUMNS} from account_changes where id < %(before)s "  # noqa: S608 (a constant)
        "and (not %(own)s or user_id = any ((select app.own_accounts())::uuid[]))) as seen "
        "where %(state)s::text is null or state = %(state)s order by id desc limit %(limit)s",
        {"before": before, "own": own, "state": state, "limit": limit},
    )
    return [AccountChange.model_validate(row) for row in await found.fetchall()]


async def read_change(conn: Connection, change_id: UUID) -> AccountChange:
    """Returns one change; raises `missing`."""
    found = await conn.execute(f"select {COLUMNS} from account_changes where id = %s", (change_id,))  # noqa: S608
    row = await found.fetchone()
    if row is None:
        raise missing("change to an account")
    return AccountChange.model_validate(row)


async def end_change(conn: Connection, actor: Actor, change: AccountChange, state: ChangeState) -> AccountChange:
    """Ends a pending change as decided by `actor` and returns it. `conn` must act as the system actor. Raises a
    conflict (`change-decided`)."""
    ended = await conn.execute(
        "update account_changes set state = %s, decided_by = %s, decided_at = now() "  # noqa: S608 (a constant)
        f"where id = %s and state = 'waiting' returning {COLUMNS}",
        (state, actor.user_id, change.id),
    )
    row = await ended.fetchone()
    if row is None:
        raise conflict("change-decided", "This change has already been decided: read it again.")
    details = {"change_id": str(change.id), "kind": change.kind}
    await record_act(conn, actor, f"account_change.{state}", ("user", change.user_id), details)
    return AccountChange.model_validate(row)


async def _insert(
    conn: Connection,
    actor: Actor,
    account: tuple[UUID, str],
    kind: ChangeKind,
    same_as: UUID | None,
    *,
    waits: bool,
) -> AccountChange:
    made = await conn.execute(
        "insert into account_changes (tenant_id, user_id, kind, role, same_as, state, asked_by, expires_at) "  # noqa: S608
        # null for an operator or platform administrator without an account in this tenant
        "values (%(tenant)s, %(user)s, %(kind)s, %(role)s, %(same)s, %(state)s, "
        "(select u.id from users u where u.tenant_id = %(tenant)s and u.id = %(actor)s), "
        f"now() + make_interval(hours => %(hours)s)) on conflict do nothing returning {COLUMNS}",
        {
            "tenant": actor.tenant_id, "user": account[0], "kind": kind, "role": account[1], "same": same_as,
            "state": "waiting" if waits else "done", "actor": actor.user_id, "hours": WAITING_HOURS,
        },
    )  # fmt: skip
    row = await made.fetchone()
    if row is None:
        raise conflict("change-waiting", "A change of this kind is already pending: decide or withdraw it first.")
    change = AccountChange.model_validate(row)
    details = {"change_id": str(change.id), "kind": kind, "role": change.role}
    action = "account_change.asked" if waits else "account_change.done"
    await record_act(conn, actor, action, ("user", change.user_id), details)
    return change
