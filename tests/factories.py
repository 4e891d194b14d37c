"""Makes what tests need, through the house's own functions, each thing new: tests never share a tenant."""

import itertools
import uuid
from typing import Any

from comms.database import Actor
from comms.house import House
from comms.identity import queries as identity
from comms.identity.tokens import Issuer

_numbers = itertools.count(1)


def new_slug(kind: str) -> str:
    """A slug that no other test has."""
    return f"{kind}-{next(_numbers)}-{uuid.uuid4().hex[:8]}"


async def make_tenant(house: House) -> uuid.UUID:
    """A tenant of its own."""
    return await identity.ensure_tenant(house.database, new_slug("tenant"))


async def make_user(house: House, tenant_id: uuid.UUID, role: str = "care_worker") -> Actor:
    """A person of the tenant, ready to act in their role."""
    return await identity.ensure_user(house.database, tenant_id, new_slug(role.replace("_", "-")), role)


async def make_actor(house: House, role: str = "care_worker") -> Actor:
    """A person in a tenant of their own."""
    return await make_user(house, await make_tenant(house), role)


def bearer(house: House, actor: Actor, lifetime: float = 600.0) -> dict[str, str]:
    """The header with which `actor` signs in."""
    issuer = Issuer.open(house.settings.data_dir / "keys", house.settings.issuer)
    return {"Authorization": f"Bearer {issuer.sign(actor, lifetime)}"}


async def rows(house: House, actor: Actor, statement: str, *values: Any) -> list[dict[str, Any]]:
    """What `actor` sees of the database with this statement."""
    async with house.database.acting_as(actor) as conn:
        return await (await conn.execute(statement.encode(), values)).fetchall()
