"""Routes for conversations, their members and receipts. A conversation's version is its ETag."""

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


@router.post("", status_code=201, responses={200: {"description": "The existing direct conversation"}})
async def make_conversation(new: NewConversation, authorised: WriteAccess, response: Response) -> Conversation:
    """Makes a conversation. If the two people already have a direct conversation, answers 200 with it."""
    conversation, made = await members.make_conversation(authorised.conn, authorised.actor, new)
    response.status_code = 201 if made else 200
    response.headers["Location"] = f"/api/conversations/{conversation.id}"
    set_etag(response, conversation.version)
    return conversation


@router.get("")
async def list_conversations(
    authorised: ReadAccess, cursor: Cursor = None, limit: Limit = 50
) -> Page[ListedConversation]:
    """The caller's own conversations, last active first, with the number of unread messages and the last message."""
    found = await queries.list_conversations(
        authorised.conn, authorised.actor, before=cursor or MAX_UUID, limit=limit + 1
    )
    items = tuple(found[:limit])
    return Page(items=items, next=items[-1].activity if len(found) > limit else None)


@router.get("/{conversation_id}")
async def read_conversation(conversation_id: UUID, authorised: ReadAccess, response: Response) -> Conversation:
    """One conversation with its members."""
    conversation = await queries.read_conversation(authorised.conn, conversation_id)
    set_etag(response, conversation.version)
    return conversation


@router.put("/{conversation_id}", responses=problem_responses(412))
async def change_conversation(
    conversation_id: UUID, change: ConversationChange, authorised: WriteAccess, expected: IfMatch, response: Response
) -> Conversation:
    """Changes the fields in the body. A changed `history` applies to members who are added later."""
    changed = await queries.change_conversation(authorised.conn, authorised.actor, conversation_id, change, expected)
    set_etag(response, changed.version)
    return changed


@router.post("/{conversation_id}/members", status_code=201)
async def add_conversation_member(
    conversation_id: UUID, new: NewMember, authorised: WriteAccess, response: Response
) -> ConversationMember:
    """Adds a member."""
    member = await members.add_member(authorised.conn, authorised.actor, conversation_id, new)
    response.headers["Location"] = f"/api/conversations/{conversation_id}/members/{new.user_id}"
    return member


@router.get("/{conversation_id}/members/{user_id}")
async def read_conversation_member(conversation_id: UUID, user_id: UUID, authorised: ReadAccess) -> ConversationMember:
    """One member of the conversation."""
    return await members.read_member(authorised.conn, conversation_id, user_id)


@router.delete("/{conversation_id}/members/{user_id}", status_code=204, responses=problem_responses(412))
async def remove_conversation_member(
    conversation_id: UUID, user_id: UUID, authorised: ReadAccess, expected: IfMatch
) -> None:
    """Ends a membership; the user keeps access to what they saw. Members may end their own; staff may end any."""
    await members.remove_member(authorised.conn, authorised.actor, conversation_id, user_id, expected)


@router.post("/{conversation_id}/read", status_code=204)
async def note_messages_read(conversation_id: UUID, receipt: NewReceipt, authorised: ReadAccess) -> None:
    """The caller has read the conversation up to this message."""
    await receipts.give_receipt(authorised.conn, authorised.actor, conversation_id, "read", receipt)


@router.post("/{conversation_id}/delivered", status_code=204)
async def note_messages_delivered(conversation_id: UUID, receipt: NewReceipt, authorised: ReadAccess) -> None:
    """A device of the caller has received the conversation up to this message."""
    await receipts.give_receipt(authorised.conn, authorised.actor, conversation_id, "delivered", receipt)
