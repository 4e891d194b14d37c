"""Prepares the database: roles, databases, extension, job queue, migrations. Idempotent; runs at every start.

Eight roles log in: `wcc_owner` only for migrations, `wcc_app` for the API, `wcc_relay` for the outbox, `wcc_worker` for
jobs, `wcc_sealer` for the audit chain, `wcc_sender` for webhooks and mail, `wcc_keeper` for monthly partitions and
retention, `wcc_mlflow` for the model registry's own database. None is a superuser and only the owner owns tables, so
row-level security applies to all others.
"""

import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from procrastinate import schema as procrastinate_schema
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from models.contract.errors import WriteCareError, unavailable

MIGRATIONS = Path(__file__).parents[1] / "comms" / "migrations"
_BASELINE = "0001_baseline"
ROLES = ("wcc_owner", "wcc_app", "wcc_relay", "wcc_worker", "wcc_sealer", "wcc_sender", "wcc_keeper", "wcc_mlflow")
_LOCK = 0x77636331  # advisory lock: one provisioner at a time


@dataclass(frozen=True)
class Databases:
    """The connection string of each role. Do not log `repr`: the strings contain passwords."""

    administrator: str
    owner: str
    app: str
    relay: str
    worker: str
    sealer: str
    sender: str
    keeper: str
    mlflow: str

    def __repr__(self) -> str:
        return "Databases(…)"


def _as_role(url: str, role: str, password: str, database: str | None = None) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    path = parts.path if database is None else f"/{database}"
    return urlunsplit((parts.scheme, f"{role}:{quote(password, safe='')}@{host}", path, parts.query, ""))


def _passwords(keys_dir: Path) -> dict[str, str]:
    """The roles' passwords. Generates missing ones. They are stored in the data folder, readable only by this user."""
    keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = keys_dir / "database.json"
    kept: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    if lacking := [role for role in ROLES if role not in kept]:  # all roles at the first start, later only new roles
        kept |= {role: secrets.token_urlsafe(24) for role in lacking}
        fresh = keys_dir / "database.json.new"
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(kept))
        fresh.rename(file)
    return kept


def connections(administrator_url: str, keys_dir: Path) -> Databases:
    """The connection strings of all roles. Does not connect to the database."""
    passwords = _passwords(keys_dir)
    database = urlsplit(administrator_url).path.lstrip("/")
    return Databases(
        administrator=administrator_url,
        owner=_as_role(administrator_url, "wcc_owner", passwords["wcc_owner"]),
        app=_as_role(administrator_url, "wcc_app", passwords["wcc_app"]),
        relay=_as_role(administrator_url, "wcc_relay", passwords["wcc_relay"]),
        worker=_as_role(administrator_url, "wcc_worker", passwords["wcc_worker"]),
        sealer=_as_role(administrator_url, "wcc_sealer", passwords["wcc_sealer"]),
        sender=_as_role(administrator_url, "wcc_sender", passwords["wcc_sender"]),
        keeper=_as_role(administrator_url, "wcc_keeper", passwords["wcc_keeper"]),
        mlflow=_as_role(administrator_url, "wcc_mlflow", passwords["wcc_mlflow"], f"{database}_mlflow"),
    )


def prepare(
    administrator_url: str, keys_dir: Path, *, operator_tenant: str = "operator", maintenance_url: str | None = None
) -> Databases:
    """Creates missing roles and databases, but no tables: a backup can be restored into them.

    Apart from that as `provision`.
    """
    try:
        return _prepared(administrator_url, keys_dir, operator_tenant, maintenance_url)
    except psycopg.OperationalError as error:
        raise _unreachable(error) from None


def provision(
    administrator_url: str, keys_dir: Path, *, operator_tenant: str = "operator", maintenance_url: str | None = None
) -> Databases:
    """Migrates the database to this version and returns the connection string of each role.

    `operator_tenant` is the slug of the tenant that runs the installation (`app.runs_installation`).

    `maintenance_url`: connection string with which the administrator creates the database itself (only for the
    embedded server). Raises `unavailable` if the server cannot be reached or is too old.
    """
    try:
        databases = _prepared(administrator_url, keys_dir, operator_tenant, maintenance_url)
        with psycopg.connect(databases.owner) as owner:
            owner.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
            _make_job_queue(owner)
            migrate(owner)
            owner.execute("select app.make_partitions()")
    except psycopg.OperationalError as error:
        raise _unreachable(error) from None
    return databases


def _prepared(administrator_url: str, keys_dir: Path, operator_tenant: str, maintenance_url: str | None) -> Databases:
    database = urlsplit(administrator_url).path.lstrip("/")
    databases = connections(administrator_url, keys_dir)
    if maintenance_url is not None:
        _make_database(maintenance_url, database, owner=None)
    with psycopg.connect(administrator_url, autocommit=True) as admin:
        if admin.info.server_version < 180000:
            raise unavailable("postgres-version", "PostgreSQL 18 or newer is needed (uuidv7).")
        admin.execute("select pg_advisory_lock(%s)", (_LOCK,))
        _make_roles(admin, _passwords(keys_dir))
        _name_operator(admin, operator_tenant)
        _create_base_schema(admin, database)
    _make_database(administrator_url, f"{database}_mlflow", owner="wcc_mlflow")
    return databases


def _unreachable(error: psycopg.OperationalError) -> WriteCareError:
    reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return unavailable("database-unreachable", f"The database cannot be reached: {reason}")


def libpq_environment(url: str) -> dict[str, str]:
    """The environment variables with which PostgreSQL's own programs (psql, pg_dump, pg_restore) log in."""
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE",
             "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT"}  # fmt: skip
    found = conninfo_to_dict(url)
    return {variable: str(found[name]) for name, variable in names.items() if name in found}


def _make_database(url: str, name: str, owner: str | None) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        if admin.execute("select 1 from pg_database where datname = %s", (name,)).fetchone() is None:
            statement = sql.SQL("create database {}").format(sql.Identifier(name))
            if owner is not None:
                statement += sql.SQL(" owner {}").format(sql.Identifier(owner))
            admin.execute(statement)
            admin.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(name)))


def _make_roles(admin: psycopg.Connection, passwords: dict[str, str]) -> None:
    for role in ROLES:
        exists = admin.execute("select 1 from pg_roles where rolname = %s", (role,)).fetchone() is not None
        statement = sql.SQL("alter role {} " if exists else "create role {} ").format(sql.Identifier(role))
        attributes = sql.SQL("login nosuperuser nocreatedb nocreaterole nobypassrls password {}")
        admin.execute(statement + attributes.format(sql.Literal(passwords[role])))
    # One generic plan for all values. For partitioned tables the planner estimates that a plan per value is cheaper,
    # because it cannot foresee that all partitions but one are pruned; it then plans longer than it reads
    # (docs/decisions/0029).
    admin.execute("alter role wcc_app set plan_cache_mode = force_generic_plan")


def _name_operator(admin: psycopg.Connection, slug: str) -> None:
    admin.execute(sql.SQL("alter role wcc_app set app.operator_tenant = {}").format(sql.Literal(slug)))


def _create_base_schema(admin: psycopg.Connection, database: str) -> None:
    name = sql.Identifier(database)
    admin.execute("create extension if not exists vector")
    admin.execute(sql.SQL("grant create on database {} to wcc_owner").format(name))
    doors = sql.SQL("grant connect on database {} to wcc_owner, {}")
    logins = sql.SQL("wcc_app, wcc_relay, wcc_worker, wcc_sealer, wcc_sender, wcc_keeper")
    admin.execute(doors.format(name, logins))
    admin.execute("revoke all on schema public from public")
    admin.execute("grant usage, create on schema public to wcc_owner")
    admin.execute(sql.SQL("grant usage on schema public to {}").format(logins))


def _make_job_queue(owner: psycopg.Connection) -> None:
    """Creates procrastinate's tables in their own schema. Jobs carry only ids, so they need no row-level security."""
    if owner.execute("select 1 from pg_namespace where nspname = 'procrastinate'").fetchone() is not None:
        return
    owner.execute("create schema procrastinate")
    owner.execute("set local search_path to procrastinate")
    owner.execute(procrastinate_schema.SchemaManager.get_schema().encode())
    owner.execute("set local search_path to public")
    for grant in ("select, insert, update, delete on all tables in", "usage on all sequences in", "usage on"):
        owner.execute(f"grant {grant} schema procrastinate to wcc_relay, wcc_worker".encode())


def steps() -> Iterator[tuple[int, str, str]]:
    """The migrations in order: number, name, statements. One is a file, or a folder whose files run in order as one."""
    for path in sorted(MIGRATIONS.glob("[0-9]*")):
        files = sorted(path.glob("*.sql")) if path.is_dir() else [path]
        yield int(path.name.split("_")[0]), path.stem, "\n".join(file.read_text() for file in files)


def migrate(owner: psycopg.Connection) -> list[str]:
    """Applies the missing migrations in the caller's transaction and returns their names. There is no downgrade.

    Raises `unavailable` if an applied migration was changed later, if the database is newer than the program, or if
    it was made by the migrations before the baseline (docs/decisions/0049).
    """
    owner.execute(
        "create table if not exists schema_migrations (number integer primary key, name text not null, "
        "sha256 text not null, applied_at timestamptz not null default now())"
    )
    rows = owner.execute("select number, name, sha256 from schema_migrations order by number").fetchall()
    known = {number: digest for number, _, digest in rows}
    applied = []
    available = list(steps())
    if rows and rows[0][1] != _BASELINE:
        raise unavailable(
            "database-before-baseline",
            f"The database was made by the migrations before the baseline ({rows[0][1]} …), which this version cannot "
            "continue. Start with a new data folder, or with an empty database where DATABASE_URL names one. Data that "
            "you still need can be read with the version that wrote them.",
        )
    if newer := set(known) - {number for number, _, _ in available}:
        raise unavailable("database-newer", f"The database is newer than this program (migration {max(newer)}).")
    for number, name, statements in available:
        digest = hashlib.sha256(statements.encode()).hexdigest()
        if number not in known:
            owner.execute(statements.encode())
            owner.execute(
                "insert into schema_migrations (number, name, sha256) values (%s, %s, %s)", (number, name, digest)
            )
            applied.append(name)
        elif known[number] != digest:
            raise unavailable("migration-changed", f"Migration {name} was changed after it was applied.")
    return applied
