"""The queue of messages to assess: leased by a worker, postponed until the sender permits it, removed when assessed.

Each version of a message adds a row to `message_readings_due` in its own transaction. A row that is
not removed becomes due again when its lease ends, also if the worker dies.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from comms.governance.consent.permissions import permissions
from comms.kernel.database import Connection
from comms.safeguarding.message_assessments.records import DueMessage

# A batch has mostly the newest messages, so that a backlog does not delay the concerns of today, and some of the
# oldest, so that each of them is assessed at some time. Batches are large: messages of one conversation are assessed in
# one pass, so each costs less when the queue is long.
_NEWEST: Final = 120
_OLDEST: Final = 8
_LEASE_SECONDS: Final = 30.0
_LONGEST_LEASE_SECONDS: Final = 900.0
_SENDERS_WITHHELD: Final = (
    "with recursive senders as ("
    "  (select sender_id from message_readings_due where due_at = 'infinity' order by sender_id limit 1) union all "
    "  select (select d.sender_id from message_readings_due d where d.due_at = 'infinity' "
    "          and d.sender_id > s.sender_id order by d.sender_id limit 1) "
    "  from senders s where s.sender_id is not null) "
    "select sender_id from senders where sender_id is not null"
)


async def lease_due_messages(conn: Connection) -> list[DueMessage]:
    """Leases the next messages to assess, and returns them in order.

    No other worker gets them before the lease ends; the lease grows with each try.
    """
    taken = await conn.execute(
        "with chosen as ("
        "  (select message_id, version from message_readings_due where due_at <= now() "
        "   order by due_at, message_id, version limit %(oldest)s) union "
        "  (select message_id, version from message_readings_due where due_at <= now() "
        "   order by due_at desc, message_id desc, version desc limit %(newest)s)) "
        "update message_readings_due d set tries = d.tries + 1, "
        "    due_at = now() + make_interval(secs => least(%(longest)s, %(lease)s * power(2, least(d.tries, 10)))) "
        "from chosen where d.message_id = chosen.message_id and d.version = chosen.version and d.due_at <= now() "
        "returning d.message_id, d.version, d.sender_id, d.tries",
        {"oldest": _OLDEST, "newest": _NEWEST, "lease": _LEASE_SECONDS, "longest": _LONGEST_LEASE_SECONDS},
    )
    found = [DueMessage(**row) async for row in taken]
    return sorted(found, key=lambda due: (due.message_id, due.version))


async def postpone(conn: Connection, due: Sequence[DueMessage], reasons: Mapping[UUID, str]) -> None:
    """Postpones messages whose senders do not permit the analysis, with the reason (a code) for each sender."""
    await conn.execute(
        "update message_readings_due d set due_at = 'infinity', tries = 0, waits_for = given.reason "
        "from unnest(%s::uuid[], %s::int[], %s::text[]) as given (message_id, version, reason) "
        "where d.message_id = given.message_id and d.version = given.version",
        ([one.message_id for one in due], [one.version for one in due], [reasons[one.sender_id] for one in due]),
    )


async def release_permitted(conn: Connection) -> None:
    """Makes postponed messages due again if their sender now permits the analysis."""
    senders = [row["sender_id"] for row in await (await conn.execute(_SENDERS_WITHHELD)).fetchall()]
    if not senders:
        return
    permitted = [answer.user_id for answer in await permissions(conn, senders, "analyse") if answer.permitted]
    if permitted:
        await conn.execute(
            "update message_readings_due set due_at = now(), waits_for = null "
            "where due_at = 'infinity' and sender_id = any(%s)",
            (permitted,),
        )


async def dequeue(conn: Connection, versions: Sequence[tuple[UUID, int]]) -> set[tuple[UUID, int]]:
    """Removes these message versions from the queue and returns those that were still in it.

    Only the caller that removed a version stores its assessment. Of two workers that assessed the same version, the
    second waits here for the first and gets nothing.
    """
    gone = await conn.execute(
        "delete from message_readings_due d using unnest(%s::uuid[], %s::int[]) as given (message_id, version) "
        "where d.message_id = given.message_id and d.version = given.version returning d.message_id, d.version",
        ([message_id for message_id, _ in versions], [version for _, version in versions]),
    )
    return {(row["message_id"], row["version"]) async for row in gone}


async def tenants_with_unassessed(conn: Connection) -> list[UUID]:
    """Returns the tenants that have unassessed messages, also postponed ones."""
    found = await conn.execute("select app.tenants_with_unread_messages() as id")
    return [row["id"] async for row in found]
