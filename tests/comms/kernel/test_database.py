"""The database: a dead connection is replaced unnoticed, and a failed transaction is rolled back completely."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from comms.kernel.database import Database
from comms.web.context import AppContext
from instance.provisioning import Databases
from models.contract.errors import WriteCareError, missing
from tests import factories
from tests.comms.outbox_helpers import query_as_admin

pytestmark = pytest.mark.anyio


@pytest.fixture
async def lonely(databases: Databases) -> AsyncIterator[Database]:
    """A pool of one connection."""
    database = Database(databases.app, most=1)
    await database.open()
    yield database
    await database.close()


async def backend(database: Database) -> int:
    async with database.without_tenant() as conn:
        row = await (await conn.execute("select pg_backend_pid() as pid")).fetchone()
    assert row is not None
    return int(row["pid"])


async def test_a_connection_that_the_server_closed_is_replaced_before_it_is_lent(
    lonely: Database, databases: Databases
) -> None:
    before = await backend(lonely)
    assert await backend(lonely) == before  # a live connection is used again
    await query_as_admin(databases, "select pg_terminate_backend(%s, 10000)", before)
    assert await backend(lonely) != before


async def test_what_fails_is_undone_whole_and_the_connection_goes_on(
    lonely: Database, ctx: AppContext, databases: Databases
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")

    async def build(*names: str) -> None:
        async with lonely.acting_as(manager) as conn:
            for name in names:
                if name == "nowhere":
                    raise missing("home")
                await conn.execute("insert into homes (tenant_id, name) values (%s, %s)", (manager.tenant_id, name))

    with pytest.raises(psycopg.errors.UniqueViolation):  # raised when the pipeline ends: no rows were fetched
        await build("Elm", "Elm")
    with pytest.raises(WriteCareError):
        await build("Oak", "nowhere")
    assert await query_as_admin(databases, "select name from homes where tenant_id = %s", manager.tenant_id) == []
    await build("Ash")
    assert await query_as_admin(databases, "select name from homes where tenant_id = %s", manager.tenant_id) == [
        {"name": "Ash"}
    ]


async def test_a_request_that_is_cut_off_leaves_nothing_behind_and_the_connection_goes_on(
    lonely: Database, ctx: AppContext, databases: Databases
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")

    async def build_slowly() -> None:
        async with lonely.acting_as(manager) as conn:
            await conn.execute("insert into homes (tenant_id, name) values (%s, 'Elm')", (manager.tenant_id,))
            await (await conn.execute("select pg_sleep(60)")).fetchone()

    for seconds in (0.0, 0.001, 0.01, 0.05):
        building = asyncio.create_task(build_slowly())
        await asyncio.sleep(seconds)
        building.cancel()
        await asyncio.wait({building})
        assert building.cancelled()
        async with lonely.without_tenant() as conn:
            row = await (await conn.execute("select app.tenant() as tenant")).fetchone()
        assert row == {"tenant": None}
    assert await query_as_admin(databases, "select name from homes where tenant_id = %s", manager.tenant_id) == []
