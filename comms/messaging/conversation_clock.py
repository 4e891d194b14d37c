"""A conversation's clock: whoever changes something in it takes its next moment, one at a time."""

from datetime import datetime
from typing import Final
from uuid import UUID

import uuid_utils.compat as uuid_utils

from comms.kernel.database import Actor, Connection
from models.contract.errors import missing
from models.contract.records import Record

BEGINNING: Final = UUID(int=0)


class ClockTick(Record):
    """A UUIDv7 later than every one of the conversation before it, and the version of the event that tells of it."""

    id: UUID
    before: UUID  # the conversation's last one: nothing lies between
    at: datetime  # as the transaction's rows say
    event_version: int
    version: int  # of the conversation itself
    after_id: UUID  # since when whoever took it has been in the conversation


async def advance_clock(conn: Connection, actor: Actor, conversation_id: UUID) -> ClockTick:
    """The next moment, the conversation's row taken until the transaction ends; raises `missing` for all but members.

    Later than the last one even where this machine's clock is behind the one that was asked then.
    """
    locked = await conn.execute(
        "select moment, event_version, version, now() as at from conversations where id = %s for no key update",
        (conversation_id,),
    )
    # a statement of its own, after the lock: it sees whoever was removed while this one waited
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
