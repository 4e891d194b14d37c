"""The migrations make the schema that `schema.txt` describes, and the description notices whatever is lost."""

from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg.rows import TupleRow

from instance.provisioning import Databases, provision
from tests.comms.schema import FILE, describe


@pytest.fixture(scope="module")
def fresh(databases: Databases, data_dir: Path) -> Iterator[psycopg.Connection[TupleRow]]:
    """A database in which nothing but the migrations has run."""
    url = urlunsplit(urlsplit(databases.administrator)._replace(path="/fresh_schema"))
    provision(url, data_dir / "keys", maintenance_url=databases.administrator)
    with psycopg.connect(url) as administrator:
        yield administrator


def differences(conn: psycopg.Connection[TupleRow]) -> list[str]:
    """Lines that are lost (-) or new (+) beside the file."""
    lines = unified_diff(FILE.read_text().splitlines(), describe(conn).splitlines(), n=0, lineterm="")
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def test_the_migrations_make_the_schema_that_is_described(fresh: psycopg.Connection[TupleRow]) -> None:
    assert differences(fresh) == [], "on purpose? then run: .venv/bin/python -m tests.comms.schema"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("revoke select on users from wcc_worker", "-    grant wcc_worker SELECT"),
        ("revoke update (version) on messages from wcc_worker", "-    grant wcc_worker UPDATE (version)"),
        ("grant select on users to public", "+    grant PUBLIC SELECT"),
        ("drop policy not_about_oneself on alerts", "-    policy not_about_oneself restrictive"),
        ("alter policy own_tenant on homes to wcc_app", "+    policy own_tenant permissive for all to wcc_app using"),
        ("alter policy own_tenant on homes using (true)", "+    policy own_tenant permissive for all to wcc_app, wcc_"),
        ("alter table homes no force row level security", "+    owner wcc_owner, row security enabled"),
        ("alter table partitions.events_before disable row level security", "+    owner wcc_owner, row security f"),
        ("drop index alerts_queue", "-    index CREATE INDEX alerts_queue"),
        ("alter table reviews drop constraint reviews_reason_check", "-    constraint reviews_reason_check CHECK"),
        ("alter table users alter column active drop default", "+    column 08 active boolean not null"),
        ("alter table users add column shoe_size integer", "+    column 12 shoe_size integer"),
        ("drop trigger audit_log_kept on partitions.audit_log_before", "-    trigger CREATE TRIGGER audit_log_kept"),
        ("alter table reviews disable trigger reviews_immutable", "+    trigger CREATE TRIGGER reviews_immutable"),
        ("grant execute on function app.erase_events to public", "+    grant PUBLIC EXECUTE"),
        ("alter function app.alerts_withheld() security invoker", "-     STABLE SECURITY DEFINER"),
        ("alter view app.stays set (security_invoker = true)", "+    owner wcc_owner, options {security_invoker=true}"),
        ("alter table homes owner to wcc_app", "+    owner wcc_app"),
        ("grant usage on schema partitions to wcc_app", "+    grant wcc_app USAGE"),
        ("alter default privileges in schema public grant select on tables to wcc_app", "+default privileges"),
        ("comment on table homes is 'where people live'", "+    comment where people live"),
        ("create type public.colour as enum ('red')", "+    type public.colour"),
        ("insert into tenants (slug, name) values ('seeded', 'Seeded')", '+    row {"id": "'),
    ],
)  # fmt: skip
def test_the_description_notices(fresh: psycopg.Connection[TupleRow], change: str, line: str) -> None:
    with fresh.transaction(force_rollback=True):
        fresh.execute(change.encode())
        found = differences(fresh)
    assert [said for said in found if said.startswith(line)], found
