"""Messages over HTTP. A message's version goes into `If-Match`, so that nobody writes over what they have not seen."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from comms.kernel.text_types import Name
from comms.messaging.conversations.receipts import Receipt, list_receipts
from comms.messaging.message_records import AnyNewMessage, Message, MessageChange, MessageVersion
from comms.messaging.messages import history, queries, reactions, search
from comms.messaging.messages.assessment_outlook import SentMessage, as_sent
from comms.messaging.messages.reactions import NewReaction
from comms.messaging.messages.search_records import FoundPage
from comms.messaging.messages.search_request import Meaning, Wanted
from comms.web.dependencies import Acting, IfMatch, acting_with, tag
from comms.web.pagination import LAST_ID, Cursor, Limit, Page, page_of
from comms.web.problems import problem, problem_responses
from comms.web.route_class import PlatformRoute

router = APIRouter(prefix="/api/messages", tags=["messages"], route_class=PlatformRoute)

Reading = Annotated[Acting, acting_with("messages.read")]
Writing = Annotated[Acting, acting_with("messages.write")]


@router.post("", status_code=201)
async def send_message(new: AnyNewMessage, acting: Writing, response: Response) -> SentMessage:
    """Sends words, or files that one has uploaded, to a conversation that one is in.

    `reading` says whether it will be read for safeguarding and, where not, whose ground or consent is lacking.
    """
    message = await queries.send_message(acting.conn, acting.actor, new)
    response.headers["Location"] = f"/api/messages/{message.id}"
    tag(response, message.version)
    return await as_sent(acting.conn, acting.actor, message)


@router.get("/search")
async def search_messages(
    wanted: Wanted, question: Meaning, acting: Reading, cursor: Cursor = None, limit: Limit = 50
) -> FoundPage:
    """Messages, words inside their attachments and what was said in calls, of what one may see.

    By words: newest first. By meaning or both: best first, the first 200 of either; words alone where the models do
    not answer at once (`semantic` says whether they did).
    """
    return await search.search(acting.conn, wanted, question, cursor=cursor, limit=limit)


@router.get("/conversations/{conversation_id}")
async def list_messages(
    conversation_id: UUID, acting: Reading, cursor: Cursor = None, limit: Limit = 50
) -> Page[Message]:
    """A conversation's messages, newest first; who has left still reads those of their time."""
    found = await queries.list_messages(
        acting.conn, acting.actor, conversation_id, before=cursor or LAST_ID, limit=limit + 1
    )
    return page_of(found, limit)


@router.get("/{message_id}")
async def read_message(message_id: UUID, acting: Reading) -> Message:
    """One message, with its reactions: they come and go without a new version, so that it has no ETag here."""
    return await queries.read_message(acting.conn, message_id)


@router.put("/{message_id}", response_model=SentMessage, responses=problem_responses(412))
async def edit_message(
    message_id: UUID, change: MessageChange, acting: Writing, expected: IfMatch, response: Response
) -> SentMessage | Response:
    """Puts other words in the place of one's own; from a version that is not the last, they stand beside it (412)."""
    edited = await queries.edit_message(acting.conn, acting.actor, message_id, change, expected)
    if edited is None:  # answered, not raised: what was written is kept by this transaction
        kept = (
            "It has changed since you read it. Your words are kept as a competing version: see /versions, then repeat."
        )
        return problem(412, "version-stale", kept, headers={"Location": f"/api/messages/{message_id}/versions"})
    tag(response, edited.version)
    return await as_sent(acting.conn, acting.actor, edited)


@router.delete("/{message_id}", status_code=204, responses=problem_responses(412))
async def delete_message(message_id: UUID, acting: Writing, expected: IfMatch) -> None:
    """Takes one's own words and files from view; what was there is kept for the officers."""
    await queries.delete_message(acting.conn, acting.actor, message_id, expected)


@router.get("/{message_id}/versions")
async def list_message_versions(message_id: UUID, acting: Reading) -> Page[MessageVersion]:
    """What the message says and said, oldest first: all on one page. Of a deleted one, for the officers, logged."""
    return Page(items=tuple(await history.list_versions(acting.conn, acting.actor, message_id)), next=None)


@router.get("/{message_id}/receipts")
async def list_message_receipts(message_id: UUID, acting: Reading) -> Page[Receipt]:
    """Whom the message has reached and who has read it: all on one page."""
    await queries.read_message(acting.conn, message_id)
    return Page(items=tuple(await list_receipts(acting.conn, message_id)), next=None)


@router.post("/{message_id}/reactions", status_code=201)
async def add_reaction(message_id: UUID, new: NewReaction, acting: Writing, response: Response) -> Message:
    """Reacts to a message; the answer is the message with all reactions."""
    message = await reactions.add_reaction(acting.conn, acting.actor, message_id, new)
    response.headers["Location"] = f"/api/messages/{message_id}"
    return message


@router.delete("/{message_id}/reactions", status_code=204)
async def take_reaction_back(
    message_id: UUID, reaction: Annotated[Name, Query(min_length=1, max_length=50)], acting: Writing
) -> None:
    """Takes one's own reaction back."""
    await reactions.take_reaction_back(acting.conn, acting.actor, message_id, reaction)
