"""Checks the rules for tables, policies, indexes and grants in the live database catalogue, so that no migration breaks
them.

procrastinate's tables are exempt: they are in their own schema and contain only ids.
"""

import psycopg
import pytest
from psycopg.rows import TupleRow

from instance.provisioning import ROLES, Databases

# schema_migrations has no tenants' data; the other tables refer to tenants.
NOT_A_TENANTS = {"schema_migrations", "tenants"}


@pytest.fixture(scope="module")
def catalogue(databases: Databases) -> "psycopg.Connection[TupleRow]":
    return psycopg.connect(databases.administrator, autocommit=True)


def ask(catalogue: "psycopg.Connection[TupleRow]", statement: str) -> set[str]:
    """Returns the first column of the result: the names of what breaks the rule."""
    return {str(row[0]) for row in catalogue.execute(statement.encode()).fetchall()}


TABLES = (
    "pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'public' and c.relkind in ('r', 'p')"
)


def test_row_level_security_is_enabled_and_forced_on_every_table(catalogue: "psycopg.Connection[TupleRow]") -> None:
    open_tables = ask(catalogue, f"select c.relname from {TABLES} and not (c.relrowsecurity and c.relforcerowsecurity)")
    assert open_tables <= {"schema_migrations"}
    no_policy = ask(
        catalogue, f"select c.relname from {TABLES} and not exists (select 1 from pg_policy where polrelid = c.oid)"
    )
    assert no_policy <= {"schema_migrations"}


def test_nobody_but_the_owner_reaches_the_list_of_migrations(catalogue: "psycopg.Connection[TupleRow]") -> None:
    for role in ROLES:
        if role != "wcc_owner":
            may = catalogue.execute("select has_table_privilege(%s, 'schema_migrations', 'select')", (role,)).fetchone()
            assert may == (False,), role


def test_every_table_has_a_tenant_and_its_key_begins_with_it(catalogue: "psycopg.Connection[TupleRow]") -> None:
    wrong = ask(
        catalogue,
        f"select c.relname from {TABLES} and not exists (select 1 from pg_index i join pg_attribute a "
        "on a.attrelid = c.oid and a.attnum = i.indkey[0] "
        "where i.indrelid = c.oid and i.indisprimary and a.attname = 'tenant_id' and a.attnotnull)",
    )
    assert wrong == NOT_A_TENANTS


def test_unique_indexes_begin_with_the_tenant(catalogue: "psycopg.Connection[TupleRow]") -> None:
    wrong = ask(
        catalogue,
        "select i.indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indrelid "
        "join pg_namespace n on n.oid = c.relnamespace join pg_attribute a "
        "on a.attrelid = c.oid and a.attnum = i.indkey[0] "
        "where n.nspname = 'public' and i.indisunique and a.attname <> 'tenant_id'",
    )
    assert wrong == {"schema_migrations_pkey", "tenants_pkey", "tenants_slug_key"}


def test_every_foreign_key_contains_the_tenant_and_is_indexed(catalogue: "psycopg.Connection[TupleRow]") -> None:
    keys = (
        "pg_constraint k join pg_namespace n on n.oid = k.connamespace where n.nspname = 'public' and k.contype = 'f'"
    )
    without_tenant = ask(
        catalogue,
        f"select k.conrelid::regclass || '.' || k.conname from {keys} and not exists (select 1 from pg_attribute a "
        "where a.attrelid = k.conrelid and a.attnum = any(k.conkey) and a.attname = 'tenant_id')",
    )
    assert without_tenant == set()
    without_index = ask(
        catalogue,
        # For a partitioned table on every partition: a unique key without the id exists only there.
        f"select k.conrelid::regclass || '.' || k.conname from {keys} and exists (select 1 from pg_class p "
        "where p.relkind = 'r' and (p.oid = k.conrelid or p.oid in (select inhrelid from pg_inherits "
        "where inhparent = k.conrelid)) and not exists (select 1 from pg_index i where i.indrelid = p.oid "
        "and i.indpred is null and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey))",
    )
    assert without_index == set()


def test_every_time_has_a_zone(catalogue: "psycopg.Connection[TupleRow]") -> None:
    naive = ask(
        catalogue,
        "select table_name || '.' || column_name from information_schema.columns "
        "where table_schema = 'public' and data_type = 'timestamp without time zone'",
    )
    assert naive == set()


def test_no_role_that_logs_in_is_above_row_level_security(catalogue: "psycopg.Connection[TupleRow]") -> None:
    above = ask(
        catalogue,
        "select rolname from pg_roles where rolname like 'wcc\\_%' "
        "and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication)",
    )
    assert above == set()
    owners = ask(catalogue, f"select distinct pg_get_userbyid(c.relowner) from {TABLES}")
    assert owners == {"wcc_owner"}
    members = ask(
        catalogue,
        "select m.rolname from pg_auth_members g join pg_roles m on m.oid = g.member where m.rolname like 'wcc\\_%'",
    )
    assert members == set()


def test_policies_read_the_session_once_a_query(catalogue: "psycopg.Connection[TupleRow]") -> None:
    bare = ask(
        catalogue,
        "select tablename || '.' || policyname from pg_policies where schemaname = 'public' "
        "and regexp_replace(coalesce(qual, '') || coalesce(with_check, ''), "
        "'\\( ?SELECT (app\\.)?(tenant|actor|actor_role|tenant_for)\\(', '', 'g') "
        "~ '(tenant|actor|actor_role|tenant_for)\\('",
    )
    assert bare == set()


def test_nothing_is_granted_to_everybody(catalogue: "psycopg.Connection[TupleRow]") -> None:
    granted = ask(
        catalogue, "select table_name from information_schema.table_privileges where grantee = 'PUBLIC' "
        "and table_schema in ('public', 'procrastinate')",
    )  # fmt: skip
    assert granted == set()


def test_the_logs_of_acts_and_of_consent_cannot_be_changed_even_by_their_owner(databases: Databases) -> None:
    with psycopg.connect(databases.owner) as owner:
        for table in ("consent_audit_trail", "audit_log", "audit_seals"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), owner.transaction():
                owner.execute(f"truncate {table} cascade".encode())


def test_the_api_plans_a_statement_once_for_any_value(databases: Databases) -> None:
    with psycopg.connect(databases.app) as app:
        assert app.execute("show plan_cache_mode").fetchone() == ("force_generic_plan",)


def test_rules_that_are_views_are_the_owners_and_only_read(catalogue: "psycopg.Connection[TupleRow]") -> None:
    views = "pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'app' and c.relkind = 'v'"
    assert ask(catalogue, f"select c.relname from {views} and pg_get_userbyid(c.relowner) = 'wcc_owner'") == {"stays"}
    granted = ask(
        catalogue, "select grantee || ' ' || privilege_type from information_schema.table_privileges "
        "where table_schema = 'app' and grantee <> 'wcc_owner'",
    )  # fmt: skip
    assert granted == {"wcc_app SELECT"}
