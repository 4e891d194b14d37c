"""The keys with which a webhook's messages are signed, wrapped by the key service; shown once, when they are made."""

from typing import Final
from uuid import UUID

import uuid_utils.compat as uuid_utils

from comms.delivery.webhooks.signatures import new_key, shown
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection
from comms.kernel.storage.key_service import KeyService, WrappedKey

OVERLAP_SECONDS: Final = 24 * 3600.0


async def make_secret(conn: Connection, actor: Actor, keys: KeyService, webhook_id: UUID) -> str:
    """The webhook's first secret, to be shown to its maker this once."""
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
    """A new secret; the one in use signs beside it until the overlap has passed, older ones no more."""
    await conn.execute("delete from webhook_secrets where webhook_id = %s and expires_at is not null", (webhook_id,))
    await conn.execute(
        "update webhook_secrets set expires_at = now() + make_interval(secs => %s) where webhook_id = %s",
        (overlap_seconds, webhook_id),
    )
    await record_act(conn, actor, "webhook.secret_rotated", ("webhook", webhook_id))
    return await make_secret(conn, actor, keys, webhook_id)


async def signing_keys(conn: Connection, keys: KeyService, tenant_id: UUID, webhook_id: UUID) -> list[bytes]:
    """The keys that sign now, the newest first; for the sender. Raises what the key service raises."""
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
