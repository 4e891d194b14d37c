"""Reads the messages that an alert cites, for actors who may see the alert and only for them.

`open_messages` sets the open alert of the transaction. Row-level security then also shows the messages that it cites
and a few around them to actors who are not members. `view_alert` records in the audit log who opened the alert.
"""

from uuid import UUID

from comms.kernel.database import Connection
from comms.safeguarding.alerts.records import ContextMessage, MessageEvidence
from comms.safeguarding.message_text import attachment_texts, with_attachment_text


async def open_messages(conn: Connection, alert_id: UUID) -> None:
    """Shows the messages of this alert to the actor until the transaction ends, if the actor may see the alert."""
    await conn.execute("select set_config('app.alert_id', %s, true)", (str(alert_id),))


async def list_message_evidence(conn: Connection, alert_id: UUID) -> tuple[MessageEvidence, ...]:
    """Returns the cited messages in their assessed version: a later edit hides nothing."""
    rows = await conn.execute(
        "select e.message_id, e.message_version as version, m.sender_id, m.created_at as sent_at, "
        "    case when m.version = e.message_version then m.content else v.content end as text, "
        "    e.category, e.severity, e.probability, e.threshold, e.model, e.model_version, e.spans, "
        "    e.spans_due_at is null as explained "
        "from alert_evidence e join messages m on m.tenant_id = e.tenant_id and m.id = e.message_id "
        "left join message_versions v on v.tenant_id = m.tenant_id and v.message_id = m.id "
        "    and v.version = e.message_version and v.standing = 'former' "
        "where e.alert_id = %s order by e.message_id, e.message_version, e.probability desc",
        (alert_id,),
    )
    cited = await rows.fetchall()
    inside = await attachment_texts(conn, {row["message_id"] for row in cited})
    return tuple(
        MessageEvidence(**row | {"text": with_attachment_text(row["text"] or "", inside.get(row["message_id"]))})
        for row in cited
    )


async def list_message_context(conn: Connection) -> tuple[ContextMessage, ...]:
    """Returns the messages at and near the evidence of the open alert, in order."""
    rows = await conn.execute(
        "select id as message_id, version, sender_id, content, created_at as sent_at from messages "
        "where id = any((select app.messages_opened())::uuid[]) order by id"
    )
    return tuple([ContextMessage(**row) async for row in rows])
