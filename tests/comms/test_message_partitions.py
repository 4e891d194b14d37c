"""Months of messages: made ahead, under the same row-level security, and no way round it."""

import psycopg
import pytest

from comms.house import House
from comms.messages.sweep import make_partitions
from comms.provision import ROLES, Databases, provision

pytestmark = pytest.mark.anyio

PARTITIONS = (
    "select c.oid::regclass::text from pg_inherits i join pg_class c on c.oid = i.inhrelid "
    "where i.inhparent = 'messages'::regclass"
)


@pytest.fixture
def administrator(databases: Databases) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(databases.administrator, autocommit=True)


async def test_months_to_come_are_there_and_made_once(house: House, databases: Databases) -> None:
    async with house.database.acting_for_nobody() as conn:
        assert await make_partitions(conn) == 0  # provisioning made them
    with psycopg.connect(databases.app) as conn:
        before = len(conn.execute(PARTITIONS.encode()).fetchall())
        assert conn.execute("select app.make_message_partitions(5)").fetchone() == (4,)  # and of their vectors
        assert len(conn.execute(PARTITIONS.encode()).fetchall()) == before + 2
        assert conn.execute("select app.make_message_partitions(5)").fetchone() == (0,)
        conn.rollback()


async def test_a_month_begins_with_the_least_id_of_its_first_millisecond(
    administrator: "psycopg.Connection[tuple[object, ...]]",
) -> None:
    asked = administrator.execute(
        "select app.first_id('2026-11-01T00:00:00Z')::text, app.first_id(now()) <= uuidv7(), "
        "app.first_id(now() + interval '1 hour') > uuidv7()"
    )
    assert asked.fetchone() == ("01a19467-e800-0000-0000-000000000000", True, True)


async def test_a_partition_is_under_row_level_security_and_nobody_may_enter_its_schema(
    administrator: "psycopg.Connection[tuple[object, ...]]",
) -> None:
    forced = administrator.execute(
        "select c.relrowsecurity and c.relforcerowsecurity from pg_class c "
        "join pg_inherits i on i.inhrelid = c.oid where i.inhparent = 'messages'::regclass"
    ).fetchall()
    assert len(forced) >= 5
    assert set(forced) == {(True,)}
    for role in ROLES:
        may = administrator.execute("select has_schema_privilege(%s, 'partitions', 'usage')", (role,)).fetchone()
        assert may == (role == "wcc_owner",), role
    granted = administrator.execute(
        "select table_name, grantee from information_schema.table_privileges "
        "where table_schema = 'partitions' and grantee <> 'wcc_owner'"
    ).fetchall()
    assert granted == []


async def test_the_owner_sees_nothing_in_a_partition_either(databases: Databases) -> None:
    with psycopg.connect(databases.owner) as owner:
        for (name,) in owner.execute(PARTITIONS.encode()).fetchall():
            assert owner.execute(f"select count(*) from {name}".encode()).fetchone() == (0,)


async def test_provisioning_makes_months_that_are_missing(
    databases: Databases, administrator: "psycopg.Connection[tuple[object, ...]]", house: House
) -> None:
    latest = sorted(str(row[0]) for row in administrator.execute(PARTITIONS.encode()).fetchall())[-1]
    administrator.execute(f"alter table messages detach partition {latest}".encode())
    administrator.execute(f"drop table {latest}".encode())
    provision(databases.administrator, house.settings.data_dir / "keys")
    assert (latest,) in administrator.execute(PARTITIONS.encode()).fetchall()
