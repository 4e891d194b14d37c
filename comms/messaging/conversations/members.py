"""Members of a conversation: staff who are members add people; members leave or are removed.

Residents and external people take part only in conversations that staff made for them. So at least one member is always
staff, and a care team's conversation has only staff.
"""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from comms.kernel.access.roles import PERMISSIONS, refuse_unless
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection
from comms.kernel.optimistic_locking import refuse_stale
from comms.messaging.conversation_clock import BEGINNING, ClockTick, advance_clock
from comms.messaging.conversations.queries import (
    Conversation,
    ConversationMember,
    NewConversation,
    find_direct,
    insert_conversation,
    read_conversation,
)
from comms.outbox.queries import EventType, emit
from models.contract.errors import conflict, invalid, missing
from models.contract.records import Record

_STAFF: Final = PERMISSIONS["conversations.write"]
_MEMBERS: Final = PERMISSIONS["conversations.read"]


class NewMember(Record):
    """The user to add."""

    user_id: UUID


async def make_conversation(conn: Connection, actor: Actor, new: NewConversation) -> tuple[Conversation, bool]:
    """Makes a conversation with its members. Returns it, and whether it is new: two people have only one direct
    conversation.

    Raises `missing` (person, resident), `invalid` (`direct-needs-two`, `member-role`).
    """
    others = set(new.members) - {actor.user_id}
    if new.conversation_type == "direct":
        if len(others) != 1 or len(new.members) != 1:
            raise invalid("direct-needs-two", "A direct conversation needs exactly one user in `members`.")
        await _refuse_unfit(conn, others, new.conversation_type)
        known = await find_direct(conn, actor.user_id, new.members[0])
        if known is not None:
            return await read_conversation(conn, known), False
    else:
        await _refuse_unfit(conn, others, new.conversation_type)
    conversation_id = await insert_conversation(conn, actor, new)
    await _insert_members(conn, actor, conversation_id, others, after=conversation_id)
    tick = await advance_clock(conn, actor, conversation_id)
    data = {"conversation_id": str(conversation_id), "moment": str(tick.id)}
    of = ("conversation", conversation_id)
    await emit(conn, actor, "conversation.created", aggregate=of, version=tick.event_version, data=data)
    return await read_conversation(conn, conversation_id), True


async def add_member(conn: Connection, actor: Actor, conversation_id: UUID, new: NewMember) -> ConversationMember:
    """Adds a member, with or without the earlier history, as the conversation's settings say.

    The membership begins just before this clock value, so the new member also receives the event of joining. Raises
    `missing` (conversation, person), `invalid` (`member-role`), a conflict (`direct-conversation`, `already-member`).
    """
    tick = await advance_clock(conn, actor, conversation_id)
    conversation = await read_conversation(conn, conversation_id)
    _refuse_direct(conversation)
    if any(member.user_id == new.user_id for member in conversation.members):
        raise conflict("already-member", "This person is already a member of the conversation.")
    await _refuse_unfit(conn, {new.user_id}, conversation.conversation_type)
    after = BEGINNING if conversation.settings.history == "whole" else tick.before
    await _insert_members(conn, actor, conversation_id, {new.user_id}, after=after)
    await _raise_version(conn, conversation_id)
    await _emit(conn, actor, "conversation.member.joined", tick, conversation_id=conversation_id, user_id=new.user_id)
    return await read_member(conn, conversation_id, new.user_id)


async def remove_member(
    conn: Connection, actor: Actor, conversation_id: UUID, user_id: UUID, expected: int | None
) -> None:
    """Ends a membership: the user sees nothing that comes later. Staff may remove any member; all members may leave.

    Raises `missing` (conversation, member), `refused`, a conflict (`version-stale`, `direct-conversation`,
    `last-of-staff`).
    """
    tick = await advance_clock(conn, actor, conversation_id)
    refuse_stale(tick.version, expected)
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
    await _raise_version(conn, conversation_id)  # first, because the policy forbids it after the membership has ended
    await conn.execute(
        "update conversation_members set until_id = %s, left_at = now() "
        "where conversation_id = %s and user_id = %s and until_id is null",
        (tick.id, conversation_id, user_id),
    )
    await conn.execute(  # the member's presence ends, too, on all of their sockets
        "delete from presences where place_type = 'conversation' and place_id = %s and user_id = %s",
        (conversation_id, user_id),
    )
    await _emit(conn, actor, "conversation.member.left", tick, conversation_id=conversation_id, user_id=user_id)


async def require_member(conn: Connection, actor: Actor, conversation_id: UUID) -> None:
    """Raises `missing` if the actor is not a member. Locks the membership until the transaction ends."""
    found = await conn.execute(
        "select 1 from conversation_members where conversation_id = %s and user_id = %s and until_id is null for share",
        (conversation_id, actor.user_id),
    )
    if await found.fetchone() is None:
        raise missing("conversation")


async def read_member(conn: Connection, conversation_id: UUID, user_id: UUID) -> ConversationMember:
    """Reads one member; raises `missing` (conversation, member)."""
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


async def _emit(
    conn: Connection, actor: Actor, what: EventType, tick: ClockTick, *, conversation_id: UUID, user_id: UUID
) -> None:
    """Emits a membership event. `message_id` is the system message about it
    (`app.say_who_came_or_went`).
    """
    data = {
        "conversation_id": str(conversation_id), "moment": str(tick.id), "message_id": str(tick.id),
        "user_id": str(user_id),
    }  # fmt: skip
    await emit(conn, actor, what, aggregate=("conversation", conversation_id), version=tick.event_version, data=data)


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
            "A care team's conversation is only for staff; others are for staff, residents and external people.",
        )


async def _refuse_without_staff(conn: Connection, people: Collection[UUID]) -> None:
    """Raises a conflict (`last-of-staff`) if residents or external people would be left without staff.

    A conversation without any member is allowed.
    """
    found = await conn.execute("select role from users where id = any(%s)", (list(people),))
    roles = {row["role"] for row in await found.fetchall()}
    if roles and not roles & _STAFF:
        raise conflict("last-of-staff", "These members would be left without staff: add a member of staff first.")


def _refuse_direct(conversation: Conversation) -> None:
    if conversation.conversation_type == "direct":
        raise conflict("direct-conversation", "A direct conversation keeps its members: make a group instead.")
