"""Receipts: up to which message a conversation was delivered to a member, and up to which they have read it."""

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from comms.kernel.database import Actor, Connection
from models.contract.errors import missing
from models.contract.records import Record

ReceiptKind = Literal["delivered", "read"]


class NewReceipt(Record):
    """`up_to`: the last message of the receipt. The receipt also covers all messages before it."""

    up_to: UUID


class Receipt(Record):
    """When a message was first reported as delivered to a member and as read by them. Read implies delivered."""

    user_id: UUID
    delivered_at: datetime | None
    read_at: datetime | None


_OF_MESSAGE: Final = (
    "select s.user_id, min(r.created_at) as delivered_at, "
    "min(r.created_at) filter (where r.kind = 'read') as read_at "
    "from messages m "
    "join conversation_members s on s.tenant_id = m.tenant_id and s.conversation_id = m.conversation_id "
    "and s.until_id is null and s.after_id < m.id and s.user_id is distinct from m.sender_id "
    "left join conversation_receipts r on r.tenant_id = s.tenant_id and r.conversation_id = s.conversation_id "
    "and r.user_id = s.user_id and r.up_to >= m.id "
    "where m.id = %s group by s.user_id order by s.user_id"
)


async def give_receipt(
    conn: Connection, actor: Actor, conversation_id: UUID, kind: ReceiptKind, receipt: NewReceipt
) -> None:
    """Stores a receipt of the actor. A repeated receipt, or one for an older message, changes nothing. Raises
    `missing`.
    """
    given = await conn.execute(
        "select exists (select from conversation_members where conversation_id = %(conversation)s "
        "and user_id = %(actor)s and until_id is null) and exists (select from messages "
        "where id = %(up_to)s and conversation_id = %(conversation)s) as possible",
        {"conversation": conversation_id, "actor": actor.user_id, "up_to": receipt.up_to},
    )
    found = await given.fetchone()
    if found is None or not found["possible"]:
        raise missing("message")
    await conn.execute(
        "insert into conversation_receipts (tenant_id, conversation_id, user_id, kind, up_to) "
        "select %(tenant)s, %(conversation)s, %(actor)s, %(kind)s, %(up_to)s where not exists "
        "(select from conversation_receipts where conversation_id = %(conversation)s and user_id = %(actor)s "
        "and kind = %(kind)s and up_to >= %(up_to)s) on conflict do nothing",
        {
            "tenant": actor.tenant_id, "conversation": conversation_id, "actor": actor.user_id, "kind": kind,
            "up_to": receipt.up_to,
        },
    )  # fmt: skip


async def list_receipts(conn: Connection, message_id: UUID) -> list[Receipt]:
    """The receipts of all present members who may see the message, except its sender. Empty if the actor is not a
    member.
    """
    found = await conn.execute(_OF_MESSAGE, (message_id,))
    return [Receipt.model_validate(row) for row in await found.fetchall()]


async def note_delivered(conn: Connection, actor: Actor, *, after: int, until: int) -> None:
    """Stores a `delivered` receipt in each conversation whose messages the actor received in the event positions
    (`after`, `until`].

    A receipt for a message older than the actor's last receipt changes nothing.
    """
    await conn.execute(
        "insert into conversation_receipts (tenant_id, conversation_id, user_id, kind, up_to) "
        "select distinct on (e.aggregate_id) e.tenant_id, e.aggregate_id, s.user_id, 'delivered', m.id "
        "from events e join conversation_members s on s.tenant_id = e.tenant_id "
        "and s.conversation_id = e.aggregate_id and s.user_id = %(actor)s and s.until_id is null "
        "join messages m on m.tenant_id = e.tenant_id and m.id = (e.data ->> 'message_id')::uuid "
        "where e.position > %(after)s and e.position <= %(until)s and e.type = 'message.sent' and m.id > s.after_id "
        "and m.sender_id <> s.user_id and not exists (select from conversation_receipts r "
        "    where r.tenant_id = e.tenant_id and r.conversation_id = e.aggregate_id and r.user_id = s.user_id "
        "    and r.kind = 'delivered' and r.up_to >= m.id) "
        "order by e.aggregate_id, e.position desc on conflict do nothing",
        {"actor": actor.user_id, "after": after, "until": until},
    )
