"""Holds: messages that are not erased however old they are, because a case needs them."""

from datetime import datetime
from typing import Final
from uuid import UUID

from psycopg.errors import InsufficientPrivilege
from pydantic import Field

from comms.audit.queries import record_act
from comms.database import Actor, Connection, one
from models.errors import missing
from models.records import Record


class NewHold(Record):
    """A conversation whole, or one message of it; `reference` is the case's code, no words."""

    conversation_id: UUID
    message_id: UUID | None = None
    reference: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$", examples=["case-17"])


class Hold(NewHold):
    """What was held, by whom, and until when; released ones stay to be seen."""

    id: UUID
    placed_by: UUID
    created_at: datetime
    released_by: UUID | None
    released_at: datetime | None


_COLUMNS: Final = "id, conversation_id, message_id, reference, placed_by, created_at, released_by, released_at"


async def place_hold(conn: Connection, actor: Actor, new: NewHold) -> Hold:
    """Holds from now on; raises `missing` for what is not there, or is about whoever asks."""
    try:
        made = await conn.execute(
            "insert into retention_holds (tenant_id, conversation_id, message_id, reference, placed_by) "  # noqa: S608
            f"values (%s, %s, %s, %s, %s) returning {_COLUMNS}",
            (actor.tenant_id, new.conversation_id, new.message_id, new.reference, actor.user_id),
        )
        hold = Hold.model_validate(one(await made.fetchone()))
    except InsufficientPrivilege:  # row-level security decides what may be held
        raise missing("conversation" if new.message_id is None else "message") from None
    await record_act(conn, actor, "hold.placed", ("hold", hold.id), _told(hold))
    return hold


async def list_holds(conn: Connection, *, standing: bool | None, before: UUID, limit: int) -> list[Hold]:
    """Holds, newest first, from before the id; `standing`: those not released, or those released."""
    found = await conn.execute(
        f"select {_COLUMNS} from retention_holds where id < %(before)s "  # noqa: S608 (a constant)
        "and (%(standing)s::boolean is null or %(standing)s = (released_at is null)) order by id desc limit %(limit)s",
        {"before": before, "standing": standing, "limit": limit},
    )
    return [Hold.model_validate(row) for row in await found.fetchall()]


async def read_hold(conn: Connection, hold_id: UUID) -> Hold:
    """Raises `missing`."""
    found = await conn.execute(f"select {_COLUMNS} from retention_holds where id = %s", (hold_id,))  # noqa: S608
    row = await found.fetchone()
    if row is None:
        raise missing("hold")
    return Hold.model_validate(row)


async def release_hold(conn: Connection, actor: Actor, hold_id: UUID) -> None:
    """From now on the rule alone decides; raises `missing`. One that is released already stays as it was."""
    released = await conn.execute(
        "update retention_holds set released_by = %s, released_at = now() "  # noqa: S608 (a constant)
        f"where id = %s and released_at is null returning {_COLUMNS}",
        (actor.user_id, hold_id),
    )
    row = await released.fetchone()
    if row is None:
        await read_hold(conn, hold_id)
        return
    await record_act(conn, actor, "hold.released", ("hold", hold_id), _told(Hold.model_validate(row)))


def _told(hold: Hold) -> dict[str, str]:
    whole = {"conversation_id": str(hold.conversation_id), "reference": hold.reference}
    return whole if hold.message_id is None else whole | {"message_id": str(hold.message_id)}
