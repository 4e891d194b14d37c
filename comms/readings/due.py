"""What waits to be read: taken for a while, put off until its sender permits it, taken away with its reading.

Each version of a message leaves a row in `message_readings_due` in its own transaction. Whatever
becomes of a worker, a row that is not taken away comes due again.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from comms.consent.permission import permissions
from comms.database import Connection
from comms.readings.records import DueMessage

# The newest, so that what is left from before holds up no concern of today, and some of the oldest, so that none of
# those waits for ever. Many at once: messages of one conversation are read in one pass, so that the further the reading
# lags behind, the less each costs.
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


async def take_due(conn: Connection) -> list[DueMessage]:
    """What is to be read next, in order; nobody else is given it before its lease ends, which grows with each try."""
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


async def withhold(conn: Connection, due: Sequence[DueMessage], reasons: Mapping[UUID, str]) -> None:
    """Puts off what senders do not permit to be read, with the reason (a code) for each sender."""
    await conn.execute(
        "update message_readings_due d set due_at = 'infinity', tries = 0, waits_for = given.reason "
        "from unnest(%s::uuid[], %s::int[], %s::text[]) as given (message_id, version, reason) "
        "where d.message_id = given.message_id and d.version = given.version",
        ([one.message_id for one in due], [one.version for one in due], [reasons[one.sender_id] for one in due]),
    )


async def release_permitted(conn: Connection) -> None:
    """Makes due what was put off and is permitted by now."""
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


async def take_away(conn: Connection, versions: Sequence[tuple[UUID, int]]) -> set[tuple[UUID, int]]:
    """Those of the messages' versions that still waited, and from now on do not: who takes one away keeps its reading.

    Of two workers that read the same, the second waits here for the first and is given nothing.
    """
    gone = await conn.execute(
        "delete from message_readings_due d using unnest(%s::uuid[], %s::int[]) as given (message_id, version) "
        "where d.message_id = given.message_id and d.version = given.version returning d.message_id, d.version",
        ([message_id for message_id, _ in versions], [version for _, version in versions]),
    )
    return {(row["message_id"], row["version"]) async for row in gone}


async def list_tenants_waiting(conn: Connection) -> list[UUID]:
    """The tenants in which a message waits to be read, be it for its sender's permission."""
    found = await conn.execute("select app.tenants_with_unread_messages() as id")
    return [row["id"] async for row in found]
