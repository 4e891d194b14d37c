"""Tries what a user of one tenant could do to another tenant's rows: each statement is rolled back at once.

It changes logins with `set role`; row-level security treats that as a login. So a check and a broken policy can share
one transaction that is rolled back.
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

# Every role that logs in to this database. The registry has its own role, which may not connect to it.
LOGINS: Final = tuple(role for role in LOGIN_ROLES if role != "wcc_mlflow")
REFUSED: Final = "42501"  # insufficient_privilege: a missing grant or a policy
MALFORMED: Final = "22P02"  # invalid_text_representation: an invalid tenant id


@dataclass(frozen=True)
class Across:
    """An intended access to the rows of all tenants, and its reason."""

    verbs: frozenset[str]
    why: str


def _across(verbs: str, why: str) -> Across:
    return Across(frozenset(verbs.split()), why)


# Intended access across tenants, by login and table (and by role within the login if only that role may).
ACROSS: Final[dict[tuple[str, str, str | None], Across]] = {
    ("wcc_relay", "events", None): _across("select update", "marks sent events"),
    ("wcc_relay", "webhooks", None): _across("select", "reads the event types of each webhook, but not its URL"),
    ("wcc_relay", "webhook_deliveries", None): _across("insert", "inserts a delivery for each wanted event"),
    ("wcc_sender", "events", None): _across("select", "delivers events"),
    ("wcc_sender", "webhooks", None): _across("select update", "reads URLs, and disables webhooks that keep failing"),
    ("wcc_sender", "webhook_secrets", None): _across("select", "signs deliveries"),
    ("wcc_sender", "webhook_deliveries", None): _across("select update", "sends deliveries"),
    ("wcc_sealer", "audit_log", None): _across("select", "reads the entries of all tenants"),
    ("wcc_sealer", "audit_unsealed", None): _across("select delete", "removes sealed entries from the queue"),
    ("wcc_sealer", "audit_seals", None): _across("select insert", "extends the chains of all tenants"),
    ("wcc_sealer", "tenants", None): _across("select", "lists the tenants of the chains"),
    ("wcc_keeper", "tenants", None): _across("select", "sweeps tenant after tenant; reads only ids"),
    ("wcc_app", "tenants", "door"): _across("select", "finds a tenant by its slug before sign-in"),
    ("wcc_owner", "messages", None): _across("select", "search function, which checks membership itself"),
    ("wcc_owner", "message_attachments", None): _across("select", "likewise"),
    ("wcc_owner", "utterances", None): _across("select", "search function, which applies the rules itself"),
    ("wcc_owner", "message_readings_due", None): _across("select", "function that lists tenants with waiting messages"),
}
_NOTHING: Final = _across("", "")


@dataclass(frozen=True)
class IdentitySetting:
    """The identity settings of a transaction."""

    name: str
    tenant: str
    role: str


@dataclass(frozen=True)
class Attempt:
    """A statement that must read nothing and change nothing."""

    verb: str
    statement: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True)
class Breach:
    """Something that must not be possible, but was."""

    login: str
    setting: str
    table: str
    verb: str
    outcome: str

    def __str__(self) -> str:
        return (
            f"{self.verb} on {self.table} as {self.login}, {self.setting}: {self.outcome}. If the access is "
            f"intended, add the table and the reason to ACROSS in {__file__}"
        )


def settings(login: str, attacker: uuid.UUID) -> list[IdentitySetting]:
    """The identities to try: another tenant (in every role, for logins that have roles), no tenant, a malformed id,
    an unknown role.
    """
    return [
        *(
            IdentitySetting(f"another tenant's {role}", str(attacker), role)
            for role in ((*ROLES, "door") if login == "wcc_app" else ("service",))
        ),
        IdentitySetting("no tenant", "", "service"),
        IdentitySetting("a malformed tenant", "' or true --", "safeguarding_lead"),
        IdentitySetting("an unknown role", str(attacker), "emperor"),
    ]


def breaches(conn: Catalogue, table: Table, victim: uuid.UUID, attacker: uuid.UUID) -> Iterator[Breach]:
    """All breaches: every row of the victim in the table that the attacker's tenant (or no tenant) can read or
    change.
    """
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
    # Inserts a copy of the victim's row, with a new id if it has one, so that no key conflict hides the policy.
    columns = ", ".join(table.columns)
    copied = conn.execute(f"select to_jsonb(t)::text from {name} t where {owner} = %s limit 1".encode(), (victim,))
    row = (copied.fetchone() or ("{}",))[0]
    # now, because a partition for it exists
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
    # Statements that read no column: only the policy for the verb itself applies to them.
    column = _writable(conn, login, table)
    yield Attempt(
        "update", f"update {name} set {column} = (jsonb_populate_record(null::{name}, %s::jsonb)).{column}", (row,)
    )
    yield Attempt("update", f"update {name} set {owner} = %s", (victim,))
    yield Attempt("delete", f"delete from {name} where {owner} = %s", (victim,))
    yield Attempt("delete", f"delete from {name}")


def _writable(conn: Catalogue, login: str, table: Table) -> str:
    """A column that the login may update, if possible one that is in no key."""
    for column in sorted(table.columns, key=lambda column: (column in table.keys, column)):
        may = conn.execute("select has_column_privilege(%s, %s, %s, 'update')", (login, table.name, column)).fetchone()
        if may == (True,):
            return column
    return table.owner


def _outcome(
    conn: Catalogue,
    login: str,
    setting: IdentitySetting,
    table: Table,
    victim: uuid.UUID,
    before: str,
    attempt: Attempt,
) -> str | None:
    """What is wrong with the result of the attempt; None if it read and changed nothing."""
    wrong: str | None = None
    try:
        with conn.transaction(force_rollback=True):
            # 'replica' disables triggers and foreign keys, so that only the policy can prevent it
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
