"""The messages that an alert cites, for whoever may see the alert: nobody else is led to them.

`open_messages` says to the transaction which alert is open; row-level security then shows the messages that this one
cites and the few around them, members or not. Whoever opens an alert is in the log of acts with it.
"""

from uuid import UUID

from comms.alerts.records import ContextMessage, MessageEvidence
from comms.database import Connection
from comms.messages.words import all_words, words_inside


async def open_messages(conn: Connection, alert_id: UUID) -> None:
    """From now until the transaction ends, whoever acts sees the messages of this alert, if they see the alert."""
    await conn.execute("select set_config('app.alert_id', %s, true)", (str(alert_id),))


async def list_message_evidence(conn: Connection, alert_id: UUID) -> tuple[MessageEvidence, ...]:
    """The words as they stood when they were read: an edit since then hides nothing."""
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
    inside = await words_inside(conn, {row["message_id"] for row in cited})
    return tuple(
        MessageEvidence(**row | {"text": all_words(row["text"] or "", inside.get(row["message_id"]))}) for row in cited
    )


async def list_message_context(conn: Connection) -> tuple[ContextMessage, ...]:
    """What was written at and around the evidence of the open alert, in order."""
    rows = await conn.execute(
        "select id as message_id, version, sender_id, content, created_at as sent_at from messages "
        "where id = any((select app.messages_opened())::uuid[]) order by id"
    )
    return tuple([ContextMessage(**row) async for row in rows])
