"""The versions of a message. All who see the message may read them; after its deletion only the officers, with an audit
entry.
"""

from typing import Final
from uuid import UUID

from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection
from comms.messaging.attachments.queries import ATTACHED
from comms.messaging.message_records import MessageVersion
from comms.messaging.messages.queries import read_message

_VERSIONS: Final = (
    f"select v.*, {ATTACHED} as attachments from ("  # noqa: S608 (constants)
    "select id, standing, version, content, written_by, written_at from message_versions where message_id = %(id)s "
    "union all select id, 'current', version, content, sender_id, coalesce(edited_at, created_at) from messages "
    "where id = %(id)s and deleted_at is null) v, messages m where m.id = %(id)s order by v.written_at, v.id"
)


async def list_versions(conn: Connection, actor: Actor, message_id: UUID) -> list[MessageVersion]:
    """All versions that the actor may see, oldest first. Raises `missing`."""
    message = await read_message(conn, message_id)
    found = await conn.execute(_VERSIONS, {"id": message_id})
    versions = [MessageVersion.model_validate(row) for row in await found.fetchall()]
    if message.deleted_at is not None and versions:
        await record_act(conn, actor, "message.deleted-read", ("message", message_id))
    return versions
