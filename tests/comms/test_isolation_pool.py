"""Runs ten thousand transactions of many tenants on a few shared connections and checks that no identity leaks.

Some are cancelled at random points, some fail in the database, some in our own code. After each, the next transaction
on the connection checks which identity it has.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

import psycopg
import pytest

from comms.kernel.access.roles import ROLES
from comms.kernel.database import Actor, Connection, Database, RequestOrigin
from comms.web.context import AppContext
from instance.provisioning import Databases
from models.contract.errors import WriteCareError, refused
from tests import factories

pytestmark = pytest.mark.anyio

ACTS = 10_000
AT_ONCE = 40
CONNECTIONS = 4
# The kinds of transactions, by frequency.
KINDS = ("ends well",) * 14 + ("is cancelled",) * 3 + ("fails in the database",) * 2 + ("is refused",)

_WHO = (
    "select app.tenant() as tenant, app.actor() as actor, app.actor_role() as role, app.request_id() as request, "
    "app.reason() as reason, (select count(*) from users where tenant_id <> %s) as others, "
    "(select count(*) from homes) as homes"
)


@pytest.fixture
async def few(databases: Databases) -> AsyncIterator[Database]:
    """The application's database with a pool that is far too small."""
    database = Database(databases.app, most=CONNECTIONS)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def people(ctx: AppContext) -> list[Actor]:
    """Users of many tenants; the n-th tenant has n homes."""
    made = [await factories.make_actor(ctx, role) for role in ROLES]
    for homes, actor in enumerate(made):
        async with ctx.database.acting_as(actor) as conn:
            for home in range(homes):
                await conn.execute(
                    "insert into homes (tenant_id, name) values (%s, %s)", (actor.tenant_id, f"Home {home}")
                )
    return made


async def test_no_identity_leaks_from_one_act_to_the_next(few: Database, people: list[Actor]) -> None:
    chance = random.Random(7)
    ended: Counter[str] = Counter()
    free = asyncio.Semaphore(AT_ONCE)

    async def one_act(number: int) -> None:
        place, kind = chance.randrange(len(people)), chance.choice(KINDS)
        actor = Actor(
            people[place].tenant_id, people[place].user_id, people[place].role,
            origin=RequestOrigin(request_id=UUID(int=number + 1), reason=f"act-{number}"),
        )  # fmt: skip
        async with free:
            task = asyncio.create_task(_act(few, actor, homes=place, fails=kind))
            if kind == "is cancelled":
                await asyncio.sleep(chance.random() * 0.02)
                task.cancel()
            try:
                await task
                ended["well"] += 1
            except asyncio.CancelledError:
                ended["cancelled"] += 1
            except psycopg.errors.UndefinedTable:
                ended["failed"] += 1
            except WriteCareError:
                ended["refused"] += 1

    await asyncio.gather(*(one_act(number) for number in range(ACTS)))
    assert sum(ended.values()) == ACTS
    assert all(ended[how] > 100 for how in ("well", "cancelled", "failed", "refused")), ended
    for _ in range(CONNECTIONS * 5):
        async with few.without_tenant() as conn:
            left = await (await conn.execute(_WHO, (UUID(int=0),))).fetchone()
        assert left is not None
        assert set(left.values()) == {None, 0}


async def _act(database: Database, actor: Actor, *, homes: int, fails: str) -> None:
    async with database.acting_as(actor) as conn:
        await _ask(conn, actor, homes)
        if fails == "fails in the database":
            await conn.execute("select 1 from no_such_table")
        if fails == "is refused":
            raise refused("test-refused", "On purpose.")
        await asyncio.sleep(0)
        await _ask(conn, actor, homes)


async def _ask(conn: Connection, actor: Actor, homes: int) -> None:
    found = await (await conn.execute(_WHO, (actor.tenant_id,))).fetchone()
    assert found == {
        "tenant": actor.tenant_id, "actor": actor.user_id, "role": actor.role, "request": actor.origin.request_id,
        "reason": actor.origin.reason, "others": 0, "homes": homes,
    }  # fmt: skip
