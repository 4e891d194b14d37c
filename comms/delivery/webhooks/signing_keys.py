"""Stores the keys that sign webhook messages, wrapped by the key service. A key is shown once, when it is created."""

from typing import Final
from uuid import UUID

import uuid_utils.compat as uuid_utils

from comms.delivery.webhooks.signatures import new_key, shown
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection
from comms.kernel.storage.key_service import KeyService, WrappedKey

OVERLAP_SECONDS: Final = 24 * 3600.0


async def make_secret(conn: Connection, actor: Actor, keys: KeyService, webhook_id: UUID) -> str:
    """Creates the secret of a webhook and returns it; it cannot be read again."""
    key, secret_id = new_key(), uuid_utils.uuid7()
    wrapped = await keys.wrap(key, _context(actor.tenant_id, secret_id))
    await conn.execute(
        "insert into webhook_secrets (tenant_id, id, webhook_id, wrapped, key_id) values (%s, %s, %s, %s, %s)",
        (actor.tenant_id, secret_id, webhook_id, wrapped.wrapped, wrapped.key_id),
    )
    return shown(key)


async def rotate_secret(
    conn: Connection, actor: Actor, keys: KeyService, webhook_id: UUID, overlap_seconds: float = OVERLAP_SECONDS
) -> str:
    """Creates a new secret. The current one signs, too, until the overlap has passed; older ones are deleted."""
    await conn.execute("delete from webhook_secrets where webhook_id = %s and expires_at is not null", (webhook_id,))
    await conn.execute(
        "update webhook_secrets set expires_at = now() + make_interval(secs => %s) where webhook_id = %s",
        (overlap_seconds, webhook_id),
    )
    await record_act(conn, actor, "webhook.secret_rotated", ("webhook", webhook_id))
    return await make_secret(conn, actor, keys, webhook_id)


async def signing_keys(conn: Connection, keys: KeyService, tenant_id: UUID, webhook_id: UUID) -> list[bytes]:
    """Returns the keys that sign now, newest first. For the sender. Raises what the key service raises."""
    found = await conn.execute(
        "select id, wrapped, key_id from webhook_secrets where tenant_id = %s and webhook_id = %s "
        "and (expires_at is null or expires_at > now()) order by id desc",
        (tenant_id, webhook_id),
    )
    return [
        await keys.unwrap(WrappedKey(row["key_id"], bytes(row["wrapped"])), _context(tenant_id, row["id"]))
        for row in await found.fetchall()
    ]


def _context(tenant_id: UUID, secret_id: UUID) -> str:
    return f"webhook-secret/{tenant_id}/{secret_id}"
