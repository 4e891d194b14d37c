"""What somebody of one tenant can do to another's rows: tried, statement by statement, each undone at once.

Logins are tried by `set role`, which row-level security heeds as it does a login; so a check and a broken policy
can share one transaction that never happened.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import psycopg

from comms.identity.roles import ROLES
from tests.comms.catalogue import Catalogue, Table, fingerprint

LOGINS: Final = ("wcc_owner", "wcc_app", "wcc_relay", "wcc_worker", "wcc_sealer")
REFUSED: Final = "42501"  # insufficient_privilege: a missing grant or a policy
MALFORMED: Final = "22P02"  # invalid_text_representation: what is no tenant's id is not taken for one

# What reaches across tenants on purpose: login and table (and the role within the login, where only that one may).
ACROSS: Final[dict[tuple[str, str, str | None], str]] = {
    ("wcc_relay", "events", None): "marks what it sent",
    ("wcc_sealer", "audit_log", None): "lays the chains of all tenants",
    ("wcc_sealer", "audit_unsealed", None): "takes what waits",
    ("wcc_sealer", "audit_seals", None): "lays the chains of all tenants",
    ("wcc_sealer", "tenants", None): "knows whose the chains are",
    ("wcc_app", "tenants", "platform_admin"): "makes tenants and lists them",
    ("wcc_app", "tenants", "door"): "finds a tenant by its slug before anybody has signed in",
    ("wcc_worker", "tenants", "platform_admin"): "the same policy; nobody acts so through the worker",
}


@dataclass(frozen=True)
class Setting:
    """What a transaction says of itself."""

    name: str
    tenant: str
    role: str


@dataclass(frozen=True)
class Attempt:
    """A statement that must see nothing and change nothing."""

    verb: str
    statement: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True)
class Breach:
    """Something that should not have been possible."""

    login: str
    setting: str
    table: str
    verb: str
    outcome: str

    def __str__(self) -> str:
        return (
            f"{self.verb} on {self.table} as {self.login}, {self.setting}: {self.outcome}. A table that is meant to be "
            f"reached across tenants is named, with the reason, at ACROSS in {__file__}"
        )


def settings(login: str, attacker: uuid.UUID) -> list[Setting]:
    """Another tenant (in every role, where people come in), no tenant, one that is no id, an unknown role."""
    return [
        *(
            Setting(f"another tenant's {role}", str(attacker), role)
            for role in ((*ROLES, "door") if login == "wcc_app" else ("service",))
        ),
        Setting("no tenant", "", "service"),
        Setting("a malformed tenant", "' or true --", "safeguarding_lead"),
        Setting("an unknown role", str(attacker), "emperor"),
    ]


def breaches(conn: Catalogue, table: Table, victim: uuid.UUID, attacker: uuid.UUID) -> Iterator[Breach]:
    """Everything that the attacker's tenant (or nobody's) can see of the victim's rows in the table, or do to them."""
    before = fingerprint(conn, table, victim)
    for login in LOGINS:
        attempts = list(_attempts(conn, login, table, victim))
        for setting in settings(login, attacker):
            if (login, table.name, None) in ACROSS or (login, table.name, setting.role) in ACROSS:
                continue
            for attempt in attempts:
                outcome = _outcome(conn, login, setting, table, victim, before, attempt)
                if outcome is not None:
                    yield Breach(login, setting.name, table.name, attempt.verb, outcome)


def _attempts(conn: Catalogue, login: str, table: Table, victim: uuid.UUID) -> Iterator[Attempt]:
    name, owner = table.name, table.owner
    yield Attempt("select", f"select 1 from {name} where {owner} = %s", (victim,))
    # A row that the victim already has, under a new id where it has one: the policy is asked before any key.
    columns = ", ".join(table.columns)
    copied = conn.execute(f"select to_jsonb(t)::text from {name} t where {owner} = %s limit 1".encode(), (victim,))
    row = (copied.fetchone() or ("{}",))[0]
    fresh = "" if name == "tenants" or "id" not in table.columns else f" || jsonb_build_object('id', '{uuid.uuid4()}')"
    yield Attempt(
        "insert",
        f"insert into {name} ({columns}) select {columns} from jsonb_populate_record(null::{name}, %s::jsonb{fresh})",
        (row,),
    )
    # Blind: a statement that reads no column is bound by the policy for its own verb alone.
    column = _writable(conn, login, table)
    yield Attempt(
        "update", f"update {name} set {column} = (jsonb_populate_record(null::{name}, %s::jsonb)).{column}", (row,)
    )
    yield Attempt("hand over", f"update {name} set {owner} = %s", (victim,))
    yield Attempt("delete", f"delete from {name} where {owner} = %s", (victim,))
    yield Attempt("delete all", f"delete from {name}")


def _writable(conn: Catalogue, login: str, table: Table) -> str:
    """A column that the login may write, of no key where there is such a one."""
    for column in sorted(table.columns, key=lambda column: (column in table.keys, column)):
        may = conn.execute("select has_column_privilege(%s, %s, %s, 'update')", (login, table.name, column)).fetchone()
        if may == (True,):
            return column
    return table.owner


def _outcome(
    conn: Catalogue,
    login: str,
    setting: Setting,
    table: Table,
    victim: uuid.UUID,
    before: str,
    attempt: Attempt,
) -> str | None:
    """What is wrong with how the attempt ended; None where nothing was seen and nothing changed."""
    wrong: str | None = None
    try:
        with conn.transaction(force_rollback=True):
            # 'replica': triggers and foreign keys stand aside, so that the policy alone has to hold
            conn.execute(
                "select set_config('session_replication_role', 'replica', true), set_config('app.tenant_id', %s, true),"
                " set_config('app.user_id', %s, true), set_config('app.role', %s, true), set_config('role', %s, true)",
                (setting.tenant, str(uuid.uuid4()), setting.role, login),
            )
            touched = conn.execute(attempt.statement.encode(), attempt.values).rowcount
            if touched:
                conn.execute("reset role")
                if attempt.verb in ("select", "insert"):
                    wrong = f"{touched} rows {'seen' if attempt.verb == 'select' else 'written'}"
                elif fingerprint(conn, table, victim) != before:
                    wrong = "a row was changed"
    except psycopg.Error as error:
        malformed = setting.name == "a malformed tenant" and error.sqlstate == MALFORMED
        if error.sqlstate != REFUSED and not malformed:
            wrong = f"SQLSTATE {error.sqlstate} instead of {REFUSED}: {error.diag.message_primary}"
    return wrong
