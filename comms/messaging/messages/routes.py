"""Routes for messages. A message's version goes into `If-Match`, so that no client overwrites a version that it has not
seen.
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from comms.kernel.text_types import Name
from comms.messaging.conversations.receipts import Receipt, list_receipts
from comms.messaging.message_records import AnyNewMessage, Message, MessageChange, MessageVersion
from comms.messaging.messages import history, queries, reactions, search
from comms.messaging.messages.assessment_outlook import SentMessage, with_forecast
from comms.messaging.messages.reactions import NewReaction
from comms.messaging.messages.search_records import FoundPage
from comms.messaging.messages.search_request import QueryVectorDep, SearchDep
from comms.web.dependencies import AuthorisedRequest, IfMatch, authorised_for, set_etag
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page, page_of
from comms.web.problems import problem, problem_responses
from comms.web.route_class import PlatformRoute

router = APIRouter(prefix="/api/messages", tags=["messages"], route_class=PlatformRoute)

ReadAccess = Annotated[AuthorisedRequest, authorised_for("messages.read")]
WriteAccess = Annotated[AuthorisedRequest, authorised_for("messages.write")]


@router.post("", status_code=201)
async def send_message(new: AnyNewMessage, authorised: WriteAccess, response: Response) -> SentMessage:
    """Sends text, or the caller's own uploads, to a conversation of the caller.

    `reading` says whether the message will be assessed for safeguarding. If not, it says whether the lawful basis or
    the sender's consent is lacking.
    """
    message = await queries.send_message(authorised.conn, authorised.actor, new)
    response.headers["Location"] = f"/api/messages/{message.id}"
    set_etag(response, message.version)
    return await with_forecast(authorised.conn, authorised.actor, message)


@router.get("/search")
async def search_messages(
    wanted: SearchDep, question: QueryVectorDep, authorised: ReadAccess, cursor: Cursor = None, limit: Limit = 50
) -> FoundPage:
    """Searches messages, the text of attachments, and transcripts of calls, as far as the caller may see them.

    `words`: newest first. `meaning` or `both`: best first, at most the first 200 of each ranking. If the models do not
    answer in time, only words are searched; `semantic` says whether meaning was searched.
    """
    return await search.search(authorised.conn, wanted, question, cursor=cursor, limit=limit)


@router.get("/conversations/{conversation_id}")
async def list_messages(
    conversation_id: UUID, authorised: ReadAccess, cursor: Cursor = None, limit: Limit = 50
) -> Page[Message]:
    """A conversation's messages, newest first. Former members can still read the messages of their membership."""
    found = await queries.list_messages(
        authorised.conn, authorised.actor, conversation_id, before=cursor or MAX_UUID, limit=limit + 1
    )
    return page_of(found, limit)


@router.get("/{message_id}")
async def read_message(message_id: UUID, authorised: ReadAccess) -> Message:
    """One message with its reactions. Reactions do not change its version, so this answer has no ETag."""
    return await queries.read_message(authorised.conn, message_id)


@router.put("/{message_id}", response_model=SentMessage, responses=problem_responses(412))
async def edit_message(
    message_id: UUID, change: MessageChange, authorised: WriteAccess, expected: IfMatch, response: Response
) -> SentMessage | Response:
    """Replaces the text of one's own message. If the version is not the current one, stores the text as a competing
    version and answers 412.
    """
    edited = await queries.edit_message(authorised.conn, authorised.actor, message_id, change, expected)
    if edited is None:  # returned, not raised: the transaction must commit the competing version
        kept = (
            "The message has changed since you read it. Your text is kept as a competing version: "
            "read /versions, then try again."
        )
        return problem(412, "version-stale", kept, headers={"Location": f"/api/messages/{message_id}/versions"})
    set_etag(response, edited.version)
    return await with_forecast(authorised.conn, authorised.actor, edited)


@router.delete("/{message_id}", status_code=204, responses=problem_responses(412))
async def delete_message(message_id: UUID, authorised: WriteAccess, expected: IfMatch) -> None:
    """Deletes one's own message: its text and files are no longer shown. Only the officers can still read them."""
    await queries.delete_message(authorised.conn, authorised.actor, message_id, expected)


@router.get("/{message_id}/versions")
async def list_message_versions(message_id: UUID, authorised: ReadAccess) -> Page[MessageVersion]:
    """All versions of the message on one page, oldest first. If it is deleted: only for the officers, with an audit
    entry.
    """
    return Page(items=tuple(await history.list_versions(authorised.conn, authorised.actor, message_id)), next=None)


@router.get("/{message_id}/receipts")
async def list_message_receipts(message_id: UUID, authorised: ReadAccess) -> Page[Receipt]:
    """The receipts of the message on one page: to whom it was delivered and who has read it."""
    await queries.read_message(authorised.conn, message_id)
    return Page(items=tuple(await list_receipts(authorised.conn, message_id)), next=None)


@router.post("/{message_id}/reactions", status_code=201)
async def add_reaction(message_id: UUID, new: NewReaction, authorised: WriteAccess, response: Response) -> Message:
    """Adds a reaction. Answers the message with all its reactions."""
    message = await reactions.add_reaction(authorised.conn, authorised.actor, message_id, new)
    response.headers["Location"] = f"/api/messages/{message_id}"
    return message


@router.delete("/{message_id}/reactions", status_code=204)
async def take_reaction_back(
    message_id: UUID, reaction: Annotated[Name, Query(min_length=1, max_length=50)], authorised: WriteAccess
) -> None:
    """Removes one's own reaction."""
    await reactions.take_reaction_back(authorised.conn, authorised.actor, message_id, reaction)
