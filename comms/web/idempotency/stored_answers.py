"""Stored answers of POST requests with an Idempotency-Key; each is only for its caller and is kept for a day.

A repeat is authorised again: it gets the answer only if the caller can still see everything that the answer and its
request name.

The answer is a row in the transaction of the change itself. So a key has one effect, however the process ends: both
rows exist, or neither.
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
KEPT_FOR: Final = timedelta(hours=24)  # the policy in the migration has the same period


class KeptAnswer(Record):
    """An answer as it was sent: status, the headers that belong to it, body.

    `refers_to`: the records that its request named and the caller could see then, as `table:id`.
    """

    status: int
    headers: dict[str, str]
    body: bytes = Field(repr=False)
    refers_to: tuple[str, ...] = ()


class KeyClaim(Record):
    """A key that the actor holds until the commit; `refers_to`: what the request names and they see (`table:id`)."""

    refers_to: tuple[str, ...]


async def claim_key(
    conn: Connection, actor: Actor, key: str, request_hash: bytes, named: Collection[UUID] = ()
) -> KeptAnswer | KeyClaim:
    """The stored answer of the actor's key, or a claim if the key is new; `named`: the ids in the request.

    Raises a conflict (`request-in-progress`) while the first request runs, `invalid` (`idempotency-key-reused`) if the
    key was used for another request, and `missing` if the answer or its request names something that the actor may not
    see or may no longer see.
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
        # a separate statement, after the lock: it sees everything that was committed before the lock was released
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
            "idempotency-key-reused",
            "This Idempotency-Key was used for another request: use a new key for a new request.",
        )
    if not row["still_seen"]:
        raise missing("record")
    return KeptAnswer(status=row["status"], headers=row["headers"], body=bytes(row["body"]))


async def keep_answer(conn: Connection, actor: Actor, key: str, request_hash: bytes, answer: KeptAnswer) -> None:
    """Stores the answer with the change, and what it and its request name, so that a repeat can be authorised again.

    Raises a conflict (`request-in-progress`) if the key was used in the meantime.
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
    """All ids in the texts."""
    return frozenset(UUID(found) for text in texts for found in _ID.findall(text))


async def delete_expired_answers(conn: Connection) -> int:
    """Deletes the answers of all tenants that are over a day old; returns how many."""
    row = await (await conn.execute("select app.forget_kept_answers() as forgotten")).fetchone()
    return int(one(row)["forgotten"])


def _in_progress() -> WriteCareError:
    return conflict(
        "request-in-progress", "The first request with this Idempotency-Key is still running: try again shortly."
    )
