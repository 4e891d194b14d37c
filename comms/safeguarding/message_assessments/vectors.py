"""Where messages' meaning lies: vectors that the worker lays beside what it has read, for search by meaning."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from comms.kernel.database import Actor, Connection

# The message is locked, so that one which is edited or deleted meanwhile takes its vector along.
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
    """Lays a vector of 384 beside each message, in the place of its earlier one; for the worker alone.

    A message that is gone or deleted is passed over. An edit takes the vector away: whoever saves one looks, in the
    same transaction, whether the words are still those that it was made of.
    """
    ids = [message_id for message_id, _ in vectors]
    texts = ["[" + ",".join(repr(float(number)) for number in vector) + "]" for _, vector in vectors]
    await conn.execute(_SAVE, (ids, texts, actor.tenant_id, ids, model))
