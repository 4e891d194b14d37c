"""Tests row-level security table by table: a tenant never sees another tenant's rows."""

from dataclasses import dataclass
from uuid import UUID

import psycopg
import pytest

from comms.kernel.access.roles import ROLES
from comms.kernel.database import Actor
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Neighbours:
    """A tenant with a recorded call, and another with a different call."""

    ours: Actor
    theirs: Actor
    their_session: UUID


@pytest.fixture
async def neighbours(ctx: AppContext) -> Neighbours:
    ours, _, our_session = await factories.make_call(ctx)
    theirs, _, their_session = await factories.make_call(ctx)
    await factories.store_recording(ctx, ours, our_session)
    await factories.store_recording(ctx, theirs, their_session)
    return Neighbours(ours, theirs, their_session)


@pytest.fixture
def tables(databases: Databases) -> list[str]:
    """Every table in the live catalogue that contains tenants' rows."""
    with psycopg.connect(databases.administrator) as administrator:
        found = administrator.execute(
            "select table_name from information_schema.columns where table_schema = 'public' "
            "and column_name = 'tenant_id' order by 1"
        )
        return [str(row[0]) for row in found.fetchall()]


async def count(ctx: AppContext, actor: Actor, statement: str, *values: object) -> int:
    """The number of rows that the statement counts for the actor; 0 if the actor has no permission."""
    try:
        return int((await factories.rows(ctx, actor, statement, *values))[0]["n"])
    except psycopg.errors.InsufficientPrivilege:
        return 0


async def test_as_a_member_of_another_tenant_in_any_role_sees_no_row_of_any_table(
    ctx: AppContext, worker_ctx: AppContext, neighbours: Neighbours, tables: list[str]
) -> None:
    assert {"recordings", "recording_tracks", "consent_records", "events", "alerts", "audit_log"} <= set(tables)
    for role in ROLES:
        actor = Actor(neighbours.ours.tenant_id, neighbours.ours.user_id, role)
        for table in tables:
            for here in (ctx, worker_ctx):
                foreign = f"select count(*) as n from {table} where tenant_id <> %s"
                assert await count(here, actor, foreign, actor.tenant_id) == 0, (role, table)


async def test_with_no_tenant_at_all_nothing_is_seen(
    ctx: AppContext, worker_ctx: AppContext, neighbours: Neighbours
) -> None:
    assert await count(ctx, neighbours.ours, "select count(*) as n from recordings") == 1
    for here in (ctx, worker_ctx):
        for table in ("tenants", "users", "recordings", "consent_records", "events"):
            async with here.database.without_tenant() as conn:
                found = await (await conn.execute(f"select count(*) as n from {table}".encode())).fetchone()
            assert found == {"n": 0}, table


async def test_nobody_writes_into_another_tenant(ctx: AppContext, neighbours: Neighbours) -> None:
    ours, theirs = neighbours.ours, neighbours.theirs
    inserts = {
        "homes": "insert into homes (tenant_id, name) values (%s, 'x') returning id",
        "users": "insert into users (tenant_id, slug, display_name, role) values (%s, 'x', 'x', 'reviewer') "
        "returning id",
        "events": "insert into events (tenant_id, type, aggregate_type, aggregate_id, aggregate_version, data) "
        "values (%s, 'session.created', 'session', gen_random_uuid(), 1, '{}') returning id",
        "recordings": "insert into recordings (tenant_id, session_id, status, started_by) "
        "select %s, id, 'ready', created_by from communication_sessions limit 1 returning id",
    }
    for statement in inserts.values():
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await factories.rows(ctx, ours, statement, theirs.tenant_id)
    moved = await factories.rows(
        ctx, ours, "update communication_sessions set title = 'x' where id = %s returning id",
        neighbours.their_session,
    )  # fmt: skip
    assert moved == []


async def test_a_row_cannot_be_handed_to_another_tenant(ctx: AppContext, neighbours: Neighbours) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await factories.rows(
            ctx, neighbours.ours, "update users set tenant_id = %s returning id", neighbours.theirs.tenant_id
        )


async def test_a_recording_cannot_point_at_another_tenants_session(ctx: AppContext, neighbours: Neighbours) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        await factories.rows(
            ctx, neighbours.ours,
            "insert into recordings (tenant_id, session_id, status, started_by) values (%s, %s, 'ready', %s) "
            "returning id",
            neighbours.ours.tenant_id, neighbours.their_session, neighbours.ours.user_id,
        )  # fmt: skip


async def test_the_transaction_before_leaves_its_tenant_to_nobody(ctx: AppContext, neighbours: Neighbours) -> None:
    assert await count(ctx, neighbours.ours, "select count(*) as n from recordings") == 1
    for _ in range(20):  # every connection of the pool
        async with ctx.database.without_tenant() as conn:
            found = await (await conn.execute("select app.tenant() as tenant, app.actor() as actor")).fetchone()
        assert found == {"tenant": None, "actor": None}
