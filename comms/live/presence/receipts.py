"""Receipts given a moment ago, for the sockets that have their conversation open."""

from collections import defaultdict
from collections.abc import Collection
from typing import Final, Literal, NamedTuple
from uuid import UUID

from comms.kernel.database import Connection


class FreshReceipt(NamedTuple):
    """Somebody has lately received or read a conversation up to a message."""

    user_id: UUID
    kind: Literal["delivered", "read"]
    up_to: UUID


_FRESH_SECONDS: Final = 10.0  # far longer than from one look to the next


async def fresh_receipts(conn: Connection, conversations: Collection[UUID]) -> dict[UUID, set[FreshReceipt]]:
    """What was received and read of late in each conversation; asked by the house itself, as nobody."""
    fresh: dict[UUID, set[FreshReceipt]] = defaultdict(set)
    if conversations:
        found = await conn.execute(
            "select * from app.fresh_receipts(%s, now() - make_interval(secs => %s))",
            (list(conversations), _FRESH_SECONDS),
        )
        async for row in found:
            fresh[row["conversation_id"]].add(FreshReceipt(row["user_id"], row["kind"], row["up_to"]))
    return fresh
