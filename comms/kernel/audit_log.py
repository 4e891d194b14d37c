"""The log of acts: who did what to which object, when, from where and why, in the same transaction as the act."""

from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from comms.kernel.database import Actor, Connection


async def record_act(
    conn: Connection, actor: Actor, action: str, object: tuple[str, UUID], details: dict[str, Any] | None = None
) -> None:
    """Writes that `actor` did `action` (e.g. `alert.claimed`) to `object` (its kind and id).

    `details` holds ids and codes alone, never words or names. From where and why is the transaction's own
    (`Actor.origin`): the table takes it from there.
    """
    await conn.execute(
        "insert into audit_log (tenant_id, actor_id, actor_role, action, object_type, object_id, details) "
        "values (%s, %s, %s, %s, %s, %s, %s)",
        (actor.tenant_id, actor.user_id, actor.role, action, object[0], object[1], Jsonb(details or {})),
    )
