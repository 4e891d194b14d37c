"""Lets the operator of the machine create one-time codes for the first users of a tenant."""

from comms.identity.account_changes.approval import open_by_operator
from comms.identity.account_changes.one_time_codes import Code, make_code
from comms.identity.account_changes.queries import record_change
from comms.identity.bootstrap import ensure_tenant, ensure_user
from comms.kernel.access.system_actor import system_actor
from comms.kernel.database import Database
from models.contract.errors import refused


async def enrol(database: Database, tenant: str, user: str, role: str) -> Code:
    """Returns a one-time code with which the user sets their password; creates tenant and user if missing.

    Opens an account that waits for approval. An existing user keeps their role. Their sign-ins end when they use the
    code. Raises `invalid` for a bad slug or role, `refused` (`service-has-no-password`) for a service account.
    """
    person = await ensure_user(database, await ensure_tenant(database, tenant), user, role)
    operator = system_actor(person.tenant_id)
    async with database.acting_as(operator) as conn:
        found = await conn.execute("select role from users where id = %s for update", (person.user_id,))
        row = await found.fetchone()
        assert row is not None, "the new user is not visible"
        if row["role"] == "service":
            raise refused("service-has-no-password", "A service account signs in with its key, not with a password.")
        await open_by_operator(conn, operator, person.user_id)
        await record_change(conn, operator, person.user_id, "password", row["role"])
        return await make_code(conn, system_actor(person.tenant_id, person.user_id))
