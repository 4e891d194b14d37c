"""Reads recent receipts of conversations, for the sockets that have these conversations open."""

from collections import defaultdict
from collections.abc import Collection
from typing import Final, Literal, NamedTuple
from uuid import UUID

from comms.kernel.database import Connection


class FreshReceipt(NamedTuple):
    """A user has recently received or read a conversation up to a message."""

    user_id: UUID
    kind: Literal["delivered", "read"]
    up_to: UUID


_FRESH_SECONDS: Final = 10.0  # far longer than the time between two reads


async def fresh_receipts(conn: Connection, conversations: Collection[UUID]) -> dict[UUID, set[FreshReceipt]]:
    """Returns what was recently received and read in each conversation; for the system, not for a user."""
    fresh: dict[UUID, set[FreshReceipt]] = defaultdict(set)
    if conversations:
        found = await conn.execute(
            "select * from app.fresh_receipts(%s, now() - make_interval(secs => %s))",
            (list(conversations), _FRESH_SECONDS),
        )
        async for row in found:
            fresh[row["conversation_id"]].add(FreshReceipt(row["user_id"], row["kind"], row["up_to"]))
    return fresh
