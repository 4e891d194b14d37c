"""The runner of migrations: each one runs once, and a database that does not fit this program is refused unchanged."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import TupleRow

from instance.provisioning import Databases, migrate, steps
from models.contract.errors import Kind, WriteCareError


@pytest.fixture
def owner(databases: Databases) -> Iterator[psycopg.Connection[TupleRow]]:
    """The owner of a migrated database, in a transaction that is rolled back."""
    with psycopg.connect(databases.owner) as conn:
        yield conn
        conn.rollback()


def refusal(owner: psycopg.Connection[TupleRow]) -> WriteCareError:
    with pytest.raises(WriteCareError) as refused:
        migrate(owner)
    assert refused.value.kind is Kind.UNAVAILABLE
    return refused.value


def test_migrations_are_numbered_from_the_baseline_without_gaps() -> None:
    found = [(number, name) for number, name, _ in steps()]
    assert found[0] == (1, "0001_baseline")
    assert [number for number, _ in found] == list(range(1, len(found) + 1))
    assert all(name.startswith(f"{number:04}_") for number, name in found)


def test_the_files_of_a_folder_are_one_migration_in_the_order_of_their_names() -> None:
    _, _, statements = next(iter(steps()))
    places = [statements.index(f"create table {table} (") for table in ("tenants", "events", "alerts", "kept_answers")]
    assert places == sorted(places)


def test_an_applied_migration_is_not_applied_again(owner: psycopg.Connection[TupleRow]) -> None:
    assert migrate(owner) == []


def test_a_migration_that_was_changed_after_it_was_applied_is_refused(owner: psycopg.Connection[TupleRow]) -> None:
    owner.execute("update schema_migrations set sha256 = 'other' where number = 1")
    refused = refusal(owner)
    assert (refused.slug, "0001_baseline" in refused.detail) == ("migration-changed", True)


def test_a_database_of_a_newer_program_is_refused(owner: psycopg.Connection[TupleRow]) -> None:
    owner.execute("insert into schema_migrations (number, name, sha256) values (9999, '9999_to_come', 'x')")
    refused = refusal(owner)
    assert (refused.slug, "9999" in refused.detail) == ("database-newer", True)


def test_a_database_of_the_migrations_before_the_baseline_is_refused_with_what_to_do(
    owner: psycopg.Connection[TupleRow],
) -> None:
    owner.execute("delete from schema_migrations")
    owner.execute(
        "insert into schema_migrations (number, name, sha256) "
        "values (1, '0001_ground', 'x'), (30, '0030_language', 'y')"
    )
    refused = refusal(owner)
    assert refused.slug == "database-before-baseline"
    assert "0001_ground" in refused.detail
    assert "Start with a new data folder" in refused.detail
