"""The clock of a conversation: every change locks the conversation's row and gets the next clock value.

So the changes of a conversation have one order.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

import uuid_utils.compat as uuid_utils

from comms.kernel.database import Actor, Connection
from models.contract.errors import missing
from models.contract.records import Record

BEGINNING: Final = UUID(int=0)


class ClockTick(Record):
    """One clock value: a UUIDv7 later than all values of the conversation before it, with the version of its event."""

    id: UUID
    before: UUID  # the previous clock value; no value lies between
    at: datetime  # the time of the transaction, as in its rows
    event_version: int
    version: int  # version of the conversation
    after_id: UUID  # the actor's membership covers clock values after this one


async def advance_clock(conn: Connection, actor: Actor, conversation_id: UUID) -> ClockTick:
    """Takes the next clock value and locks the conversation's row until the transaction ends.

    Raises `missing` if the actor is not a member. The value is later than the last one, even if the clock of this
    machine is behind the clock of the machine that took the last one.
    """
    locked = await conn.execute(
        "select moment, event_version, version, now() as at from conversations where id = %s for no key update",
        (conversation_id,),
    )
    # A separate statement after the lock: so it sees members who were removed while this transaction waited.
    memberships = await conn.execute(
        "select after_id from conversation_members where conversation_id = %s and user_id = %s and until_id is null",
        (conversation_id, actor.user_id),
    )
    row, membership = await locked.fetchone(), await memberships.fetchone()
    if row is None or membership is None:
        raise missing("conversation")
    tick = ClockTick(
        id=max(uuid_utils.uuid7(), UUID(int=row["moment"].int + 1)), before=row["moment"], at=row["at"],
        event_version=row["event_version"] + 1,
        version=row["version"], after_id=membership["after_id"],
    )  # fmt: skip
    await conn.execute(
        "update conversations set moment = %s, event_version = %s where id = %s",
        (tick.id, tick.event_version, conversation_id),
    )
    return tick
