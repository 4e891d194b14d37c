"""The subjects of an alert: the people whom it is about. An alert is withheld from its subjects, whatever their role.

The database has the rule (`app.alerts_withheld`). A person who spoke words that an alert cites is
presumed to be a subject until a person who decides alerts says otherwise. If the speakers are not known, nobody is
presumed and a person must name the subjects.

One person cannot withhold an alert from the last people who are able to read it: such a naming is a proposal until a
second person confirms it. It is refused if nobody would remain to oversee the alert (`app.naming_needs`, migration
0026; docs/decisions/0036).
"""

from datetime import datetime
from typing import Any, Final, Literal, LiteralString
from uuid import UUID

import uuid_utils.compat as uuid_utils

from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from comms.outbox.queries import emit
from models.contract.errors import WriteCareError, conflict, missing, refused
from models.contract.records import Record

SubjectStatus = Literal["named", "presumed", "cleared", "proposed"]
NamingRequirement = Literal["nothing", "second_person", "overseer"]

_RECENT: Final = "14 days"
_SELECT_SUBJECTS: Final = (
    "select alert_id, user_id, standing, decided_by, decided_at from alert_subjects where alert_id = %(alert)s "
    "union all select alert_id, user_id, 'proposed', proposed_by, proposed_at from alert_subject_proposals "
    "where alert_id = %(alert)s order by decided_at, user_id"
)


class NewAlertSubject(Record):
    """A person whom an alert is about."""

    user_id: UUID


class AlertSubject(NewAlertSubject):
    """A subject of an alert: `named` by a person, `presumed` by the software, or `cleared` by a person.

    `proposed`: the alert is not withheld from them yet, because a second person must confirm it. `decided_by` is null
    if the software presumed or proposed it.
    """

    alert_id: UUID
    standing: SubjectStatus
    decided_by: UUID | None
    decided_at: datetime


class SubjectDecision(NewAlertSubject):
    """A decision about a subject of an alert; `change` is a standing, or `declined`."""

    alert_id: UUID
    change: str
    decided_by: UUID | None
    decided_at: datetime


class AlertSubjects(Record):
    """All present and former subjects of an alert, on one page."""

    items: tuple[AlertSubject, ...]
    next: None = None


async def list_subjects(conn: Connection, alert_id: UUID) -> AlertSubjects:
    """Lists the subjects of the alert; raises `missing` if it does not exist or the actor may not see it."""
    if await (await conn.execute("select 1 from alerts where id = %s", (alert_id,))).fetchone() is None:
        raise missing("alert")
    found = await conn.execute(_SELECT_SUBJECTS, {"alert": alert_id})
    return AlertSubjects(items=tuple([AlertSubject(**row) async for row in found]))


async def recent_decisions(conn: Connection, limit: int = 20) -> list[SubjectDecision]:
    """Lists the decisions about subjects in the last 14 days that the actor may see, newest first."""
    found = await conn.execute(
        "select object_id as alert_id, (details ->> 'user_id')::uuid as user_id, "
        "    split_part(action, '.', 3) as change, actor_id as decided_by, created_at as decided_at from audit_log "
        "where object_type = 'alert' and action like 'alert.subject.%%' and id >= app.first_id(now() - %s::interval) "
        "order by id desc limit %s",
        (_RECENT, limit),
    )
    return [SubjectDecision(**row) async for row in found]


async def open_proposals(conn: Connection, limit: int = 20) -> list[SubjectDecision]:
    """Lists the proposals that wait for a second person and that the actor may see, oldest first."""
    found = await conn.execute(
        "select alert_id, user_id, 'proposed' as change, proposed_by as decided_by, proposed_at as decided_at "
        "from alert_subject_proposals order by proposed_at limit %s",
        (limit,),
    )
    return [SubjectDecision(**row) async for row in found]


async def name_subject(conn: Connection, actor: Actor, alert_id: UUID, user_id: UUID) -> AlertSubject:
    """Names the person as a subject, and ends their claim of the alert; naming twice is no error.

    Returns a `proposed` subject if a second person must confirm it. Raises `missing` (alert, person) and a conflict
    (`alert-needs-overseer`).
    """
    await _lock_alert(conn, alert_id)
    if await (await conn.execute("select 1 from users where id = %s", (user_id,))).fetchone() is None:
        raise missing("person")
    needs = await _requirement(conn, alert_id, user_id)
    if needs == "overseer":
        raise _needs_overseer()
    if needs == "second_person":
        return await _propose(conn, actor, alert_id, user_id)
    return await _name(conn, actor, alert_id, user_id)


async def confirm_subject(conn: Connection, actor: Actor, alert_id: UUID, user_id: UUID) -> AlertSubject:
    """Makes a proposal effective; the actor is its second person.

    Raises `missing` (alert, proposal), `refused` (`second-person-needed`: it is the actor's own proposal) and a
    conflict (`alert-needs-overseer`).
    """
    await _lock_alert(conn, alert_id)
    found = await conn.execute(
        "select 1 from alert_subject_proposals where alert_id = %s and user_id = %s and proposed_by is not null",
        (alert_id, user_id),
    )
    if await found.fetchone() is None:
        raise missing("proposal")
    needs = await _requirement(conn, alert_id, user_id)
    if needs == "overseer":
        raise _needs_overseer()
    if needs == "second_person":
        raise refused("second-person-needed", "You made this proposal: another person must confirm it.")
    return await _name(conn, actor, alert_id, user_id)


async def clear_subject(conn: Connection, actor: Actor, alert_id: UUID, user_id: UUID) -> None:
    """Records that the alert is not about the person, or declines a proposal; raises `missing`."""
    await _lock_alert(conn, alert_id)
    found = await conn.execute(
        "select 1 from alert_subjects where alert_id = %s and user_id = %s and standing <> 'cleared'",
        (alert_id, user_id),
    )
    if await found.fetchone() is not None:
        await _decide(conn, actor, alert_id, user_id, "cleared")
    elif await _end_proposal(conn, alert_id, user_id) is not None:
        await _record_and_emit(conn, actor, alert_id, "declined", {"user_id": str(user_id)})
    else:
        raise missing("subject")


async def presume_subjects(conn: Connection, actor: Actor, alert_id: UUID) -> None:
    """Presumes that a new alert is about the speakers of the words that it cites, if they are known; for the worker."""
    await presume_from_query(
        conn, actor, alert_id,
        "select p.user_id from alert_evidence e "
        "join utterances u on u.tenant_id = e.tenant_id and u.id = e.utterance_id "
        "join session_participants p on p.tenant_id = u.tenant_id and p.id = u.participant_id",
    )  # fmt: skip


async def presume_from_query(conn: Connection, actor: Actor, alert_id: UUID, speakers: LiteralString) -> None:
    """Presumes that the alert is about all users that the query on `alert_evidence e` returns; earlier decisions stay.

    People who can oversee alerts are inserted last: the last of them is only proposed (`app.guard_naming`).
    """
    await conn.execute(
        "insert into alert_subjects (tenant_id, alert_id, user_id, standing) "  # noqa: S608 (a literal, by its type)
        "select u.tenant_id, %(alert)s, u.id, 'presumed' from users u where u.tenant_id = %(tenant)s "
        f"and u.id in ({speakers} where e.tenant_id = %(tenant)s and e.alert_id = %(alert)s) "
        "order by case u.role when 'data_protection_officer' then 2 when 'safeguarding_lead' then 1 else 0 end "
        "on conflict do nothing",
        {"alert": alert_id, "tenant": actor.tenant_id},
    )


async def _requirement(conn: Connection, alert_id: UUID, user_id: UUID) -> NamingRequirement:
    found = await conn.execute("select app.naming_needs(%s, %s) as needs", (alert_id, user_id))
    needs: NamingRequirement = one(await found.fetchone())["needs"]
    return needs


async def _propose(conn: Connection, actor: Actor, alert_id: UUID, user_id: UUID) -> AlertSubject:
    made = await conn.execute(
        "insert into alert_subject_proposals (tenant_id, alert_id, user_id, proposed_by) values (%s, %s, %s, %s) "
        "on conflict (tenant_id, alert_id, user_id) do nothing "
        "returning alert_id, user_id, 'proposed' as standing, proposed_by as decided_by, proposed_at as decided_at",
        (actor.tenant_id, alert_id, user_id, actor.user_id),
    )
    row = await made.fetchone()
    if row is not None:
        await _record_and_emit(conn, actor, alert_id, "proposed", {"user_id": str(user_id)})
        return AlertSubject(**row)
    standing = await conn.execute(
        "select alert_id, user_id, 'proposed' as standing, proposed_by as decided_by, proposed_at as decided_at "
        "from alert_subject_proposals where alert_id = %s and user_id = %s",
        (alert_id, user_id),
    )
    return AlertSubject(**one(await standing.fetchone()))


async def _name(conn: Connection, actor: Actor, alert_id: UUID, user_id: UUID) -> AlertSubject:
    # before the insert: after it, an actor who names themselves cannot see the alert
    await conn.execute(
        "update alerts set state = 'new', claimed_by = null, claimed_at = null, version = version + 1 "
        "where id = %s and state = 'claimed' and claimed_by = %s",
        (alert_id, user_id),
    )
    return await _decide(conn, actor, alert_id, user_id, "named")


async def _decide(
    conn: Connection, actor: Actor, alert_id: UUID, user_id: UUID, standing: SubjectStatus
) -> AlertSubject:
    decided = await conn.execute(
        "insert into alert_subjects (tenant_id, alert_id, user_id, standing, decided_by) values (%s, %s, %s, %s, %s) "
        "on conflict (tenant_id, alert_id, user_id) do update set standing = excluded.standing, "
        "decided_by = excluded.decided_by, decided_at = now() "
        "returning alert_id, user_id, standing, decided_by, decided_at",
        (actor.tenant_id, alert_id, user_id, standing, actor.user_id),
    )
    subject = AlertSubject(**one(await decided.fetchone()))
    proposal = await _end_proposal(conn, alert_id, user_id)
    details = {"user_id": str(user_id)}
    if proposal is not None and proposal["proposed_by"] is not None:
        details["proposed_by"] = str(proposal["proposed_by"])
    await _record_and_emit(conn, actor, alert_id, standing, details)
    return subject


async def _end_proposal(conn: Connection, alert_id: UUID, user_id: UUID) -> dict[str, Any] | None:
    ended = await conn.execute(
        "delete from alert_subject_proposals where alert_id = %s and user_id = %s returning proposed_by",
        (alert_id, user_id),
    )
    return await ended.fetchone()


async def _record_and_emit(
    conn: Connection, actor: Actor, alert_id: UUID, change: str, details: dict[str, str]
) -> None:
    """Records every change of a subject in the audit log and emits an event for those who read alerts."""
    await record_act(conn, actor, f"alert.subject.{change}", ("alert", alert_id), details)
    # a separate aggregate, so that the version of the alert, on which reviewers decide, does not change
    await emit(
        conn, actor, "alert.subject.changed", aggregate=("alert_subject", uuid_utils.uuid7()), version=1,
        data={"alert_id": str(alert_id), "user_id": details["user_id"], "change": change},
    )  # fmt: skip


def _needs_overseer() -> WriteCareError:
    return conflict(
        "alert-needs-overseer",
        "Nobody would remain to oversee this alert: the data-protection officer, or a safeguarding lead who took no "
        "part in naming its subjects. Create an account for an external lead first.",
    )


async def _lock_alert(conn: Connection, alert_id: UUID) -> None:
    """Locks the row of the alert until the transaction ends, so that its subjects change one after the other."""
    found = await conn.execute("select 1 from alerts where id = %s for no key update", (alert_id,))
    if await found.fetchone() is None:
        raise missing("alert")
