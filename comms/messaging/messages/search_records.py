"""Records of a search: the query and the results."""

from datetime import datetime
from typing import Annotated, Final, Literal, get_args
from uuid import UUID

from pydantic import Field

from comms.kernel.time_types import Time
from comms.messaging.message_records import Message
from models.contract.records import Record

Mode = Literal["words", "meaning", "both"]
ResultKind = Literal["message", "attachment", "utterance"]
RESULT_KINDS: Final[tuple[ResultKind, ...]] = get_args(ResultKind)
FoundBy = Literal["words", "meaning"]


class Search(Record):
    """The query ("quoted", or, -not are understood) and its filters.

    Utterances in calls belong to no conversation. Their sender is the identified speaker; their time is the time of the
    call.
    """

    words: str = Field(repr=False)
    mode: Mode = "words"
    kinds: tuple[ResultKind, ...] = RESULT_KINDS
    conversation_id: UUID | None = None
    sender_id: UUID | None = None
    from_time: Time | None = None
    to_time: Time | None = None
    has_attachment: bool | None = None


class Highlight(Record):
    """A matched range of `content` in Unicode code points: from `start` up to, but not including, `end`."""

    start: int
    end: int


class Scores(Record):
    """The score of the result in each ranking; null if that ranking does not contain it.

    `words`: BM25, from 0: how often the words occur and how rare they are; comparable only within one answer.
    `meaning`: cosine similarity of query and result, at most 1. In the mode `words` nothing is ranked: results contain
    all words and come newest first.
    """

    words: float | None = None
    meaning: float | None = None


class Hint(Record):
    """Why these words cannot match anything: `no-letters` (no letters and no digits), `only-common-words` (such as
    "the" and "and").
    """

    code: Literal["no-letters", "only-common-words"]
    detail: str


class FoundMessage(Message):
    """A message that was found, the ranges that match, and how it was found."""

    kind: Literal["message"] = "message"
    found_by: tuple[FoundBy, ...]
    scores: Scores
    highlights: tuple[Highlight, ...]


class FoundAttachment(Record):
    """A found attachment of a message that the actor may see; `content` is an excerpt around the matched words."""

    kind: Literal["attachment"] = "attachment"
    id: UUID
    message_id: UUID
    conversation_id: UUID
    name: str = Field(repr=False)
    media_type: str
    content: str = Field(repr=False)
    created_at: datetime
    found_by: tuple[FoundBy, ...]
    scores: Scores
    highlights: tuple[Highlight, ...]


class FoundUtterance(Record):
    """A found utterance in a recorded call; `start_seconds` is its offset in the recording."""

    kind: Literal["utterance"] = "utterance"
    id: UUID
    recording_id: UUID
    session_id: UUID
    speaker: str | None = Field(repr=False)
    participant_id: UUID | None
    start_seconds: float
    end_seconds: float
    content: str = Field(repr=False)
    recorded_at: datetime
    found_by: tuple[FoundBy, ...]
    scores: Scores
    highlights: tuple[Highlight, ...]


AnyFound = FoundMessage | FoundAttachment | FoundUtterance
Found = Annotated[AnyFound, Field(discriminator="kind")]


class FoundPage(Record):
    """One page of results. `semantic`: whether meaning was searched; false in the mode `words`, or if the models did
    not answer in time.

    `hint`: why these words cannot match anything; else null.
    """

    items: tuple[Found, ...] = Field(repr=False)
    next: UUID | None
    semantic: bool
    hint: Hint | None = None
