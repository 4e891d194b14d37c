"""Tests of monthly partitions: created in advance, under the same row-level security, dropped only when empty."""

import asyncio
import uuid

import psycopg
import pytest

from comms.governance.retention.partitions import create_month_partitions, drop_empty_partitions
from comms.web.context import AppContext
from instance.provisioning import ROLES, Databases, provision
from tests import factories
from tests.comms import audit_helpers

pytestmark = pytest.mark.anyio

Administrator = psycopg.Connection[tuple[object, ...]]
TABLES = {"messages", "utterances", "audit_log", "events"}
LAID_IN_MONTHS = (
    "select oid::regclass::text from pg_class where relkind = 'p' and relnamespace = 'public'::regnamespace"
)
PARTITIONS = (
    "select c.oid::regclass::text from pg_inherits i join pg_class c on c.oid = i.inhrelid "
    "join pg_class p on p.oid = i.inhparent where p.relkind = 'p' and p.relnamespace = 'public'::regnamespace "
)


@pytest.fixture
def administrator(databases: Databases) -> Administrator:
    return psycopg.connect(databases.administrator, autocommit=True)


def partitions(conn: Administrator, table: str | None = None) -> list[str]:
    """Returns the names of the partitions of a table, or of all tables."""
    narrowed = PARTITIONS + "and (%(table)s::text is null or p.relname = %(table)s)"
    return sorted(str(name) for (name,) in conn.execute(narrowed.encode(), {"table": table}).fetchall())


def made_month(conn: Administrator, table: str, month: str) -> str:
    """Creates a monthly partition of the table (`2020-05`) in the same way as the coming ones."""
    conn.execute("select app.make_month(%s::regclass, %s)", (table, f"{month}-01T00:00:00Z"))
    return f"partitions.{table}_{month.replace('-', '_')}"


async def test_what_only_grows_lies_in_months(administrator: Administrator) -> None:
    assert {str(name) for (name,) in administrator.execute(LAID_IN_MONTHS.encode()).fetchall()} >= TABLES


async def test_months_to_come_are_there_and_made_once(databases: Databases) -> None:
    async with audit_helpers.connected(databases.keeper) as conn:
        assert await create_month_partitions(conn) == 0  # provisioning has created them
    with psycopg.connect(databases.keeper) as keeper, psycopg.connect(databases.administrator) as administrator:
        tables = len(administrator.execute(LAID_IN_MONTHS.encode()).fetchall())
        before = len(partitions(keeper))
        assert keeper.execute("select app.make_partitions(5)").fetchone() == (2 * tables,)
        assert len(partitions(keeper)) == before + 2 * tables
        assert keeper.execute("select app.make_partitions(5)").fetchone() == (0,)
        keeper.rollback()


async def test_a_month_begins_with_the_least_id_of_its_first_millisecond(administrator: Administrator) -> None:
    asked = administrator.execute(
        "select app.first_id('2026-11-01T00:00:00Z')::text, app.first_id(now()) <= uuidv7(), "
        "app.first_id(now() + interval '1 hour') > uuidv7()"
    )
    assert asked.fetchone() == ("01a19467-e800-0000-0000-000000000000", True, True)


async def test_a_partition_is_under_row_level_security_and_nobody_may_enter_its_schema(
    administrator: Administrator,
) -> None:
    forced = administrator.execute(
        "select c.relname, c.relrowsecurity and c.relforcerowsecurity, "
        "(select count(*) from pg_policy where polrelid = c.oid) "
        "from pg_class c where c.relnamespace = 'partitions'::regnamespace and c.relkind in ('r', 'p')"
    ).fetchall()
    # a table that already had rows has one partition for this month and all before it
    assert len(forced) >= 5 * len(TABLES) - 3
    assert {(safe, policies) for _, safe, policies in forced} == {(True, 0)}
    for role in ROLES:
        may = administrator.execute("select has_schema_privilege(%s, 'partitions', 'usage')", (role,)).fetchone()
        assert may == (role == "wcc_owner",), role
    granted = administrator.execute(
        "select table_name, grantee from information_schema.column_privileges "
        "where table_schema = 'partitions' and grantee <> 'wcc_owner'"
    ).fetchall()
    assert granted == []


async def test_the_owner_sees_nothing_in_a_partition_and_empties_no_month_of_acts(databases: Databases) -> None:
    with psycopg.connect(databases.owner) as owner:
        for name in partitions(owner):
            assert owner.execute(f"select count(*) from {name}".encode()).fetchone() == (0,)
        for name in partitions(owner, "audit_log"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), owner.transaction():
                owner.execute(f"truncate {name} cascade".encode())


@pytest.mark.parametrize("table", sorted(TABLES))
async def test_provisioning_makes_months_that_are_missing(
    databases: Databases, administrator: Administrator, ctx: AppContext, table: str
) -> None:
    latest = max(name for name in partitions(administrator, table) if not name.endswith("_before"))

    def lose_and_provision() -> None:
        administrator.execute(f"alter table {table} detach partition {latest}".encode())
        administrator.execute(f"drop table {latest}".encode())
        provision(databases.administrator, ctx.settings.data_dir / "keys")

    # in a thread: it waits for locks that clean-up tasks of this process may hold
    await asyncio.to_thread(lose_and_provision)
    assert latest in partitions(administrator, table)


async def test_a_key_that_lacks_the_id_holds_within_every_month(administrator: Administrator) -> None:
    keys = {
        "events": "(tenant_id, aggregate_type, aggregate_id, aggregate_version, type)",
        "utterances": "(tenant_id, transcription_id, \"position\")",
    }  # fmt: skip
    for table, key in keys.items():
        with administrator.transaction(force_rollback=True):
            made_month(administrator, table, "2040-05")
            for name in partitions(administrator, table):
                found = administrator.execute(
                    "select 1 from pg_index where indrelid = %s::regclass and indisunique and "
                    "pg_get_indexdef(indexrelid) like %s",
                    (name, f"%{key}"),
                )
                assert found.fetchone() == (1,), name


async def test_a_month_is_dropped_when_it_is_past_and_empty_and_not_before(
    databases: Databases, administrator: Administrator, ctx: AppContext
) -> None:
    actor = await factories.make_actor(ctx)
    month = made_month(administrator, "messages", "2020-05")
    kept = "01720000-0000-7000-8000-000000000000"  # of May 2020
    with administrator.transaction():
        administrator.execute("set local session_replication_role = replica")
        administrator.execute(
            "insert into messages (tenant_id, id, conversation_id, sender_type, content, changed_id) "
            "values (%s, %s, %s, 'system', 'x', %s)",
            (actor.tenant_id, kept, uuid.uuid4(), kept),
        )
    async with audit_helpers.connected(databases.keeper) as keeper:
        await drop_empty_partitions(keeper)
        assert month in partitions(administrator)
        forced = administrator.execute(
            "select relforcerowsecurity from pg_class where oid = %s::regclass", (month,)
        ).fetchone()
        assert forced == (True,)
        administrator.execute("delete from messages where tenant_id = %s", (actor.tenant_id,))
        assert await drop_empty_partitions(keeper) >= 1
    assert month not in partitions(administrator)
    assert (
        len(partitions(administrator, "messages")) >= 5
    )  # the partitions of the previous month and of coming months are kept


async def test_the_keeper_and_nobody_else_makes_and_drops_months(administrator: Administrator) -> None:
    for function in ("make_partitions(integer)", "drop_empty_months()"):
        for role in ROLES:
            may = administrator.execute(
                "select has_function_privilege(%s, %s, 'execute')", (role, f"app.{function}")
            ).fetchone()
            assert may == (role in ("wcc_keeper", "wcc_owner"),), (role, function)
