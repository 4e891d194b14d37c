"""Messages over HTTP. A message's version goes into `If-Match`, so that nobody writes over what they have not seen."""

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
    """Sends words, or files that one has uploaded, to a conversation that one is in.

    `reading` says whether it will be read for safeguarding and, where not, whose ground or consent is lacking.
    """
    message = await queries.send_message(authorised.conn, authorised.actor, new)
    response.headers["Location"] = f"/api/messages/{message.id}"
    set_etag(response, message.version)
    return await with_forecast(authorised.conn, authorised.actor, message)


@router.get("/search")
async def search_messages(
    wanted: SearchDep, question: QueryVectorDep, authorised: ReadAccess, cursor: Cursor = None, limit: Limit = 50
) -> FoundPage:
    """Messages, words inside their attachments and what was said in calls, of what one may see.

    By words: newest first. By meaning or both: best first, the first 200 of either; words alone where the models do
    not answer at once (`semantic` says whether they did).
    """
    return await search.search(authorised.conn, wanted, question, cursor=cursor, limit=limit)


@router.get("/conversations/{conversation_id}")
async def list_messages(
    conversation_id: UUID, authorised: ReadAccess, cursor: Cursor = None, limit: Limit = 50
) -> Page[Message]:
    """A conversation's messages, newest first; who has left still reads those of their time."""
    found = await queries.list_messages(
        authorised.conn, authorised.actor, conversation_id, before=cursor or MAX_UUID, limit=limit + 1
    )
    return page_of(found, limit)


@router.get("/{message_id}")
async def read_message(message_id: UUID, authorised: ReadAccess) -> Message:
    """One message, with its reactions: they come and go without a new version, so that it has no ETag here."""
    return await queries.read_message(authorised.conn, message_id)


@router.put("/{message_id}", response_model=SentMessage, responses=problem_responses(412))
async def edit_message(
    message_id: UUID, change: MessageChange, authorised: WriteAccess, expected: IfMatch, response: Response
) -> SentMessage | Response:
    """Puts other words in the place of one's own; from a version that is not the last, they stand beside it (412)."""
    edited = await queries.edit_message(authorised.conn, authorised.actor, message_id, change, expected)
    if edited is None:  # answered, not raised: what was written is kept by this transaction
        kept = (
            "It has changed since you read it. Your words are kept as a competing version: see /versions, then repeat."
        )
        return problem(412, "version-stale", kept, headers={"Location": f"/api/messages/{message_id}/versions"})
    set_etag(response, edited.version)
    return await with_forecast(authorised.conn, authorised.actor, edited)


@router.delete("/{message_id}", status_code=204, responses=problem_responses(412))
async def delete_message(message_id: UUID, authorised: WriteAccess, expected: IfMatch) -> None:
    """Takes one's own words and files from view; what was there is kept for the officers."""
    await queries.delete_message(authorised.conn, authorised.actor, message_id, expected)


@router.get("/{message_id}/versions")
async def list_message_versions(message_id: UUID, authorised: ReadAccess) -> Page[MessageVersion]:
    """What the message says and said, oldest first: all on one page. Of a deleted one, for the officers, logged."""
    return Page(items=tuple(await history.list_versions(authorised.conn, authorised.actor, message_id)), next=None)


@router.get("/{message_id}/receipts")
async def list_message_receipts(message_id: UUID, authorised: ReadAccess) -> Page[Receipt]:
    """Whom the message has reached and who has read it: all on one page."""
    await queries.read_message(authorised.conn, message_id)
    return Page(items=tuple(await list_receipts(authorised.conn, message_id)), next=None)


@router.post("/{message_id}/reactions", status_code=201)
async def add_reaction(message_id: UUID, new: NewReaction, authorised: WriteAccess, response: Response) -> Message:
    """Reacts to a message; the answer is the message with all reactions."""
    message = await reactions.add_reaction(authorised.conn, authorised.actor, message_id, new)
    response.headers["Location"] = f"/api/messages/{message_id}"
    return message


@router.delete("/{message_id}/reactions", status_code=204)
async def take_reaction_back(
    message_id: UUID, reaction: Annotated[Name, Query(min_length=1, max_length=50)], authorised: WriteAccess
) -> None:
    """Takes one's own reaction back."""
    await reactions.take_reaction_back(authorised.conn, authorised.actor, message_id, reaction)
