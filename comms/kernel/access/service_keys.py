"""Authenticates service accounts by their keys."""

import hashlib
from typing import Final
from uuid import UUID

from comms.kernel.access.system_actor import system_actor
from comms.kernel.database import Actor, Database
from models.contract.errors import Kind, WriteCareError

KEY_PREFIX: Final = "wcc_"

SERVICE_ROLE: Final = "service"

_USE_NOTED_EVERY: Final = "5 minutes"  # a write at each request would cost too much


async def authenticate_key(database: Database, key: str) -> Actor:
    """The service account of the key, with the key's scopes.

    Raises `unauthenticated` (`key-invalid`): the same for a forged, an expired and a closed key.
    """
    try:
        ids, secret = key.removeprefix(KEY_PREFIX).split("_", 1)
        tenant_id, account_id = UUID(ids[:32]), UUID(ids[32:])
    except ValueError:
        raise _invalid_key() from None
    async with database.acting_as(system_actor(tenant_id)) as conn:
        found = await conn.execute(
            "select a.scopes, coalesce(a.last_used_at < now() - %s::interval, true) as unnoted "
            "from service_accounts a join users u on u.tenant_id = a.tenant_id and u.id = a.id "
            "where a.id = %s and a.secret_hash = %s and a.expires_at > now() and u.active",
            (_USE_NOTED_EVERY, account_id, hash_secret(secret)),
        )
        row = await found.fetchone()
        if row is not None and row["unnoted"]:
            await conn.execute("update service_accounts set last_used_at = now() where id = %s", (account_id,))
    if row is None:
        raise _invalid_key()
    return Actor(tenant_id, account_id, SERVICE_ROLE, scopes=frozenset(row["scopes"]))


def hash_secret(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()  # 256 random bits need no slow hash


def _invalid_key() -> WriteCareError:
    return WriteCareError(
        Kind.UNAUTHENTICATED, "key-invalid", "This key is invalid or has expired: ask the platform's administrator."
    )
