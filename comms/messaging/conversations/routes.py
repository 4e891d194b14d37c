"""Conversations, who is in them and what they have read, over HTTP. A conversation's version is its ETag."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response

from comms.messaging.conversations import members, queries, receipts
from comms.messaging.conversations.members import NewMember
from comms.messaging.conversations.queries import (
    Conversation,
    ConversationChange,
    ConversationMember,
    ListedConversation,
    NewConversation,
)
from comms.messaging.conversations.receipts import NewReceipt
from comms.web.dependencies import Acting, IfMatch, acting_with, tag
from comms.web.pagination import LAST_ID, Cursor, Limit, Page
from comms.web.problems import problem_responses
from comms.web.route_class import PlatformRoute

router = APIRouter(prefix="/api/conversations", tags=["conversations"], route_class=PlatformRoute)

Reading = Annotated[Acting, acting_with("conversations.read")]
Writing = Annotated[Acting, acting_with("conversations.write")]


@router.post("", status_code=201, responses={200: {"description": "The two people's direct conversation, as it is"}})
async def make_conversation(new: NewConversation, acting: Writing, response: Response) -> Conversation:
    """Makes a conversation; two people have one direct conversation, and whoever asks again gets that (200)."""
    conversation, made = await members.make_conversation(acting.conn, acting.actor, new)
    response.status_code = 201 if made else 200
    response.headers["Location"] = f"/api/conversations/{conversation.id}"
    tag(response, conversation.version)
    return conversation


@router.get("")
async def list_conversations(acting: Reading, cursor: Cursor = None, limit: Limit = 50) -> Page[ListedConversation]:
    """One's own conversations, the last active first, with what is unread and the last message."""
    found = await queries.list_conversations(acting.conn, acting.actor, before=cursor or LAST_ID, limit=limit + 1)
    items = tuple(found[:limit])
    return Page(items=items, next=items[-1].activity if len(found) > limit else None)


@router.get("/{conversation_id}")
async def read_conversation(conversation_id: UUID, acting: Reading, response: Response) -> Conversation:
    """One conversation with those who are in it."""
    conversation = await queries.read_conversation(acting.conn, conversation_id)
    tag(response, conversation.version)
    return conversation


@router.put("/{conversation_id}", responses=problem_responses(412))
async def change_conversation(
    conversation_id: UUID, change: ConversationChange, acting: Writing, expected: IfMatch, response: Response
) -> Conversation:
    """Changes what the body names; a changed `history` is for those who are added from then on."""
    changed = await queries.change_conversation(acting.conn, acting.actor, conversation_id, change, expected)
    tag(response, changed.version)
    return changed


@router.post("/{conversation_id}/members", status_code=201)
async def add_conversation_member(
    conversation_id: UUID, new: NewMember, acting: Writing, response: Response
) -> ConversationMember:
    """Brings somebody in."""
    member = await members.add_member(acting.conn, acting.actor, conversation_id, new)
    response.headers["Location"] = f"/api/conversations/{conversation_id}/members/{new.user_id}"
    return member


@router.get("/{conversation_id}/members/{user_id}")
async def read_conversation_member(conversation_id: UUID, user_id: UUID, acting: Reading) -> ConversationMember:
    """One who is in the conversation."""
    return await members.read_member(acting.conn, conversation_id, user_id)


@router.delete("/{conversation_id}/members/{user_id}", status_code=204, responses=problem_responses(412))
async def remove_conversation_member(conversation_id: UUID, user_id: UUID, acting: Reading, expected: IfMatch) -> None:
    """They leave, and keep what they saw until now; one's own leaving is everybody's right, others' is for staff."""
    await members.remove_member(acting.conn, acting.actor, conversation_id, user_id, expected)


@router.post("/{conversation_id}/read", status_code=204)
async def note_messages_read(conversation_id: UUID, receipt: NewReceipt, acting: Reading) -> None:
    """Whoever asks has read the conversation up to this message."""
    await receipts.give_receipt(acting.conn, acting.actor, conversation_id, "read", receipt)


@router.post("/{conversation_id}/delivered", status_code=204)
async def note_messages_delivered(conversation_id: UUID, receipt: NewReceipt, acting: Reading) -> None:
    """The conversation has reached a device of whoever asks, up to this message."""
    await receipts.give_receipt(acting.conn, acting.actor, conversation_id, "delivered", receipt)
