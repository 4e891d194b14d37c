"""The baselines of `benchmarks/rls.py`: views of the same tables without row-level security, for two roles.

`alone`: views with the tenant's condition and no other rule. `by_hand`: views with the rules of the policies, as a
program would write them into its statements without row-level security: the actor is a value in the statement, and the
query of a rule's function is written out. Both roles bypass row-level security: create them only in the database of a
benchmark.
"""

import re
import secrets
from typing import Any, Final

import psycopg
from psycopg import sql

from comms.kernel.database import Actor

COMPARISON_ROLES: Final = ("alone", "by_hand")

_WITHHELD: Final = (
    "array(select s.alert_id from public.alert_subjects s where s.tenant_id = {tenant} and s.user_id = {actor} "
    "and s.standing <> 'cleared')"
)
_OF_ALERTS: Final = (  # for a role that decides on alerts, such as the benchmark's
    "array(select distinct a.{column} from public.alert_subjects s join public.alerts a on a.tenant_id = s.tenant_id "
    "and a.id = s.alert_id where s.tenant_id = {tenant} and s.user_id = {actor} and a.{column} is not null "
    "and s.standing <> 'cleared')"
)
_RECORDINGS: Final = _OF_ALERTS.replace("{column}", "recording_id")
# The queries of the rules' functions, written out as SQL.
_WRITTEN_OUT: Final = {
    "alerts_withheld": _WITHHELD,
    "recordings_withheld": _RECORDINGS,
    "conversations_withheld": _OF_ALERTS.replace("{column}", "conversation_id"),
    "objects_withheld": f"({_WITHHELD} || {_RECORDINGS})",
    "own_conversations": (
        "array(select m.conversation_id from public.conversation_members m where m.tenant_id = {tenant} "
        "and m.user_id = {actor} and m.until_id is null)"
    ),
    "tenant": "{tenant}",
    "actor": "{actor}",
    "actor_role": "{role}",
    "session_id": "null::uuid",
}
_MEMBERSHIP_PERIODS: Final = (
    "(select m.tenant_id, m.conversation_id, m.after_id, m.until_id from public.conversation_members m "
    "where m.tenant_id = {tenant} and m.user_id = {actor})"
)
_TENANT_FOR: Final = re.compile(r"\( SELECT app\.tenant_for\('\{([^}]*)\}'::text\[\]\) AS tenant_for\)")


def inline_policy(rule: str, actor: Actor) -> str:
    """The condition of a policy, with values instead of session settings and with queries instead of function calls."""
    values = {"tenant": f"'{actor.tenant_id}'::uuid", "actor": f"'{actor.user_id}'::uuid", "role": f"'{actor.role}'"}
    rule = _TENANT_FOR.sub(
        lambda found: values["tenant"] if actor.role in found[1].split(",") else "null::uuid", rule
    )  # fmt: skip
    for function, question in _WRITTEN_OUT.items():
        rule = rule.replace(f"( SELECT app.{function}() AS {function})", question.format(**values))
    return rule.replace("app.stays", _MEMBERSHIP_PERIODS.format(**values))


def policy_conditions(conn: psycopg.Connection[Any], actor: Actor) -> dict[str, str]:
    """For each table the condition under which its policies let the actor read it through the API."""
    found = conn.execute(
        "select tablename, string_agg(qual, ' or ') filter (where permissive = 'PERMISSIVE'), "
        "string_agg(qual, ' and ') filter (where permissive = 'RESTRICTIVE') from pg_policies "
        "where schemaname = 'public' and 'wcc_app' = any (roles) and cmd in ('SELECT', 'ALL') group by tablename"
    )
    return {
        table: inline_policy(f"({some}) and {every}" if every else some, actor)
        for table, some, every in found.fetchall()
    }


def create_comparison_roles(conn: psycopg.Connection[Any], actor: Actor) -> dict[str, str]:
    """Creates both roles and their views, named as the tables. Returns the roles' passwords."""
    of_policies = policy_conditions(conn, actor)
    tables = conn.execute(
        "select table_name, bool_or(column_name = 'tenant_id') from information_schema.columns "
        "where table_schema = 'public' and table_name <> 'schema_migrations' group by table_name"
    ).fetchall()
    passwords = {side: secrets.token_hex(16) for side in COMPARISON_ROLES}
    for side, password in passwords.items():
        conn.execute(f"create role {side} login bypassrls password '{password}'".encode())
        conn.execute(f"grant connect on database {conn.info.dbname} to {side}".encode())
        conn.execute(f"create schema {side}".encode())
        for table, owned in tables:
            alone = f"{'tenant_id' if owned else 'id'} = '{actor.tenant_id}'"
            condition = of_policies.get(table, "false") if side == "by_hand" else alone
            conn.execute(
                sql.SQL("create view {} as select * from public.{} where ").format(
                    sql.Identifier(side, table), sql.Identifier(table)
                )
                + sql.SQL(condition)
            )
        conn.execute(f"grant usage on schema {side}, public, app to {side}".encode())
        conn.execute(f"grant execute on all functions in schema app to {side}".encode())
        conn.execute(f"grant select on app.stays to {side}".encode())
        # on tables, too: for the rules' functions, which contain the tenant's condition themselves
        for schema in (side, "public"):
            conn.execute(f"grant select, insert, update on all tables in schema {schema} to {side}".encode())
        conn.execute(f"alter role {side} set search_path to {side}, public".encode())
        conn.execute(f"alter role {side} set plan_cache_mode = force_generic_plan".encode())  # as for `wcc_app`
    return passwords
