"""The audit log: who did what to which object, when, from where and why. An entry is part of the same transaction."""

from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from comms.kernel.database import Actor, Connection


async def record_act(
    conn: Connection, actor: Actor, action: str, object: tuple[str, UUID], details: dict[str, Any] | None = None
) -> None:
    """Writes an audit entry: `actor` did `action` (e.g. `alert.claimed`) to `object` (its kind and id).

    `details` holds only ids and codes, never text or names. The table takes the origin and the reason from the
    settings of the transaction (`Actor.origin`).
    """
    await conn.execute(
        "insert into audit_log (tenant_id, actor_id, actor_role, action, object_type, object_id, details) "
        "values (%s, %s, %s, %s, %s, %s, %s)",
        (actor.tenant_id, actor.user_id, actor.role, action, object[0], object[1], Jsonb(details or {})),
    )
