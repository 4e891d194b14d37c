"""What a search asks for and what it gives, as those who search see it."""

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
    """What is looked for ("quoted", or, -not are understood) and what comes into question.

    What was said in calls lies in no conversation; its sender is whoever is known to have spoken, its time the call's.
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
    """Characters of `content` (Unicode code points) that were looked for: from `start` to before `end`."""

    start: int
    end: int


class Scores(Record):
    """How well it fits, by each way that ranked it; null where it was not ranked so.

    `words`: how often the words stand there, and how rare they are (BM25, from 0); only compared within one answer.
    `meaning`: the cosine similarity of what is asked and what is found, at most 1. By words alone nothing is ranked:
    what holds all of them comes newest first.
    """

    words: float | None = None
    meaning: float | None = None


class Hint(Record):
    """Why nothing can be found by these words: `no-letters` (neither letters nor digits), `only-common-words` (such as
    "the" and "and", which are in nearly everything)."""

    code: Literal["no-letters", "only-common-words"]
    detail: str


class FoundMessage(Message):
    """A message with the places of what was looked for, and how it was found."""

    kind: Literal["message"] = "message"
    found_by: tuple[FoundBy, ...]
    scores: Scores
    highlights: tuple[Highlight, ...]


class FoundAttachment(Record):
    """A file beside a message that one may see: `content` is what stands around the words inside that were found."""

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
    """What somebody said in a recorded call: `content`, from `start_seconds` of the recording."""

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
    """`semantic`: whether meaning was searched; not by words alone, nor while the models do not answer in time.

    `hint`: why these words can find nothing; null where they can.
    """

    items: tuple[Found, ...] = Field(repr=False)
    next: UUID | None
    semantic: bool
    hint: Hint | None = None
