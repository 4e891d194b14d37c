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
from comms.web.dependencies import AuthorisedRequest, IfMatch, authorised_for, set_etag
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page
from comms.web.problems import problem_responses
from comms.web.route_class import PlatformRoute

router = APIRouter(prefix="/api/conversations", tags=["conversations"], route_class=PlatformRoute)

ReadAccess = Annotated[AuthorisedRequest, authorised_for("conversations.read")]
WriteAccess = Annotated[AuthorisedRequest, authorised_for("conversations.write")]


@router.post("", status_code=201, responses={200: {"description": "The two people's direct conversation, as it is"}})
async def make_conversation(new: NewConversation, authorised: WriteAccess, response: Response) -> Conversation:
    """Makes a conversation; two people have one direct conversation, and whoever asks again gets that (200)."""
    conversation, made = await members.make_conversation(authorised.conn, authorised.actor, new)
    response.status_code = 201 if made else 200
    response.headers["Location"] = f"/api/conversations/{conversation.id}"
    set_etag(response, conversation.version)
    return conversation


@router.get("")
async def list_conversations(
    authorised: ReadAccess, cursor: Cursor = None, limit: Limit = 50
) -> Page[ListedConversation]:
    """One's own conversations, the last active first, with what is unread and the last message."""
    found = await queries.list_conversations(
        authorised.conn, authorised.actor, before=cursor or MAX_UUID, limit=limit + 1
    )
    items = tuple(found[:limit])
    return Page(items=items, next=items[-1].activity if len(found) > limit else None)


@router.get("/{conversation_id}")
async def read_conversation(conversation_id: UUID, authorised: ReadAccess, response: Response) -> Conversation:
    """One conversation with those who are in it."""
    conversation = await queries.read_conversation(authorised.conn, conversation_id)
    set_etag(response, conversation.version)
    return conversation


@router.put("/{conversation_id}", responses=problem_responses(412))
async def change_conversation(
    conversation_id: UUID, change: ConversationChange, authorised: WriteAccess, expected: IfMatch, response: Response
) -> Conversation:
    """Changes what the body names; a changed `history` is for those who are added from then on."""
    changed = await queries.change_conversation(authorised.conn, authorised.actor, conversation_id, change, expected)
    set_etag(response, changed.version)
    return changed


@router.post("/{conversation_id}/members", status_code=201)
async def add_conversation_member(
    conversation_id: UUID, new: NewMember, authorised: WriteAccess, response: Response
) -> ConversationMember:
    """Brings somebody in."""
    member = await members.add_member(authorised.conn, authorised.actor, conversation_id, new)
    response.headers["Location"] = f"/api/conversations/{conversation_id}/members/{new.user_id}"
    return member


@router.get("/{conversation_id}/members/{user_id}")
async def read_conversation_member(conversation_id: UUID, user_id: UUID, authorised: ReadAccess) -> ConversationMember:
    """One who is in the conversation."""
    return await members.read_member(authorised.conn, conversation_id, user_id)


@router.delete("/{conversation_id}/members/{user_id}", status_code=204, responses=problem_responses(412))
async def remove_conversation_member(
    conversation_id: UUID, user_id: UUID, authorised: ReadAccess, expected: IfMatch
) -> None:
    """They leave, and keep what they saw until now; one's own leaving is everybody's right, others' is for staff."""
    await members.remove_member(authorised.conn, authorised.actor, conversation_id, user_id, expected)


@router.post("/{conversation_id}/read", status_code=204)
async def note_messages_read(conversation_id: UUID, receipt: NewReceipt, authorised: ReadAccess) -> None:
    """Whoever asks has read the conversation up to this message."""
    await receipts.give_receipt(authorised.conn, authorised.actor, conversation_id, "read", receipt)


@router.post("/{conversation_id}/delivered", status_code=204)
async def note_messages_delivered(conversation_id: UUID, receipt: NewReceipt, authorised: ReadAccess) -> None:
    """The conversation has reached a device of whoever asks, up to this message."""
    await receipts.give_receipt(authorised.conn, authorised.actor, conversation_id, "delivered", receipt)
