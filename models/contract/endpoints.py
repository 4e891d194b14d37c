"""The bodies of the model endpoints (`/api/ai/*`): what a caller sends, what comes back, on what lawful ground.

Both doors read this file: `comms/ai` declares and forwards the calls, the Serve ingress answers them. A single call
is the request itself; a batch is `{"items": [request, …]}` and is answered by `{"results": [answer or error, …]}` in
the same order, so that one bad item never costs the others their answer. Requests are the conversation's own shape
with the ground beside it:

    {"processing_id": "…", "id": "c1", "channel": "call", "turns": [{"speaker": "S1", "text": "…"}]}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, Literal, Self, TypeVar
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from models.contract.audio_tracks import CHANNELS_HELP, Channels, Sound
from models.contract.records import (
    ActionItem,
    Analysis,
    Category,
    Conversation,
    LanguageCoverage,
    Participant,
    Probability,
    Record,
    Sentiment,
    Severity,
    Summary,
    Transcript,
    Turn,
    TurnAssessment,
)

EndpointName = Literal[
    "analyze-transcript", "detect-safeguarding", "extract-action-items", "sentiment-analysis", "generate-summary",
    "compliance-analysis", "transcribe", "embed",
]  # fmt: skip
Purpose = Literal["transcribe", "analyse"]

LAWFUL_BASIS_FIELDS: Final = ("recording_id", "conversation_id", "processing_id")
MOST_ITEMS: Final = 256

# --- the ground --------------------------------------------------------------------------------------------------


class LawfulBasisRef(Record):
    """On what a call rests: exactly one of a recording, a conversation, or a processing activity.

    `comms.ai.lawful_use.check_lawful_basis` asks whether it exists for the tenant and permits the purpose, and logs the call.
    """

    # what a caller sent holds spoken words: an error names the field, never the value
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    recording_id: UUID | None = None
    conversation_id: UUID | None = None
    processing_id: UUID | None = None

    @model_validator(mode="after")
    def _require_exactly_one(self) -> Self:
        if sum(getattr(self, name) is not None for name in LAWFUL_BASIS_FIELDS) != 1:
            raise ValueError("name exactly one lawful ground: recording_id, conversation_id or processing_id")
        return self


# --- what a caller sends -------------------------------------------------------------------------------------------


class SubmittedParticipant(Participant):
    """As `Participant`; whatever else the caller knows of a person is dropped unread."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SubmittedTurn(Turn):
    """As `Turn`; whatever else the caller's line holds (labels, for one) is dropped unread."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    text: str = Field(repr=False, max_length=20_000)


class ConversationRequest(LawfulBasisRef):
    """One conversation and the ground that its reading rests on. Fields that no model reads are dropped."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    id: str = Field(max_length=200)
    channel: str = Field(default="call", max_length=100)
    participants: tuple[SubmittedParticipant, ...] = Field(default=(), max_length=200)
    turns: tuple[SubmittedTurn, ...] = Field(max_length=20_000)

    def conversation(self) -> Conversation:
        """What the models read of it."""
        return Conversation(
            id=self.id,
            channel=self.channel,
            participants=tuple(Participant(**part.model_dump()) for part in self.participants),
            turns=tuple(Turn(speaker=turn.speaker, text=turn.text) for turn in self.turns),
        )


class EmbedRequest(LawfulBasisRef):
    """Texts to be laid into the 384-dimensional space of the house's sentence embeddings."""

    texts: tuple[Annotated[str, Field(max_length=20_000)], ...] = Field(min_length=1, max_length=1_024, repr=False)


class TranscribeRequest(LawfulBasisRef):
    """The form fields beside the audio of `transcribe` (multipart/form-data).

    The audio: one or several parts `audio`, the tracks of one call, a speaker each. For a batch: parts `items`
    instead, each a call of its own. `speakers` bounds diarization where the caller knows how many talk. A file of
    several streams or channels may be a call of several tracks, too: `channels` says how they are read. `language`
    (ISO 639-1) says what they speak; without it the language is detected.
    """

    speakers: int | None = Field(default=None, ge=1, le=20)
    channels: Channels = Field(default="auto", description=CHANNELS_HELP)
    language: str | None = Field(default=None, pattern="^[a-z]{2,3}$")


# --- what comes back -----------------------------------------------------------------------------------------------


class SafeguardingResponse(LanguageCoverage):
    """`detect-safeguarding`: one assessment a turn, in order, and which versions made it."""

    id: str
    turns: tuple[TurnAssessment, ...]
    models: dict[str, str]


class TurnSentiment(Record):
    sentiment: Sentiment


class SentimentResponse(LanguageCoverage):
    """`sentiment-analysis`: the feeling in each turn's words, in order."""

    id: str
    turns: tuple[TurnSentiment, ...]
    models: dict[str, str]


class SummaryResponse(LanguageCoverage):
    """`generate-summary`: every sentence names the turns it rests on."""

    id: str
    summary: Summary
    models: dict[str, str]


class ActionItemsResponse(LanguageCoverage):
    """`extract-action-items`: the commitments that were voiced."""

    id: str
    actions: tuple[ActionItem, ...]
    models: dict[str, str]


Duty = Literal[
    "cqc_regulation_13", "cqc_regulation_18", "cqc_regulation_20", "care_act_section_42", "mental_capacity_act_2005",
    "emergency_services",
]  # fmt: skip


class ComplianceMatter(Record):
    """A duty that what was said may call for, with the turns it rests on. Whether it does, a person decides."""

    duty: Duty
    law: str
    clock: Literal["at once", "without delay", "as soon as reasonably practicable"]
    categories: tuple[Category, ...] = Field(min_length=1)
    severity: Severity
    probability: Probability
    turns: tuple[int, ...] = Field(min_length=1)
    decision: Literal["for a person to decide"] = "for a person to decide"


class ComplianceResponse(LanguageCoverage):
    """`compliance-analysis`: the matters in order of urgency; none is a finding and nothing is sent by software."""

    id: str
    matters: tuple[ComplianceMatter, ...]
    models: dict[str, str]


class EmbedResponse(Record):
    """`embed`: a unit vector of 384 numbers a text, in order."""

    vectors: tuple[tuple[float, ...], ...] = Field(repr=False)
    models: dict[str, str]


class TranscribeResponse(Transcript):
    """`transcribe`: the transcript, with the name of the upload it was made of and how its channels were read."""

    source: str = Field(repr=False)
    sound: tuple[Sound, ...] = Field(default=(), description="One a file.")


# --- what search asks -----------------------------------------------------------------------------------------------

# At Serve's own port alone, for the platform: a question is its asker's own words, laid nowhere, so it needs no ground.
QUESTION_PATH: Final = "/question"


class SearchQuestion(Record):
    """What somebody looks for."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    text: str = Field(min_length=1, max_length=500, repr=False)


class SearchVector(Record):
    """Where its meaning lies: a unit vector of 384, and the version of the model that laid it."""

    vector: tuple[float, ...] = Field(min_length=384, max_length=384, repr=False)
    model: str


# --- problems and batches ------------------------------------------------------------------------------------------


class Problem(Record):
    """RFC 9457: a stable `type`, and a sentence that says what to do."""

    type: str
    title: str
    status: int
    detail: str


class ItemError(Record):
    """Stands in a batch's results where an item could not be answered."""

    error: Problem


Item = TypeVar("Item", bound=Record)


class Batch(Record, Generic[Item]):
    """Several requests in one call. A ground named beside the items holds for each that names none of its own."""

    recording_id: UUID | None = None
    conversation_id: UUID | None = None
    processing_id: UUID | None = None
    items: tuple[Item, ...] = Field(min_length=1, max_length=MOST_ITEMS)


class BatchResults(Record, Generic[Item]):
    """The answers in the order of the items."""

    results: tuple[Item | ItemError, ...]


def is_batch(body: object) -> bool:
    """Whether a decoded JSON body is a batch: an object with `items`."""
    return isinstance(body, Mapping) and "items" in body


def submitted_items(body: Mapping[str, Any]) -> list[Any]:
    """The items of a batch as the caller sent them, each with the batch's ground where it names none.

    Not yet validated: each item is validated by itself, so that its error stands in its own place. Raises
    `ValueError` where `items` is no list of 1 to `MOST_ITEMS`.
    """
    items = body["items"]
    if not isinstance(items, list) or not 1 <= len(items) <= MOST_ITEMS:
        raise ValueError(f"items must be a list of 1 to {MOST_ITEMS}")
    shared = {name: body[name] for name in LAWFUL_BASIS_FIELDS if body.get(name) is not None}
    return [
        {**item, **shared}
        if isinstance(item, dict) and not any(item.get(name) for name in LAWFUL_BASIS_FIELDS)
        else item
        for item in items
    ]


# --- the table of calls ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Endpoint:
    """A call of the model API: what it takes, what it answers, and the purpose that its ground must permit."""

    call: EndpointName
    request: type[LawfulBasisRef]
    response: type[Record]
    purpose: Purpose
    title: str


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint("analyze-transcript", ConversationRequest, Analysis, "analyse", "Everything the models say of it"),
    Endpoint(
        "detect-safeguarding", ConversationRequest, SafeguardingResponse, "analyse", "Safeguarding concerns by turn"
    ),
    Endpoint(
        "extract-action-items", ConversationRequest, ActionItemsResponse, "analyse", "Commitments that were voiced"
    ),
    Endpoint("sentiment-analysis", ConversationRequest, SentimentResponse, "analyse", "Sentiment by turn"),
    Endpoint("generate-summary", ConversationRequest, SummaryResponse, "analyse", "A summary that cites its turns"),
    Endpoint("compliance-analysis", ConversationRequest, ComplianceResponse, "analyse", "Duties that may arise"),
    Endpoint("transcribe", TranscribeRequest, TranscribeResponse, "transcribe", "Who said what, when"),
    Endpoint("embed", EmbedRequest, EmbedResponse, "analyse", "Sentence embeddings"),
)
