"""Retention rules: how long a tenant keeps each category of data, and who decided it."""

from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import Field

from comms.governance.retention.erasure import CATEGORIES, Category
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from comms.kernel.optimistic_locking import refuse_stale, version_stale
from models.contract.records import Record


class RuleChange(Record):
    """A new retention period in days. The next round of the retention process erases older data."""

    days: int = Field(ge=30, le=36_500)


class RetentionRule(RuleChange):
    """The retention period of a category. Version 0, without `decided_by`, is the default of the application."""

    category: Category
    version: int
    decided_by: UUID | None
    updated_at: datetime | None


_RULES: Final = (
    "select c.category, coalesce(r.days, app.days_kept(c.category)) as days, coalesce(r.version, 0) as version, "
    "    r.decided_by, r.updated_at from unnest(%s::text[]) with ordinality c (category, number) "
    "left join retention_rules r on r.category = c.category order by c.number"
)


async def list_rules(conn: Connection) -> list[RetentionRule]:
    """Returns the rule of every category."""
    found = await conn.execute(_RULES, (list(CATEGORIES),))
    return [RetentionRule.model_validate(row) for row in await found.fetchall()]


async def read_rule(conn: Connection, category: Category) -> RetentionRule:
    """Returns the rule of one category."""
    found = await conn.execute(_RULES, ([category],))
    return RetentionRule.model_validate(one(await found.fetchone()))


async def decide_rule(
    conn: Connection, actor: Actor, category: Category, change: RuleChange, expected: int | None
) -> RetentionRule:
    """Replaces the rule of a category; raises a conflict (`version-stale`)."""
    before = await read_rule(conn, category)
    refuse_stale(before.version, expected)
    made = await conn.execute(
        "insert into retention_rules as r (tenant_id, category, days, decided_by) values (%(t)s, %(c)s, %(d)s, %(a)s) "
        "on conflict (tenant_id, category) do update set days = excluded.days, decided_by = excluded.decided_by, "
        "    version = r.version + 1, updated_at = now() where r.version = %(before)s "
        "returning category, days, version, decided_by, updated_at",
        {"t": actor.tenant_id, "c": category, "d": change.days, "a": actor.user_id, "before": before.version},
    )
    row = await made.fetchone()
    if row is None:  # another person changed it between the two statements
        raise version_stale()
    details = {"category": category, "days_before": before.days, "days": change.days}
    await record_act(conn, actor, "retention.decided", ("tenant", actor.tenant_id), details)
    return RetentionRule.model_validate(row)
