"""Tests row-level security, generated from the live catalogue: every table, verb, login and kind of caller.

No access may read or change rows of another tenant. The check itself is tested, too: each policy in turn is replaced by
one that allows everything, and the check must find that.
"""

import re
import uuid
from collections.abc import Iterator

import psycopg
import pytest

from instance.provisioning import Databases, steps
from tests.comms.database_catalogue import Catalogue, fill, tables
from tests.comms.isolation_attempts import ACROSS, LOGINS, breaches


@pytest.fixture(scope="module")
def neighbours(databases: Databases) -> Iterator[tuple[Catalogue, uuid.UUID, uuid.UUID]]:
    """Two tenants with a row in every table, in a transaction that is rolled back."""
    victim, attacker = uuid.uuid4(), uuid.uuid4()
    with psycopg.connect(databases.administrator) as conn, conn.transaction(force_rollback=True):
        fill(conn, victim)
        fill(conn, attacker)
        yield conn, victim, attacker


def table_names() -> list[str]:
    """Table names for the test ids: the tables that migrations create and do not drop again, without partitions."""
    made, dropped = (
        [
            name
            for _, _, statements in steps()
            for name in re.findall(rf"^{verb} table (\w+)\b(?!\.)", statements, re.MULTILINE)
        ]
        for verb in ("create", "drop")
    )
    return sorted(set(made) - set(dropped))


def test_every_login_that_may_connect_to_this_database_is_tried(
    neighbours: tuple[Catalogue, uuid.UUID, uuid.UUID],
) -> None:
    may = neighbours[0].execute(
        "select rolname from pg_roles where rolname like 'wcc\\_%' "
        "and has_database_privilege(rolname, current_database(), 'connect')"
    )
    assert {role for (role,) in may.fetchall()} == set(LOGINS)


@pytest.mark.parametrize("name", table_names())
def test_nobody_sees_or_changes_another_tenants_rows_of(
    neighbours: tuple[Catalogue, uuid.UUID, uuid.UUID], name: str
) -> None:
    conn, victim, attacker = neighbours
    (table,) = [table for table in tables(conn) if table.name == name]
    assert "\n".join(map(str, breaches(conn, table, victim, attacker))) == ""


def test_no_table_is_left_out(neighbours: tuple[Catalogue, uuid.UUID, uuid.UUID]) -> None:
    assert [table.name for table in tables(neighbours[0])] == table_names()


@pytest.mark.parametrize("name", table_names())
def test_a_policy_thrown_open_is_noticed_on(neighbours: tuple[Catalogue, uuid.UUID, uuid.UUID], name: str) -> None:
    conn, victim, attacker = neighbours
    (table,) = [table for table in tables(conn) if table.name == name]
    policies = conn.execute(
        # a restrictive policy limits access within the tenant: its own tests replace it
        "select policyname, cmd, roles::text[] from pg_policies where schemaname = 'public' and tablename = %s "
        "and permissive = 'PERMISSIVE'",
        (name,),
    ).fetchall()
    guarded = [p for p in policies if any((login, name, None) not in ACROSS for login in p[2])]
    assert guarded
    for policy, verb, _ in guarded:
        using = "" if verb == "INSERT" else " using (true)"
        check = "" if verb in ("SELECT", "DELETE") else " with check (true)"
        with conn.transaction(force_rollback=True):
            conn.execute(f"alter policy {policy} on {name}{using}{check}".encode())
            assert any(breaches(conn, table, victim, attacker)), (
                f"{policy} on {name} allowed everything, but the check did not find it"
            )


def test_a_table_whose_security_is_switched_off_is_noticed(
    neighbours: tuple[Catalogue, uuid.UUID, uuid.UUID],
) -> None:
    conn, victim, attacker = neighbours
    for table in tables(conn):
        with conn.transaction(force_rollback=True):
            conn.execute(f"alter table {table.name} disable row level security".encode())
            assert any(breaches(conn, table, victim, attacker)), table.name
