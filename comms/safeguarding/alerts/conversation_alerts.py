"""Adds a concern in a message to the open, recent alert of its conversation, or raises a new alert.

A conversation has no end as a call has. One alert for each message would fill the queue with one matter. So a concern
that follows within a day adds its evidence to the open alert and may raise its severity. That raises the version of the
alert, so that nobody decides on evidence that they have not seen (docs/decisions/0020). A decided alert does not
change: a later concern raises a new one. The words that moved the model are found later
(`comms/safeguarding/message_assessments/evidence.py`), so that they do not delay the alert.
"""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from comms.safeguarding.alerts.queries import alert_of
from comms.safeguarding.alerts.recording_alerts import emit_alert_events
from comms.safeguarding.alerts.records import OPEN_STATES, Alert, NewMessageEvidence
from comms.safeguarding.alerts.subjects import presume_from_query
from models.contract.records import SEVERITIES

_RECENT: Final = "1 day"  # since the last concern was added


async def add_concerns(
    conn: Connection,
    actor: Actor,
    conversation_id: UUID,
    evidence: Sequence[NewMessageEvidence],
    models: dict[str, str],
) -> Alert:
    """Adds the evidence to an alert and emits its events; the caller holds the locks of the assessments and
    of consent.
    """
    before = await _find_open_alert(conn, conversation_id)
    if before is None:
        alert, act = await _insert(conn, actor, conversation_id, evidence, models), "alert.raised"
    else:
        alert, act = await _update_alert(conn, before, evidence, models), "alert.joined"
    await _insert_evidence(conn, actor, alert.id, evidence)
    await _presume_senders(conn, actor, alert.id)
    await record_act(conn, actor, act, ("alert", alert.id), {"conversation_id": str(conversation_id)})
    data = {
        "alert_id": str(alert.id), "conversation_id": str(conversation_id), "severity": alert.severity,
        "message_ids": sorted({str(piece.message_id) for piece in evidence}),
    }  # fmt: skip
    await emit_alert_events(conn, actor, alert, data, before=None if before is None else before.severity)
    return alert


async def _find_open_alert(conn: Connection, conversation_id: UUID) -> Alert | None:
    # the id of a piece of evidence contains its time
    found = await conn.execute(
        "select * from alerts a where a.conversation_id = %s and a.state = any(%s) and exists ("
        "    select from alert_evidence e where e.tenant_id = a.tenant_id and e.alert_id = a.id "
        "    and e.id >= app.first_id(now() - %s::interval)) order by a.id desc limit 1 for update",
        (conversation_id, list(OPEN_STATES), _RECENT),
    )
    row = await found.fetchone()
    return None if row is None else alert_of(row)


async def _insert(
    conn: Connection,
    actor: Actor,
    conversation_id: UUID,
    evidence: Sequence[NewMessageEvidence],
    models: dict[str, str],
) -> Alert:
    made = await conn.execute(
        "insert into alerts (tenant_id, conversation_id, severity, categories, probability, models) "
        "values (%s, %s, %s, %s, %s, %s) returning *",
        (
            actor.tenant_id, conversation_id, max((piece.severity for piece in evidence), key=SEVERITIES.index),
            _categories(evidence), max(piece.probability for piece in evidence), Jsonb(models),
        ),
    )  # fmt: skip
    return alert_of(one(await made.fetchone()))


async def _update_alert(
    conn: Connection, before: Alert, evidence: Sequence[NewMessageEvidence], models: dict[str, str]
) -> Alert:
    severities = (before.severity, *(piece.severity for piece in evidence))
    moved = await conn.execute(
        "update alerts set severity = %s, categories = %s, probability = %s, models = %s, version = version + 1 "
        "where id = %s returning *",
        (
            max(severities, key=SEVERITIES.index), list(dict.fromkeys((*before.categories, *_categories(evidence)))),
            max(before.probability, *(piece.probability for piece in evidence)), Jsonb(before.models | models),
            before.id,
        ),
    )  # fmt: skip
    return alert_of(one(await moved.fetchone()))


def _categories(evidence: Sequence[NewMessageEvidence]) -> list[str]:
    likeliest_first = sorted(evidence, key=lambda piece: -piece.probability)
    return list(dict.fromkeys(piece.category for piece in likeliest_first))


async def _insert_evidence(
    conn: Connection, actor: Actor, alert_id: UUID, evidence: Sequence[NewMessageEvidence]
) -> None:
    rows: list[tuple[Any, ...]] = [
        (
            actor.tenant_id, alert_id, piece.message_id, piece.version, piece.category, piece.severity,
            piece.probability, piece.threshold, piece.model, piece.model_version,
        )
        for piece in evidence
    ]  # fmt: skip
    async with conn.cursor() as cursor:
        await cursor.executemany(
            "insert into alert_evidence (tenant_id, alert_id, message_id, message_version, category, severity, "
            "    probability, threshold, model, model_version, spans_due_at) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now())",
            rows,
        )


async def _presume_senders(conn: Connection, actor: Actor, alert_id: UUID) -> None:
    """As for calls: presumes that the alert is about the senders of the cited messages."""
    await presume_from_query(
        conn, actor, alert_id,
        "select m.sender_id from alert_evidence e "
        "join messages m on m.tenant_id = e.tenant_id and m.id = e.message_id",
    )  # fmt: skip
