"""Legal holds: they keep messages of any age from being erased, because a case needs them."""

from datetime import datetime
from typing import Final
from uuid import UUID

from psycopg.errors import InsufficientPrivilege
from pydantic import Field

from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from models.contract.errors import missing
from models.contract.records import Record


class NewHold(Record):
    """A hold on a whole conversation or on one of its messages. `reference` is the code of the case, not free text."""

    conversation_id: UUID
    message_id: UUID | None = None
    reference: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$", examples=["case-17"])


class Hold(NewHold):
    """A hold with who placed it and who released it. A released hold stays visible."""

    id: UUID
    placed_by: UUID
    created_at: datetime
    released_by: UUID | None
    released_at: datetime | None


_COLUMNS: Final = "id, conversation_id, message_id, reference, placed_by, created_at, released_by, released_at"


async def place_hold(conn: Connection, actor: Actor, new: NewHold) -> Hold:
    """Places a hold; raises `missing` for a conversation or message that does not exist or is about the actor."""
    try:
        made = await conn.execute(
            "insert into retention_holds (tenant_id, conversation_id, message_id, reference, placed_by) "  # noqa: S608
            f"values (%s, %s, %s, %s, %s) returning {_COLUMNS}",
            (actor.tenant_id, new.conversation_id, new.message_id, new.reference, actor.user_id),
        )
        hold = Hold.model_validate(one(await made.fetchone()))
    except InsufficientPrivilege:  # row-level security decides what may be held
        raise missing("conversation" if new.message_id is None else "message") from None
    await record_act(conn, actor, "hold.placed", ("hold", hold.id), _audit_details(hold))
    return hold


async def list_holds(conn: Connection, *, standing: bool | None, before: UUID, limit: int) -> list[Hold]:
    """Lists holds with an id before `before`, newest first. `standing`: only unreleased ones, or only released ones."""
    found = await conn.execute(
        f"select {_COLUMNS} from retention_holds where id < %(before)s "  # noqa: S608 (a constant)
        "and (%(standing)s::boolean is null or %(standing)s = (released_at is null)) order by id desc limit %(limit)s",
        {"before": before, "standing": standing, "limit": limit},
    )
    return [Hold.model_validate(row) for row in await found.fetchall()]


async def read_hold(conn: Connection, hold_id: UUID) -> Hold:
    """Returns one hold; raises `missing`."""
    found = await conn.execute(f"select {_COLUMNS} from retention_holds where id = %s", (hold_id,))  # noqa: S608
    row = await found.fetchone()
    if row is None:
        raise missing("hold")
    return Hold.model_validate(row)


async def release_hold(conn: Connection, actor: Actor, hold_id: UUID) -> None:
    """Releases a hold, so that only the retention rule decides; raises `missing`. A released hold is not changed."""
    released = await conn.execute(
        "update retention_holds set released_by = %s, released_at = now() "  # noqa: S608 (a constant)
        f"where id = %s and released_at is null returning {_COLUMNS}",
        (actor.user_id, hold_id),
    )
    row = await released.fetchone()
    if row is None:
        await read_hold(conn, hold_id)
        return
    await record_act(conn, actor, "hold.released", ("hold", hold_id), _audit_details(Hold.model_validate(row)))


def _audit_details(hold: Hold) -> dict[str, str]:
    whole = {"conversation_id": str(hold.conversation_id), "reference": hold.reference}
    return whole if hold.message_id is None else whole | {"message_id": str(hold.message_id)}
