"""Who is in a conversation: brought in by staff who are in it, leaving by themselves or removed.

Residents and people from outside take part in what staff made for them: there is always somebody of the staff, and
none but staff in a care team's.
"""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from comms.audit.queries import record_act
from comms.conversations.moments import BEFORE_ALL, Moment, take_moment
from comms.conversations.queries import (
    Conversation,
    ConversationMember,
    NewConversation,
    find_direct,
    insert_conversation,
    read_conversation,
)
from comms.database import Actor, Connection
from comms.events.queries import EventType, emit
from comms.identity.roles import PERMISSIONS, refuse_unless
from comms.presence.queries import Place, take_out
from comms.versions import refuse_stale
from models.errors import conflict, invalid, missing
from models.records import Record

_STAFF: Final = PERMISSIONS["conversations.write"]
_MEMBERS: Final = PERMISSIONS["conversations.read"]


class NewMember(Record):
    """Somebody to bring in."""

    user_id: UUID


async def make_conversation(conn: Connection, actor: Actor, new: NewConversation) -> tuple[Conversation, bool]:
    """The conversation with its members, and whether it is new: two people have one direct conversation.

    Raises `missing` (person, resident), `invalid` (`direct-needs-two`, `member-role`).
    """
    others = set(new.members) - {actor.user_id}
    if new.conversation_type == "direct":
        if len(others) != 1 or len(new.members) != 1:
            raise invalid("direct-needs-two", "A direct conversation has exactly one member beside who makes it.")
        await _refuse_unfit(conn, others, new.conversation_type)
        known = await find_direct(conn, actor.user_id, new.members[0])
        if known is not None:
            return await read_conversation(conn, known), False
    else:
        await _refuse_unfit(conn, others, new.conversation_type)
    conversation_id = await insert_conversation(conn, actor, new)
    await _insert_members(conn, actor, conversation_id, others, after=conversation_id)
    moment = await take_moment(conn, actor, conversation_id)
    data = {"conversation_id": str(conversation_id), "moment": str(moment.id)}
    of = ("conversation", conversation_id)
    await emit(conn, actor, "conversation.created", aggregate=of, version=moment.event_version, data=data)
    return await read_conversation(conn, conversation_id), True


async def add_member(conn: Connection, actor: Actor, conversation_id: UUID, new: NewMember) -> ConversationMember:
    """Brings somebody in, from now on or with the history, as the conversation's setting says.

    Their stay begins just before this moment, so that they see and hear that they joined. Raises `missing`
    (conversation, person), `invalid` (`member-role`), a conflict (`direct-conversation`, `already-member`).
    """
    moment = await take_moment(conn, actor, conversation_id)
    conversation = await read_conversation(conn, conversation_id)
    _refuse_direct(conversation)
    if any(member.user_id == new.user_id for member in conversation.members):
        raise conflict("already-member", "This person is in the conversation already.")
    await _refuse_unfit(conn, {new.user_id}, conversation.conversation_type)
    after = BEFORE_ALL if conversation.settings.history == "whole" else moment.before
    await _insert_members(conn, actor, conversation_id, {new.user_id}, after=after)
    await _raise_version(conn, conversation_id)
    await _tell(conn, actor, "conversation.member.joined", moment, conversation_id=conversation_id, user_id=new.user_id)
    return await read_member(conn, conversation_id, new.user_id)


async def remove_member(
    conn: Connection, actor: Actor, conversation_id: UUID, user_id: UUID, expected: int | None
) -> None:
    """They see nothing that comes later; staff of the conversation remove anybody, everybody themselves.

    Raises `missing` (conversation, member), `refused`, a conflict (`version-stale`, `direct-conversation`,
    `last-of-staff`).
    """
    moment = await take_moment(conn, actor, conversation_id)
    refuse_stale(moment.version, expected)
    conversation = await read_conversation(conn, conversation_id)
    if user_id != actor.user_id:
        refuse_unless(actor, "conversations.write")
    _refuse_direct(conversation)
    staying = {member.user_id for member in conversation.members} - {user_id}
    if len(staying) == len(conversation.members):
        raise missing("member")
    await _refuse_without_staff(conn, staying)
    await record_act(
        conn, actor, "conversation.member.removed", ("conversation", conversation_id), {"user_id": str(user_id)}
    )
    await _raise_version(conn, conversation_id)  # before the stay ends: whoever leaves may change nothing after it
    await conn.execute(
        "update conversation_members set until_id = %s, left_at = now() "
        "where conversation_id = %s and user_id = %s and until_id is null",
        (moment.id, conversation_id, user_id),
    )
    await take_out(conn, Place("conversation", conversation_id), user_id)
    await _tell(conn, actor, "conversation.member.left", moment, conversation_id=conversation_id, user_id=user_id)


async def refuse_strangers(conn: Connection, actor: Actor, conversation_id: UUID) -> None:
    """Raises `missing` where the actor is not in the conversation; else they are, until the transaction ends."""
    found = await conn.execute(
        "select 1 from conversation_members where conversation_id = %s and user_id = %s and until_id is null for share",
        (conversation_id, actor.user_id),
    )
    if await found.fetchone() is None:
        raise missing("conversation")


async def read_member(conn: Connection, conversation_id: UUID, user_id: UUID) -> ConversationMember:
    """Raises `missing` (conversation, member)."""
    for member in (await read_conversation(conn, conversation_id)).members:
        if member.user_id == user_id:
            return member
    raise missing("member")


async def _insert_members(
    conn: Connection, actor: Actor, conversation_id: UUID, people: Collection[UUID], *, after: UUID
) -> None:
    await conn.execute(
        "insert into conversation_members (tenant_id, conversation_id, user_id, added_by, after_id) "
        "select %s, %s, unnest(%s::uuid[]), %s, %s",
        (actor.tenant_id, conversation_id, sorted(people), actor.user_id, after),
    )
    for user_id in sorted(people):
        added = {"user_id": str(user_id)}
        await record_act(conn, actor, "conversation.member.added", ("conversation", conversation_id), added)


async def _tell(
    conn: Connection, actor: Actor, what: EventType, moment: Moment, *, conversation_id: UUID, user_id: UUID
) -> None:
    """`message_id`: what the house says of it in the conversation (`app.say_who_came_or_went`)."""
    data = {
        "conversation_id": str(conversation_id), "moment": str(moment.id), "message_id": str(moment.id),
        "user_id": str(user_id),
    }  # fmt: skip
    await emit(conn, actor, what, aggregate=("conversation", conversation_id), version=moment.event_version, data=data)


async def _raise_version(conn: Connection, conversation_id: UUID) -> None:
    await conn.execute(
        "update conversations set version = version + 1, updated_at = now() where id = %s", (conversation_id,)
    )


async def _refuse_unfit(conn: Connection, people: Collection[UUID], conversation_type: str) -> None:
    found = await conn.execute("select role from users where id = any(%s) and active", (list(people),))
    roles = [row["role"] for row in await found.fetchall()]
    if len(roles) != len(people):
        raise missing("person")
    if not set(roles) <= (_STAFF if conversation_type == "care_team" else _MEMBERS):
        raise invalid(
            "member-role",
            "A care team's conversation is for staff; the others for staff, residents and people from outside.",
        )


async def _refuse_without_staff(conn: Connection, people: Collection[UUID]) -> None:
    """An empty conversation harms nobody; one of residents and strangers among themselves was made by nobody."""
    found = await conn.execute("select role from users where id = any(%s)", (list(people),))
    roles = {row["role"] for row in await found.fetchall()}
    if roles and not roles & _STAFF:
        raise conflict("last-of-staff", "Nobody of the staff would be left with these members: add somebody first.")


def _refuse_direct(conversation: Conversation) -> None:
    if conversation.conversation_type == "direct":
        raise conflict("direct-conversation", "A direct conversation is of its two people: make a group instead.")
