"""What somebody of one tenant can do to another's rows: tried, statement by statement, each undone at once.

Logins are tried by `set role`, which row-level security heeds as it does a login; so a check and a broken policy
can share one transaction that never happened.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import psycopg
import uuid_utils.compat as uuid_utils

from comms.kernel.access.roles import ROLES
from instance.provisioning import ROLES as LOGIN_ROLES
from tests.comms.database_catalogue import Catalogue, Table, fingerprint

# Every role that logs in to this database; the registry's has one of its own and may not connect to this.
LOGINS: Final = tuple(role for role in LOGIN_ROLES if role != "wcc_mlflow")
REFUSED: Final = "42501"  # insufficient_privilege: a missing grant or a policy
MALFORMED: Final = "22P02"  # invalid_text_representation: what is no tenant's id is not taken for one


@dataclass(frozen=True)
class Across:
    """What somebody does to all tenants' rows on purpose, and why."""

    verbs: frozenset[str]
    why: str


def _across(verbs: str, why: str) -> Across:
    return Across(frozenset(verbs.split()), why)


# What reaches across tenants on purpose: login and table (and the role within the login, where only that one may).
ACROSS: Final[dict[tuple[str, str, str | None], Across]] = {
    ("wcc_relay", "events", None): _across("select update", "marks what it sent"),
    ("wcc_relay", "webhooks", None): _across("select", "sees which types each wants, never where it leads"),
    ("wcc_relay", "webhook_deliveries", None): _across("insert", "makes one for each event that is wanted"),
    ("wcc_sender", "events", None): _across("select", "sends them on"),
    ("wcc_sender", "webhooks", None): _across("select update", "sees where they lead, and gives up what keeps failing"),
    ("wcc_sender", "webhook_secrets", None): _across("select", "signs with them"),
    ("wcc_sender", "webhook_deliveries", None): _across("select update", "sends them"),
    ("wcc_sealer", "audit_log", None): _across("select", "lays the chains of all tenants"),
    ("wcc_sealer", "audit_unsealed", None): _across("select delete", "takes what waits"),
    ("wcc_sealer", "audit_seals", None): _across("select insert", "lays the chains of all tenants"),
    ("wcc_sealer", "tenants", None): _across("select", "knows whose the chains are"),
    ("wcc_keeper", "tenants", None): _across("select", "sweeps one after the other, knows their ids alone"),
    ("wcc_app", "tenants", "door"): _across("select", "finds a tenant by its slug before anybody has signed in"),
    ("wcc_owner", "messages", None): _across("select", "the search's function, which applies the members' rule itself"),
    ("wcc_owner", "message_attachments", None): _across("select", "likewise"),
    ("wcc_owner", "utterances", None): _across("select", "the search's function, which applies the rules itself"),
    ("wcc_owner", "message_readings_due", None): _across("select", "the function that tells where something waits"),
}
_NOTHING: Final = _across("", "")


@dataclass(frozen=True)
class SpeechBenchSetup:
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


def settings(login: str, attacker: uuid.UUID) -> list[SpeechBenchSetup]:
    """Another tenant (in every role, where people come in), no tenant, one that is no id, an unknown role."""
    return [
        *(
            SpeechBenchSetup(f"another tenant's {role}", str(attacker), role)
            for role in ((*ROLES, "door") if login == "wcc_app" else ("service",))
        ),
        SpeechBenchSetup("no tenant", "", "service"),
        SpeechBenchSetup("a malformed tenant", "' or true --", "safeguarding_lead"),
        SpeechBenchSetup("an unknown role", str(attacker), "emperor"),
    ]


def breaches(conn: Catalogue, table: Table, victim: uuid.UUID, attacker: uuid.UUID) -> Iterator[Breach]:
    """Everything that the attacker's tenant (or nobody's) can see of the victim's rows in the table, or do to them."""
    before = fingerprint(conn, table, victim)
    for login in LOGINS:
        attempts = list(_attempts(conn, login, table, victim))
        for setting in settings(login, attacker):
            meant = ACROSS.get((login, table.name, None)) or ACROSS.get((login, table.name, setting.role)) or _NOTHING
            for attempt in (attempt for attempt in attempts if attempt.verb not in meant.verbs):
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
    # of now: a partition may take it
    fresh = (
        ""
        if name == "tenants" or "id" not in table.columns
        else f" || jsonb_build_object('id', '{uuid_utils.uuid7()}')"
    )
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
    yield Attempt("update", f"update {name} set {owner} = %s", (victim,))
    yield Attempt("delete", f"delete from {name} where {owner} = %s", (victim,))
    yield Attempt("delete", f"delete from {name}")


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
    setting: SpeechBenchSetup,
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
