"""Looks up tenants and users by slug for the command line, and creates missing ones."""

import re
from typing import Final
from uuid import UUID

from comms.kernel.access.roles import known_role
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Database
from models.contract.errors import invalid

_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
NIL_UUID: Final = UUID(int=0)

# The platform administrator before any user exists: creates tenants and their first users (`token`, `demo`).
BOOTSTRAP: Final = Actor(tenant_id=NIL_UUID, user_id=NIL_UUID, role="platform_admin")


async def ensure_tenant(database: Database, slug: str) -> UUID:
    """Returns the id of the tenant with this slug; creates it if missing. Concurrent calls create one. Raises
    `invalid`."""
    _refuse_bad_slug(slug)
    async with database.acting_as(BOOTSTRAP) as conn:
        await conn.execute(
            "insert into tenants (slug, name) values (%s, %s) on conflict (slug) do nothing", (slug, slug)
        )
        found = await (await conn.execute("select id from tenants where slug = %s", (slug,))).fetchone()
        assert found is not None, "the new tenant is not visible"
        return UUID(str(found["id"]))


async def ensure_user(database: Database, tenant_id: UUID, slug: str, role: str) -> Actor:
    """Returns the user with this slug as an Actor with `role`, for whom a token can be signed; creates them if missing.

    An existing user keeps their stored role; the returned Actor, and a token for it, has the requested one.
    """
    _refuse_bad_slug(slug)
    known_role(role)
    bootstrap = Actor(tenant_id, NIL_UUID, "platform_admin")
    async with database.acting_as(bootstrap) as conn:
        made = await conn.execute(
            "insert into users (tenant_id, slug, display_name, role) values (%s, %s, %s, %s) "
            "on conflict (tenant_id, slug) do nothing returning id",
            (tenant_id, slug, slug, role),
        )
        if (row := await made.fetchone()) is not None:
            await record_act(conn, bootstrap, "user.created", ("user", row["id"]), {"role": role})
        else:
            row = await (await conn.execute("select id from users where slug = %s", (slug,))).fetchone()
        assert row is not None, "the new user is not visible"
        return Actor(tenant_id, row["id"], role)


def _refuse_bad_slug(slug: str) -> None:
    if _SLUG.fullmatch(slug) is None:
        raise invalid(
            "slug-invalid",
            "A slug has 1 to 63 characters: lower-case letters, digits, - and _. The first is a letter or a digit.",
        )
