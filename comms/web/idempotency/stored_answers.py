"""Kept answers: what a POST under an Idempotency-Key was answered, for its maker alone and for a day.

A repeat is authorised anew: the answer is given to whoever still sees everything that it and its request name.

The answer is a row of the same transaction as the change that it answers, so that there is one effect a key however
the process dies: either both are there, or neither.
"""

import re
from collections.abc import Collection
from datetime import timedelta
from typing import Final
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic import Field

from comms.kernel.database import Actor, Connection, one
from models.contract.errors import WriteCareError, conflict, invalid, missing
from models.contract.records import Record

_ID: Final = re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b")
KEPT_FOR: Final = timedelta(hours=24)  # as the migration's policy says, too


class KeptAnswer(Record):
    """An answer as it was sent: status, the headers that belong to it, body.

    `refers_to`: what its request named and whoever asked could see then, as `table:id`.
    """

    status: int
    headers: dict[str, str]
    body: bytes = Field(repr=False)
    refers_to: tuple[str, ...] = ()


class KeyClaim(Record):
    """A key that is the actor's until the commit; `refers_to`: what the request names and they see (`table:id`)."""

    refers_to: tuple[str, ...]


async def claim_key(
    conn: Connection, actor: Actor, key: str, request_hash: bytes, named: Collection[UUID] = ()
) -> KeptAnswer | KeyClaim:
    """The answer to the actor's request of this key, or a claim where it is new; `named`: the ids in the request.

    Raises a conflict (`request-in-progress`) while the first request runs, `invalid` (`idempotency-key-reused`) where
    the key was another request's, and `missing` where the answer or its request names something that the actor may not
    see (any more).
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
            "select request_hash, status, headers, body, refers_to <@ app.seen_of(array("
            "    select split_part(thing, ':', 2)::uuid from unnest(refers_to) as thing)) as still_seen "
            "from kept_answers where user_id = %s and key = %s",
            (actor.user_id, key),
        )
        seen = await conn.execute("select app.seen_of(%s) as seen", (list(named),)) if named else None
    if not one(await locked.fetchone())["ours"]:
        raise _in_progress()
    row = await found.fetchone()
    if row is None:
        return KeyClaim(refers_to=() if seen is None else one(await seen.fetchone())["seen"])
    if bytes(row["request_hash"]) != request_hash:
        raise invalid(
            "idempotency-key-reused", "This Idempotency-Key was another request's: use a new one for a new request."
        )
    if not row["still_seen"]:
        raise missing("record")
    return KeptAnswer(status=row["status"], headers=row["headers"], body=bytes(row["body"]))


async def keep_answer(conn: Connection, actor: Actor, key: str, request_hash: bytes, answer: KeptAnswer) -> None:
    """Keeps the answer with the change, and with what it and its request name, so that a repeat can be authorised anew.

    Raises a conflict (`request-in-progress`) where the key was used meanwhile.
    """
    named = list(ids_in(*answer.headers.values(), answer.body.decode(errors="replace")))
    kept = await conn.execute(
        "insert into kept_answers (tenant_id, user_id, key, request_hash, status, headers, body, refers_to) "
        "values (%s, %s, %s, %s, %s, %s, %s, array(select distinct unnest(%s::text[] || app.seen_of(%s)))) "
        "on conflict (tenant_id, user_id, key) do nothing returning id",
        (
            actor.tenant_id, actor.user_id, key, request_hash, answer.status, Jsonb(answer.headers), answer.body,
            list(answer.refers_to), named,
        ),
    )  # fmt: skip
    if await kept.fetchone() is None:
        raise _in_progress()


def ids_in(*texts: str) -> frozenset[UUID]:
    """Every id that the texts name."""
    return frozenset(UUID(found) for text in texts for found in _ID.findall(text))


async def delete_expired_answers(conn: Connection) -> int:
    """Deletes every tenant's answers that are over a day old; returns how many."""
    row = await (await conn.execute("select app.forget_kept_answers() as forgotten")).fetchone()
    return int(one(row)["forgotten"])


def _in_progress() -> WriteCareError:
    return conflict("request-in-progress", "The first request of this Idempotency-Key still runs: ask again shortly.")
