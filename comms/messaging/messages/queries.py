"""Sends, lists, edits and deletes messages; earlier versions are kept.

Each change takes the next clock value under the conversation's row lock, and its event has the next event version. So
the events of a conversation have one order.
"""

from typing import Any, Final, Literal
from uuid import UUID

from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from comms.kernel.optimistic_locking import refuse_stale
from comms.messaging.attachments.queries import ATTACHED, attach
from comms.messaging.attachments.records import Attachment
from comms.messaging.conversation_clock import ClockTick, advance_clock
from comms.messaging.message_records import Message, MessageChange, NewFileMessage, NewMessage
from comms.outbox.queries import emit
from models.contract.errors import conflict, invalid, missing, refused

COLUMNS: Final = (
    "m.id, m.conversation_id, m.sender_id, m.sender_type, m.message_type, m.content, m.about, m.reply_to, "  # noqa: S608 (constants)
    "array(select n.user_id from message_mentions n where n.tenant_id = m.tenant_id and n.message_id = m.id "
    "order by n.user_id) as mentions, "
    "coalesce((select jsonb_agg(jsonb_build_object('user_id', r.user_id, 'reaction', r.reaction) "
    "order by r.created_at, r.user_id, r.reaction) from message_reactions r "
    "where r.tenant_id = m.tenant_id and r.message_id = m.id), '[]') as reactions, "
    f"case when m.deleted_at is null and m.message_type in ('file', 'voice') then {ATTACHED} else '[]' end "
    "as attachments, "
    "m.version, m.edited_at, m.deleted_at, m.created_at"
)
_SELECT: Final = f"select {COLUMNS} from messages m "  # noqa: S608 (constants)


async def read_message(conn: Connection, message_id: UUID) -> Message:
    """Raises `missing`, also if the actor was not a member when it was sent."""
    row = await (await conn.execute(f"{_SELECT} where m.id = %s", (message_id,))).fetchone()
    if row is None:
        raise missing("message")
    return Message.model_validate(row)


async def list_messages(
    conn: Connection, actor: Actor, conversation_id: UUID, *, before: UUID, limit: int
) -> list[Message]:
    """The messages that the actor may see in the conversation, newest first, before the id `before`.

    Raises `missing` if the actor was never a member.
    """
    stays = await conn.execute(
        "select exists (select from conversation_members where conversation_id = %s and user_id = %s) as any",
        (conversation_id, actor.user_id),
    )
    found = await conn.execute(
        f"{_SELECT} where m.conversation_id = %s and m.id < %s order by m.id desc limit %s",
        (conversation_id, before, limit),
    )
    if not one(await stays.fetchone())["any"]:
        raise missing("conversation")
    return [Message.model_validate(row) for row in await found.fetchall()]


async def send_message(conn: Connection, actor: Actor, new: NewMessage | NewFileMessage) -> Message:
    """Sends a message. Raises `missing` (conversation, message replied to, attachment), `invalid`
    (`mention-not-member`, `voice-not-sound`).
    """
    tick = await advance_clock(conn, actor, new.conversation_id)
    if new.reply_to is not None:
        await _refuse_unseen(conn, new.conversation_id, new.reply_to)
    if new.mentions:
        await _require_members(conn, new.conversation_id, new.mentions)
    sender_type: Literal["user", "integration"] = "integration" if actor.role == "service" else "user"
    await conn.execute(
        "insert into messages (tenant_id, id, conversation_id, sender_id, sender_type, message_type, content, "
        "reply_to, changed_id) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            actor.tenant_id, tick.id, new.conversation_id, actor.user_id, sender_type, new.message_type,
            new.content or "", new.reply_to, tick.id,
        ),
    )  # fmt: skip
    attachments = await _attached(conn, actor, new, tick) if isinstance(new, NewFileMessage) else ()
    mentions = sorted(set(new.mentions))
    if mentions:
        await conn.execute(
            "insert into message_mentions (tenant_id, message_id, user_id) select %s, %s, unnest(%s::uuid[])",
            (actor.tenant_id, tick.id, mentions),
        )
    message = Message(
        id=tick.id, conversation_id=new.conversation_id, sender_id=actor.user_id, sender_type=sender_type,
        message_type=new.message_type, content=new.content or "", reply_to=new.reply_to, mentions=tuple(mentions),
        attachments=attachments, version=1, edited_at=None, deleted_at=None, created_at=tick.at,
    )  # fmt: skip
    await _emit(conn, actor, "message.sent", message, tick)
    return message


async def edit_message(
    conn: Connection, actor: Actor, message_id: UUID, change: MessageChange, expected: int | None
) -> Message | None:
    """Replaces the text of a message and keeps the old text as a version.

    Returns None if `expected` is not the current version: then the new text is stored as a competing version, so no
    edit is lost. Raises `missing`, `refused` (`message-anothers`), a conflict (`message-deleted`).
    """
    message, tick = await _lock_own_message(conn, actor, message_id)
    if expected is not None and expected != message.version:
        await conn.execute(
            "insert into message_versions (tenant_id, message_id, standing, version, content, written_by, written_at) "
            "values (%s, %s, 'competing', %s, %s, %s, now())",
            (actor.tenant_id, message_id, max(expected, 1), change.content, actor.user_id),
        )
        await conn.execute("update messages set changed_id = %s where id = %s", (tick.id, message_id))
        await record_act(conn, actor, "message.edit-competed", ("message", message_id))
        return None
    await conn.execute(
        "update messages set content = %s, version = version + 1, changed_id = %s, edited_at = now() where id = %s",
        (change.content, tick.id, message_id),
    )
    await _emit(conn, actor, "message.edited", message, tick)
    return await read_message(conn, message_id)


async def delete_message(conn: Connection, actor: Actor, message_id: UUID, expected: int | None) -> None:
    """Deletes a message: nobody sees its text any more, but the officers can read it.

    Raises `missing`, `refused` (`message-anothers`), a conflict (`message-deleted`, `version-stale`).
    """
    message, tick = await _lock_own_message(conn, actor, message_id)
    refuse_stale(message.version, expected)
    await conn.execute(
        "update messages set content = null, version = version + 1, changed_id = %s, deleted_at = now() where id = %s",
        (tick.id, message_id),
    )
    await _emit(conn, actor, "message.deleted", message, tick)


async def _lock_own_message(conn: Connection, actor: Actor, message_id: UUID) -> tuple[Message, ClockTick]:
    """Returns the actor's own message and the clock value of the change; locks the conversation's row."""
    message = await read_message(conn, message_id)
    if message.sender_id != actor.user_id:
        raise refused("message-anothers", "Only the sender may change or delete a message.")
    tick = await advance_clock(conn, actor, message.conversation_id)
    if message_id <= tick.after_id:  # sent in an earlier membership: the actor may read but not change it
        raise missing("message")
    # read again: it may have changed while this transaction waited for the lock
    message = await read_message(conn, message_id)
    if message.deleted_at is not None:
        raise conflict("message-deleted", "The message is deleted and cannot be changed.")
    return message, tick


async def _refuse_unseen(conn: Connection, conversation_id: UUID, message_id: UUID) -> None:
    found = await conn.execute(
        "select 1 from messages where id = %s and conversation_id = %s", (message_id, conversation_id)
    )
    if await found.fetchone() is None:
        raise missing("message")


async def _attached(conn: Connection, actor: Actor, new: NewFileMessage, tick: ClockTick) -> tuple[Attachment, ...]:
    attachments = await attach(conn, actor, new.conversation_id, tick.id, new.attachments)
    if new.message_type == "voice" and [file.media_type.startswith("audio/") for file in attachments] != [True]:
        raise invalid("voice-not-sound", "A voice message must be exactly one audio file: send other files as `file`.")
    return attachments


async def _require_members(conn: Connection, conversation_id: UUID, people: tuple[UUID, ...]) -> None:
    found = await conn.execute(
        "select count(*) as n from conversation_members "
        "where conversation_id = %s and user_id = any(%s) and until_id is null",
        (conversation_id, list(people)),
    )
    if one(await found.fetchone())["n"] != len(set(people)):
        raise invalid("mention-not-member", "Only members of the conversation can be mentioned.")


async def _emit(
    conn: Connection,
    actor: Actor,
    what: Literal["message.sent", "message.edited", "message.deleted"],
    message: Message,
    tick: ClockTick,
) -> None:
    data: dict[str, Any] = {
        "conversation_id": str(message.conversation_id), "message_id": str(message.id), "moment": str(tick.id),
    }  # fmt: skip
    aggregate = ("conversation", message.conversation_id)
    await emit(conn, actor, what, aggregate=aggregate, version=tick.event_version, data=data)
    await record_act(conn, actor, what, ("message", message.id), {"conversation_id": str(message.conversation_id)})
