"""Kept answers: what a POST under an Idempotency-Key was answered, for its maker alone and for a day.

The answer is a row of the same transaction as the change that it answers, so that there is one effect a key however
the process dies: either both are there, or neither.
"""

from datetime import timedelta
from typing import Final

from psycopg.types.json import Jsonb
from pydantic import Field

from comms.database import Actor, Connection, one
from models.errors import WriteCareError, conflict, invalid
from models.records import Record

KEPT_FOR: Final = timedelta(hours=24)  # as the migration's policy says, too


class KeptAnswer(Record):
    """An answer as it was sent: status, the headers that belong to it, body."""

    status: int
    headers: dict[str, str]
    body: bytes = Field(repr=False)


async def claim_key(conn: Connection, actor: Actor, key: str, request_hash: bytes) -> KeptAnswer | None:
    """The answer to the actor's request of this key, None where it is new: then the key is theirs until the commit.

    Raises a conflict (`request-in-progress`) while the first request runs, `invalid` (`idempotency-key-reused`) where
    the key was another request's.
    """
    async with conn.pipeline():  # one round trip
        locked = await conn.execute(
            "select pg_try_advisory_xact_lock(hashtextextended(%s, 7)) as ours",
            (f"{actor.tenant_id}/{actor.user_id}/{key}",),
        )
        await conn.execute(
            "delete from kept_answers where user_id = %s and key = %s and created_at < now() - %s",
            (actor.user_id, key, KEPT_FOR),
        )
        # a statement of its own, after the lock: it sees whatever was committed before the lock was free
        found = await conn.execute(
            "select request_hash, status, headers, body from kept_answers where user_id = %s and key = %s",
            (actor.user_id, key),
        )
    if not one(await locked.fetchone())["ours"]:
        raise _in_progress()
    row = await found.fetchone()
    if row is None:
        return None
    if bytes(row["request_hash"]) != request_hash:
        raise invalid(
            "idempotency-key-reused", "This Idempotency-Key was another request's: use a new one for a new request."
        )
    return KeptAnswer(status=row["status"], headers=row["headers"], body=bytes(row["body"]))


async def keep_answer(conn: Connection, actor: Actor, key: str, request_hash: bytes, answer: KeptAnswer) -> None:
    """Keeps the answer with the change; raises a conflict (`request-in-progress`) where the key was used meanwhile."""
    kept = await conn.execute(
        "insert into kept_answers (tenant_id, user_id, key, request_hash, status, headers, body) "
        "values (%s, %s, %s, %s, %s, %s, %s) on conflict (tenant_id, user_id, key) do nothing returning id",
        (actor.tenant_id, actor.user_id, key, request_hash, answer.status, Jsonb(answer.headers), answer.body),
    )
    if await kept.fetchone() is None:
        raise _in_progress()


async def forget_expired(conn: Connection) -> int:
    """Deletes every tenant's answers that are over a day old; returns how many."""
    row = await (await conn.execute("select app.forget_kept_answers() as forgotten")).fetchone()
    return int(one(row)["forgotten"])


def _in_progress() -> WriteCareError:
    return conflict("request-in-progress", "The first request of this Idempotency-Key still runs: ask again shortly.")
