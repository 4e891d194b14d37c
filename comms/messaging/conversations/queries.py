"""Conversations: direct, group, care team, family. Only their members can see them.

A conversation has one clock. Its values are UUIDv7s; each is taken under the conversation's row lock and is later than
the one before. Message ids and the begin and end of memberships are clock values, so it is always clear who saw what.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import uuid_utils.compat as uuid_utils
from pydantic import Field

from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from comms.kernel.optimistic_locking import refuse_stale
from comms.kernel.text_types import Name
from comms.messaging.conversation_clock import advance_clock
from comms.messaging.message_records import About, MessageType
from comms.outbox.queries import emit
from models.contract.errors import missing
from models.contract.records import Record

ConversationType = Literal["direct", "group", "care_team", "family"]
History = Literal["from_joining", "whole"]

Reference = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$")]


class ConversationSettings(Record):
    """`history`: what members who are added later see of earlier messages."""

    history: History = "from_joining"


class CareContext(Record):
    """The residents that the conversation is about, and references to incidents (codes, no text)."""

    residents: tuple[UUID, ...] = Field(default=(), max_length=100)
    incidents: tuple[Reference, ...] = Field(default=(), max_length=100)


class NewConversation(Record):
    """`members`: all members except the caller. A direct conversation has exactly one."""

    conversation_type: ConversationType
    title: Name | None = Field(default=None, min_length=1, max_length=255, repr=False)
    members: tuple[UUID, ...] = Field(min_length=1, max_length=200)
    settings: ConversationSettings = ConversationSettings()
    care_context: CareContext = CareContext()


class ConversationChange(Record):
    """The fields to change; a field that is not set stays as it is."""

    title: Name | None = Field(default=None, min_length=1, max_length=255, repr=False)
    settings: ConversationSettings | None = None
    care_context: CareContext | None = None


class ConversationMember(Record):
    """A member, with the time of joining and the user who added them."""

    user_id: UUID
    added_by: UUID
    joined_at: datetime


class Conversation(Record):
    """A conversation with its present members. `version` increases when title, settings, context or members change."""

    id: UUID
    conversation_type: ConversationType
    title: str | None = Field(repr=False)
    settings: ConversationSettings
    care_context: CareContext
    members: tuple[ConversationMember, ...] = Field(repr=False)
    created_by: UUID
    version: int
    created_at: datetime
    updated_at: datetime


class LastMessage(Record):
    """The last message, as a list shows it."""

    id: UUID
    sender_id: UUID | None
    message_type: MessageType
    content: str | None = Field(repr=False)
    about: About | None = None
    created_at: datetime


class ListedConversation(Conversation):
    """A conversation in its member's list. `activity` orders the list; `unread` counts unread messages of others."""

    activity: UUID
    unread: int
    last_message: LastMessage | None


_COLUMNS: Final = (
    "c.id, c.conversation_type, c.title, jsonb_build_object('history', c.history) as settings, "
    "jsonb_build_object('incidents', c.incidents, 'residents', "
    "coalesce((select jsonb_agg(r.user_id order by r.user_id) from conversation_residents r "
    "where r.tenant_id = c.tenant_id and r.conversation_id = c.id), '[]')) "
    "as care_context, "
    "coalesce((select jsonb_agg(jsonb_build_object('user_id', m.user_id, 'added_by', m.added_by, "
    "'joined_at', m.joined_at) order by m.id) from conversation_members m "
    "where m.tenant_id = c.tenant_id and m.conversation_id = c.id and m.until_id is null), '[]') as members, "
    "c.created_by, c.version, c.created_at, c.updated_at "
)
_SELECT: Final = f"select {_COLUMNS} from conversations c "  # noqa: S608 (constants)
# One statement. For each conversation it counts messages after the last receipt and reads the last message that the
# member sees.
_LIST: Final = (
    f"select {_COLUMNS}, c.moment as activity, "  # noqa: S608 (constants)
    "(select count(*) from messages n where n.tenant_id = c.tenant_id and n.conversation_id = c.id "
    "and n.id > greatest(own.after_id, seen.up_to) and n.sender_id <> own.user_id "  # system messages do not count
    "and n.deleted_at is null) as unread, "
    "(select to_jsonb(l) from (select w.id, w.sender_id, w.message_type, w.content, w.about, w.created_at "
    "from messages w "
    "where w.tenant_id = c.tenant_id and w.conversation_id = c.id order by w.id desc limit 1) l) as last_message "
    "from conversation_members own "
    "join conversations c on c.tenant_id = own.tenant_id and c.id = own.conversation_id "
    "left join lateral (select r.up_to from conversation_receipts r where r.tenant_id = own.tenant_id "
    "and r.conversation_id = own.conversation_id and r.user_id = own.user_id and r.kind = 'read' "
    "order by r.up_to desc limit 1) seen on true "
    "where own.user_id = %(actor)s and own.until_id is null and c.moment < %(before)s "
    "order by c.moment desc limit %(limit)s"
)


async def read_conversation(conn: Connection, conversation_id: UUID) -> Conversation:
    """Raises `missing`, also if the actor is not a member (any more)."""
    found = await conn.execute(f"{_SELECT} where c.id = %s", (conversation_id,))
    row = await found.fetchone()
    if row is None:
        raise missing("conversation")
    return Conversation.model_validate(row)


async def list_conversations(conn: Connection, actor: Actor, *, before: UUID, limit: int) -> list[ListedConversation]:
    """The actor's conversations before the clock value `before`, the one with the last activity first."""
    found = await conn.execute(_LIST, {"actor": actor.user_id, "before": before, "limit": limit})
    return [ListedConversation.model_validate(row) for row in await found.fetchall()]


async def find_direct(conn: Connection, one_person: UUID, another: UUID) -> UUID | None:
    """The direct conversation of two people, or None. An advisory lock keeps others from making one until the
    transaction ends.
    """
    pair = sorted((one_person, another))
    await conn.execute("select pg_advisory_xact_lock(hashtextextended(%s, 11))", (f"{pair[0]}/{pair[1]}",))
    found = await conn.execute(
        "select id from conversations where first_person = %s and second_person = %s", (pair[0], pair[1])
    )
    row = await found.fetchone()
    return None if row is None else row["id"]


async def insert_conversation(conn: Connection, actor: Actor, new: NewConversation) -> UUID:
    """Inserts a conversation with the actor as its only member; returns its id. Raises `missing` (resident)."""
    conversation_id = uuid_utils.uuid7()
    direct = new.conversation_type == "direct"
    pair = sorted((actor.user_id, new.members[0])) if direct else [None, None]
    await conn.execute(
        "insert into conversations (tenant_id, id, conversation_type, title, history, incidents, first_person, "
        "second_person, created_by, moment) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            actor.tenant_id, conversation_id, new.conversation_type, new.title, new.settings.history,
            list(new.care_context.incidents), *pair, actor.user_id, conversation_id,
        ),
    )  # fmt: skip
    await _write_residents(conn, actor, conversation_id, new.care_context)
    await record_act(conn, actor, "conversation.created", ("conversation", conversation_id))
    return conversation_id


async def change_conversation(
    conn: Connection, actor: Actor, conversation_id: UUID, change: ConversationChange, expected: int | None
) -> Conversation:
    """Changes the fields that are set. Raises `missing` (conversation, resident), a conflict (`version-stale`)."""
    tick = await advance_clock(conn, actor, conversation_id)
    refuse_stale(tick.version, expected)
    incidents = list(change.care_context.incidents) if change.care_context is not None else None
    await conn.execute(
        "update conversations set title = case when %(retitle)s then %(title)s else title end, "
        "history = coalesce(%(history)s, history), incidents = coalesce(%(incidents)s, incidents), "
        "version = version + 1, updated_at = now() where id = %(id)s",
        {
            "id": conversation_id, "retitle": "title" in change.model_fields_set, "title": change.title,
            "history": change.settings.history if change.settings is not None else None, "incidents": incidents,
        },
    )  # fmt: skip
    if change.care_context is not None:
        await _write_residents(conn, actor, conversation_id, change.care_context)
    fields: dict[str, Any] = {"fields": sorted(change.model_fields_set)}
    await record_act(conn, actor, "conversation.changed", ("conversation", conversation_id), fields)
    data = {"conversation_id": str(conversation_id), "moment": str(tick.id), **fields}
    of = ("conversation", conversation_id)
    await emit(conn, actor, "conversation.changed", aggregate=of, version=tick.event_version, data=data)
    return await read_conversation(conn, conversation_id)


async def _write_residents(conn: Connection, actor: Actor, conversation_id: UUID, context: CareContext) -> None:
    residents = sorted(set(context.residents))
    await conn.execute(
        "delete from conversation_residents where conversation_id = %s and user_id <> all(%s)",
        (conversation_id, residents),
    )
    if not residents:
        return
    known = await conn.execute("select count(*) as n from users where id = any(%s) and role = 'resident'", (residents,))
    if one(await known.fetchone())["n"] != len(residents):
        raise missing("resident")
    await conn.execute(
        "insert into conversation_residents (tenant_id, conversation_id, user_id) select %s, %s, unnest(%s::uuid[]) "
        "on conflict do nothing",
        (actor.tenant_id, conversation_id, residents),
    )
