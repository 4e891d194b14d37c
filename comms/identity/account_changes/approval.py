"""Approval by a second person: who may approve a change to an account, and how the approved change is made.

All functions run on a connection that acts as the system actor for the approver: no role of a person may write the
passwords, codes or second factors of others.
"""

from typing import Final
from uuid import UUID

from comms.identity import second_factors
from comms.identity.account_changes.one_time_codes import Code, delete_code, make_code, make_second_half
from comms.identity.account_changes.queries import COLUMNS, AccountChange, end_change
from comms.identity.sign_ins.queries import end_all_sign_ins
from comms.kernel.access.roles import APPROVABLE_ROLES, PRIVILEGED
from comms.kernel.access.system_actor import system_actor
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from models.contract.errors import conflict, missing, refused
from models.contract.records import Record


class Approved(Record):
    """An approved change. The approver hands `second_half` to the person, or `code` is sent to them by e-mail."""

    change: AccountChange
    second_half: str | None = None
    code: Code | None = None


_LOCK_WAITING: Final = (
    f"select {COLUMNS} from account_changes where id = %(change)s and state = 'waiting' "  # noqa: S608 (a constant)
    "and expires_at > now() for update"
)
_APPROVAL_FACTS: Final = (
    "select u.role, u.email is not null as has_email, o.role as other_role, "
    "app.in_open_alert(%(actor)s) as approver_concerned, "
    "coalesce(app.in_open_alert(%(asker)s::uuid), false) as asker_concerned, "
    # also after 72 hours: it must be requested again or refused before the account opens
    "exists (select from account_changes c where c.tenant_id = u.tenant_id and c.user_id = u.id "
    "    and c.kind = 'person' and c.state = 'waiting') as person_waits, "
    # compares people, not accounts: a person may have several
    "%(actor)s = any (app.accounts_of(u.id)) or u.id = any (app.accounts_of(%(actor)s)) "
    "    or %(actor)s = any (app.accounts_of(coalesce(o.id, u.id))) as own, "
    "coalesce(%(actor)s = any (app.accounts_of(%(asker)s::uuid)) "
    "    or %(asker)s::uuid = any (app.accounts_of(%(actor)s)), false) as asked_it "
    "from users u left join users o on o.tenant_id = u.tenant_id and o.id = %(other)s::uuid where u.id = %(user)s "
    "for update of u"
)


def needs_second_person(role: str) -> bool:
    """Returns whether it takes two people to create or reset an account with this role: it reads alerts, manages
    accounts or has a key."""
    return role in PRIVILEGED or role == "service"


async def approve(conn: Connection, actor: Actor, change_id: UUID, *, by_email: bool) -> Approved:
    """Makes the requested change. With `by_email`, codes are sent to people who have an e-mail address.

    Raises `missing` (also for an approver whom an open alert is about: they do not learn why), `refused`
    (`change-not-yours-to-approve`, `change-asked-by-you`, `asker-not-eligible`), a conflict (`account-changed`,
    `person-undecided`).
    """
    change = await _lock_waiting(conn, change_id)
    facts = await _refuse_unless_second_person(conn, actor, change)
    done = await end_change(conn, actor, change, "done")
    owner = system_actor(actor.tenant_id, change.user_id)
    approved = Approved(change=done)
    if change.kind == "account":
        await conn.execute("update users set active = true, made_alone_by = null where id = %s", (change.user_id,))
    elif change.kind == "role":
        await conn.execute(
            "update users set role = %s, made_alone_by = null where id = %s", (change.role, change.user_id)
        )
    elif change.kind == "second_factor":
        await second_factors.remove_second_factor(conn, actor, change.user_id)
    elif change.kind == "person":
        await _join_persons(conn, change)
    elif by_email and facts["has_email"]:
        approved = Approved(change=done, code=await make_code(conn, owner))
    else:
        approved = Approved(change=done, second_half=await make_second_half(conn, owner))
    if change.kind in ("password", "second_factor"):
        await conn.execute("update users set made_alone_by = null where id = %s", (change.user_id,))
    await end_all_sign_ins(conn, actor, change.user_id, "account_changed")
    return approved


async def refuse_change(conn: Connection, actor: Actor, change_id: UUID) -> AccountChange:
    """Ends the change without making it: the requester withdraws it, or a person who could approve it refuses it.

    Raises as `approve`.
    """
    change = await _lock_waiting(conn, change_id)
    if change.asked_by == actor.user_id:
        state = "withdrawn"
    else:
        await _refuse_unless_second_person(conn, actor, change, refusing=True)
        state = "refused"
    if change.kind == "password":
        await delete_code(conn, change.user_id)
    return await end_change(conn, actor, change, "withdrawn" if state == "withdrawn" else "refused")


async def _lock_waiting(conn: Connection, change_id: UUID) -> AccountChange:
    row = await (await conn.execute(_LOCK_WAITING, {"change": change_id})).fetchone()
    if row is None:
        raise missing("pending change")
    return AccountChange.model_validate(row)


async def _refuse_unless_second_person(
    conn: Connection, actor: Actor, change: AccountChange, *, refusing: bool = False
) -> dict[str, object]:
    found = await conn.execute(
        _APPROVAL_FACTS,
        {"actor": actor.user_id, "asker": change.asked_by, "user": change.user_id, "other": change.same_as},
    )
    facts = one(await found.fetchone())
    roles = {change.role, facts["role"]} | ({facts["other_role"]} - {None})
    trusted = any(needs_second_person(role) for role in roles)
    if trusted and facts["approver_concerned"]:
        raise missing("pending change")
    if not roles <= APPROVABLE_ROLES.get(actor.role, frozenset()):
        raise refused("change-not-yours-to-approve", "You may not approve changes for this role: ask another approver.")
    if facts["own"] or facts["asked_it"]:
        raise refused("change-asked-by-you", "Another person must approve this: it needs two people.")
    if refusing:
        return facts
    if trusted and facts["asker_concerned"]:
        raise refused("asker-not-eligible", "Another person must request this: refuse it, and request it yourself.")
    if change.kind != "role" and facts["role"] != change.role:
        raise conflict("account-changed", "The account's role has changed since the request: request it again.")
    if change.kind in ("account", "role") and facts["person_waits"]:
        raise conflict("person-undecided", "First decide this account's pending change of the kind 'person'.")
    return facts


async def _join_persons(conn: Connection, change: AccountChange) -> None:
    """Links all accounts of both people to one person."""
    await conn.execute(
        "update users u set person_id = a.person_id from users a, users b where a.id = %s and b.id = %s "
        "and a.tenant_id = u.tenant_id and b.tenant_id = u.tenant_id and u.person_id = b.person_id",
        (change.user_id, change.same_as),
    )


async def open_by_operator(conn: Connection, operator: Actor, user_id: UUID) -> None:
    """Opens the account for the operator of the machine and withdraws its pending changes. `conn` must act as the
    system actor."""
    await conn.execute("update users set active = true, made_alone_by = null where id = %s", (user_id,))
    await conn.execute(
        "update account_changes set state = 'withdrawn', decided_at = now() where user_id = %s and state = 'waiting'",
        (user_id,),
    )
    await record_act(conn, operator, "account.opened_by_operator", ("user", user_id))
