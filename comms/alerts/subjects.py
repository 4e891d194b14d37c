"""Whom an alert is about: from the moment that it is known, the alert is not for that person, whatever their role.

The database holds the rule (`app.alerts_withheld`, migration 0009). Whoever spoke words that an alert cites is
presumed to be meant until somebody who decides alerts says otherwise; where speakers are not known to be persons,
nobody is presumed and somebody has to name them.
"""

from datetime import datetime
from typing import Literal
from uuid import UUID

from comms.audit.queries import record_act
from comms.database import Actor, Connection, one
from models.errors import missing
from models.records import Record

Standing = Literal["named", "presumed", "cleared"]


class NewAlertSubject(Record):
    """A person whom an alert is about."""

    user_id: UUID


class AlertSubject(NewAlertSubject):
    """That an alert is about somebody: `named` by a person, `presumed` by the house, or `cleared` by a person."""

    alert_id: UUID
    standing: Standing
    decided_by: UUID | None
    decided_at: datetime


class AlertSubjects(Record):
    """Everybody who is or was taken to be meant by an alert, all on one page."""

    items: tuple[AlertSubject, ...]
    next: None = None


async def list_subjects(conn: Connection, alert_id: UUID) -> AlertSubjects:
    """Raises `missing` for an alert that is not there or not the asker's to see."""
    if await (await conn.execute("select 1 from alerts where id = %s", (alert_id,))).fetchone() is None:
        raise missing("alert")
    found = await conn.execute(
        "select alert_id, user_id, standing, decided_by, decided_at from alert_subjects where alert_id = %s "
        "order by decided_at, user_id",
        (alert_id,),
    )
    return AlertSubjects(items=tuple([AlertSubject(**row) async for row in found]))


async def name_subject(conn: Connection, actor: Actor, alert_id: UUID, user_id: UUID) -> AlertSubject:
    """Says that the alert is about the person and takes it off them where they had claimed it; twice is no error.

    Raises `missing` (alert, person).
    """
    await _lock_alert(conn, alert_id)
    if await (await conn.execute("select 1 from users where id = %s", (user_id,))).fetchone() is None:
        raise missing("person")
    # before the row: afterwards, who names themselves does not see the alert any more
    await conn.execute(
        "update alerts set state = 'new', claimed_by = null, claimed_at = null, version = version + 1 "
        "where id = %s and state = 'claimed' and claimed_by = %s",
        (alert_id, user_id),
    )
    return await _decide(conn, actor, alert_id, user_id, "named")


async def clear_subject(conn: Connection, actor: Actor, alert_id: UUID, user_id: UUID) -> None:
    """Says that the alert is not about the person (after all); raises `missing` (alert, subject)."""
    await _lock_alert(conn, alert_id)
    found = await conn.execute(
        "select 1 from alert_subjects where alert_id = %s and user_id = %s and standing <> 'cleared'",
        (alert_id, user_id),
    )
    if await found.fetchone() is None:
        raise missing("subject")
    await _decide(conn, actor, alert_id, user_id, "cleared")


async def presume_subjects(conn: Connection, actor: Actor, alert_id: UUID) -> None:
    """Notes of a new alert who spoke what it cites, as far as speakers are known to be persons; for the worker."""
    await conn.execute(
        "insert into alert_subjects (tenant_id, alert_id, user_id, standing) "
        "select distinct e.tenant_id, e.alert_id, p.user_id, 'presumed' from alert_evidence e "
        "join utterances u on u.tenant_id = e.tenant_id and u.id = e.utterance_id "
        "join session_participants p on p.tenant_id = u.tenant_id and p.id = u.participant_id "
        "where e.tenant_id = %s and e.alert_id = %s",
        (actor.tenant_id, alert_id),
    )


async def _decide(conn: Connection, actor: Actor, alert_id: UUID, user_id: UUID, standing: Standing) -> AlertSubject:
    decided = await conn.execute(
        "insert into alert_subjects (tenant_id, alert_id, user_id, standing, decided_by) values (%s, %s, %s, %s, %s) "
        "on conflict (tenant_id, alert_id, user_id) do update set standing = excluded.standing, "
        "decided_by = excluded.decided_by, decided_at = now() "
        "returning alert_id, user_id, standing, decided_by, decided_at",
        (actor.tenant_id, alert_id, user_id, standing, actor.user_id),
    )
    subject = AlertSubject(**one(await decided.fetchone()))
    await record_act(conn, actor, f"alert.subject.{standing}", ("alert", alert_id), {"user_id": str(user_id)})
    return subject


async def _lock_alert(conn: Connection, alert_id: UUID) -> None:
    """Its row is taken until the transaction ends, so that who is meant is decided one after the other."""
    found = await conn.execute("select 1 from alerts where id = %s for no key update", (alert_id,))
    if await found.fetchone() is None:
        raise missing("alert")
