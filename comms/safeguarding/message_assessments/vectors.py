"""Stores the embedding vectors of assessed messages, for semantic search."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from comms.kernel.database import Actor, Connection

# Locks the messages, so that an edit or deletion at the same time also deletes the vector.
_SAVE: Final = (
    "with given as (select * from unnest(%s::uuid[], %s::text[]) as given (message_id, vector)), "
    "standing as (select m.tenant_id, m.id, m.conversation_id from messages m "
    "    where m.tenant_id = %s and m.id = any(%s) and m.deleted_at is null order by m.id for share) "
    "insert into message_vectors (tenant_id, message_id, conversation_id, embedding, model) "
    "select m.tenant_id, m.id, m.conversation_id, given.vector::halfvec, %s "
    "from standing m join given on given.message_id = m.id "
    "on conflict (tenant_id, message_id) do update "
    "set embedding = excluded.embedding, model = excluded.model, made_at = now()"
)


async def save_vectors(conn: Connection, actor: Actor, vectors: Sequence[tuple[UUID, list[float]]], model: str) -> None:
    """Stores a vector of 384 for each message and replaces its earlier one; only for the worker.

    Missing and deleted messages are skipped. An edit deletes the vector: the caller must check, in the same
    transaction, that the text is still the one that the vector was made of.
    """
    ids = [message_id for message_id, _ in vectors]
    texts = ["[" + ",".join(repr(float(number)) for number in vector) + "]" for _, vector in vectors]
    await conn.execute(_SAVE, (ids, texts, actor.tenant_id, ids, model))
