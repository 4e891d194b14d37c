"""The way in for the first people of a tenant: a one-time code that whoever runs the machine makes."""

from comms.identity.account_changes.approval import open_by_operator
from comms.identity.account_changes.one_time_codes import Code, make_code
from comms.identity.account_changes.queries import record_change
from comms.identity.bootstrap import ensure_tenant, ensure_user
from comms.kernel.access.system_actor import system_actor
from comms.kernel.database import Database
from models.contract.errors import refused


async def enrol(database: Database, tenant: str, user: str, role: str) -> Code:
    """A one-time code with which the person sets their password; tenant and person are made where they are missing.

    An account that waits for a second person is opened. A person who exists keeps their role. Their sign-ins end when
    they use the code. Raises `invalid` for a bad slug or role, `refused` (`service-has-no-password`) for a program.
    """
    person = await ensure_user(database, await ensure_tenant(database, tenant), user, role)
    operator = system_actor(person.tenant_id)
    async with database.acting_as(operator) as conn:
        found = await conn.execute("select role from users where id = %s for update", (person.user_id,))
        row = await found.fetchone()
        assert row is not None, "a person just made is not to be seen"
        if row["role"] == "service":
            raise refused("service-has-no-password", "A program signs in with its key.")
        await open_by_operator(conn, operator, person.user_id)
        await record_change(conn, operator, person.user_id, "password", row["role"])
        return await make_code(conn, system_actor(person.tenant_id, person.user_id))
