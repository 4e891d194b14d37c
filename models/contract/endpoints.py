"""The request and response bodies of the model endpoints (`/api/ai/*`), and the lawful basis of each request.

Two applications use this file: `comms/ai` declares and forwards the calls; the Ray Serve ingress answers them. The body
of a single call is the request. A batch is `{"items": [request, …]}`; its answer is `{"results": [answer or error, …]}`
in the same order, so that one invalid item does not fail the others. A request is a conversation with its lawful basis:

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

# --- the lawful basis --------------------------------------------------------------------------------------------


class LawfulBasisRef(Record):
    """The lawful basis of a call. The request names exactly one: a recording, a conversation or a processing activity.

    `comms.ai.lawful_use.check_lawful_basis` checks that it exists in the tenant and permits the purpose, and logs the
    call.
    """

    # The request holds spoken words, so a validation error names the field, never the value.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    recording_id: UUID | None = None
    conversation_id: UUID | None = None
    processing_id: UUID | None = None

    @model_validator(mode="after")
    def _require_exactly_one(self) -> Self:
        if sum(getattr(self, name) is not None for name in LAWFUL_BASIS_FIELDS) != 1:
            raise ValueError("name exactly one lawful basis: recording_id, conversation_id or processing_id")
        return self


# --- requests ------------------------------------------------------------------------------------------------------


class SubmittedParticipant(Participant):
    """A `Participant` in a request. Unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SubmittedTurn(Turn):
    """A `Turn` in a request. Unknown fields, such as labels, are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    text: str = Field(repr=False, max_length=20_000)


class ConversationRequest(LawfulBasisRef):
    """One conversation with the lawful basis of its analysis. Fields that no model uses are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    id: str = Field(max_length=200)
    channel: str = Field(default="call", max_length=100)
    participants: tuple[SubmittedParticipant, ...] = Field(default=(), max_length=200)
    turns: tuple[SubmittedTurn, ...] = Field(max_length=20_000)

    def conversation(self) -> Conversation:
        """The part of the request that the models get."""
        return Conversation(
            id=self.id,
            channel=self.channel,
            participants=tuple(Participant(**part.model_dump()) for part in self.participants),
            turns=tuple(Turn(speaker=turn.speaker, text=turn.text) for turn in self.turns),
        )


class EmbedRequest(LawfulBasisRef):
    """Texts to embed with the sentence encoder (384 dimensions)."""

    texts: tuple[Annotated[str, Field(max_length=20_000)], ...] = Field(min_length=1, max_length=1_024, repr=False)


class TranscribeRequest(LawfulBasisRef):
    """The form fields of `transcribe` (multipart/form-data), sent together with the audio.

    Audio of one call: one or several parts named `audio`; several are the tracks of the call, one for each speaker.
    Audio of a batch: parts named `items`, each one call. `speakers` is the number of speakers, if the caller knows it.
    A file with several streams or channels can also become several tracks: `channels` says how to use them.
    `language` (ISO 639-1) is the spoken language; without it the language is detected.
    """

    speakers: int | None = Field(default=None, ge=1, le=20)
    channels: Channels = Field(default="auto", description=CHANNELS_HELP)
    language: str | None = Field(default=None, pattern="^[a-z]{2,3}$")


# --- responses -----------------------------------------------------------------------------------------------------


class SafeguardingResponse(LanguageCoverage):
    """`detect-safeguarding`: one assessment for each turn, in order, and the versions of the models."""

    id: str
    turns: tuple[TurnAssessment, ...]
    models: dict[str, str]


class TurnSentiment(Record):
    sentiment: Sentiment


class SentimentResponse(LanguageCoverage):
    """`sentiment-analysis`: the sentiment of each turn, in order."""

    id: str
    turns: tuple[TurnSentiment, ...]
    models: dict[str, str]


class SummaryResponse(LanguageCoverage):
    """`generate-summary`: a summary in which every sentence names the turns that support it."""

    id: str
    summary: Summary
    models: dict[str, str]


class ActionItemsResponse(LanguageCoverage):
    """`extract-action-items`: the commitments that speakers made."""

    id: str
    actions: tuple[ActionItem, ...]
    models: dict[str, str]


Duty = Literal[
    "cqc_regulation_13", "cqc_regulation_18", "cqc_regulation_20", "care_act_section_42", "mental_capacity_act_2005",
    "emergency_services",
]  # fmt: skip


class ComplianceMatter(Record):
    """A duty that the conversation may trigger, with the turns that support it. A person decides whether it does."""

    duty: Duty
    law: str
    clock: Literal["at once", "without delay", "as soon as reasonably practicable"]
    categories: tuple[Category, ...] = Field(min_length=1)
    severity: Severity
    probability: Probability
    turns: tuple[int, ...] = Field(min_length=1)
    decision: Literal["for a person to decide"] = "for a person to decide"


class ComplianceResponse(LanguageCoverage):
    """`compliance-analysis`: the matters, most urgent first. None is a finding; the software notifies nobody."""

    id: str
    matters: tuple[ComplianceMatter, ...]
    models: dict[str, str]


class EmbedResponse(Record):
    """`embed`: a unit vector of 384 numbers for each text, in order."""

    vectors: tuple[tuple[float, ...], ...] = Field(repr=False)
    models: dict[str, str]


class TranscribeResponse(Transcript):
    """`transcribe`: the transcript, the name of the uploaded file, and how its channels were used."""

    source: str = Field(repr=False)
    sound: tuple[Sound, ...] = Field(default=(), description="One entry for each file.")


# --- search ---------------------------------------------------------------------------------------------------------

# Only on Ray Serve's own port, for `comms`. A search text is not stored, so it needs no lawful basis.
QUESTION_PATH: Final = "/question"


class SearchQuestion(Record):
    """The text of a search."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    text: str = Field(min_length=1, max_length=500, repr=False)


class SearchVector(Record):
    """The embedding of a search text: a unit vector of 384 numbers, and the version of the model."""

    vector: tuple[float, ...] = Field(min_length=384, max_length=384, repr=False)
    model: str


# --- problems and batches ------------------------------------------------------------------------------------------


class Problem(Record):
    """An error as in RFC 9457: a stable `type`, and a `detail` that says what to do."""

    type: str
    title: str
    status: int
    detail: str


class ItemError(Record):
    """The result of a batch item that failed."""

    error: Problem


Item = TypeVar("Item", bound=Record)


class Batch(Record, Generic[Item]):
    """Several requests in one call. The batch's lawful basis applies to each item that names none of its own."""

    recording_id: UUID | None = None
    conversation_id: UUID | None = None
    processing_id: UUID | None = None
    items: tuple[Item, ...] = Field(min_length=1, max_length=MOST_ITEMS)


class BatchResults(Record, Generic[Item]):
    """The answers, in the order of the items."""

    results: tuple[Item | ItemError, ...]


def is_batch(body: object) -> bool:
    """Whether a decoded JSON body is a batch: an object with `items`."""
    return isinstance(body, Mapping) and "items" in body


def submitted_items(body: Mapping[str, Any]) -> list[Any]:
    """The items of a batch as the caller sent them. Items without a lawful basis get that of the batch.

    The items are not validated here: each is validated separately, so that each gets its own error. Raises
    `ValueError` if `items` is not a list of 1 to `MOST_ITEMS` items.
    """
    items = body["items"]
    if not isinstance(items, list) or not 1 <= len(items) <= MOST_ITEMS:
        raise ValueError(f"items must be a list of 1 to {MOST_ITEMS} items")
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
    """One endpoint of the model API: request, response, and the purpose that its lawful basis must permit."""

    call: EndpointName
    request: type[LawfulBasisRef]
    response: type[Record]
    purpose: Purpose
    title: str


ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    Endpoint("analyze-transcript", ConversationRequest, Analysis, "analyse", "All analyses of a conversation"),
    Endpoint(
        "detect-safeguarding", ConversationRequest, SafeguardingResponse, "analyse", "Safeguarding concerns by turn"
    ),
    Endpoint(
        "extract-action-items", ConversationRequest, ActionItemsResponse, "analyse", "Commitments that speakers made"
    ),
    Endpoint("sentiment-analysis", ConversationRequest, SentimentResponse, "analyse", "Sentiment by turn"),
    Endpoint("generate-summary", ConversationRequest, SummaryResponse, "analyse", "A summary that cites its turns"),
    Endpoint("compliance-analysis", ConversationRequest, ComplianceResponse, "analyse", "Duties that may arise"),
    Endpoint("transcribe", TranscribeRequest, TranscribeResponse, "transcribe", "Who said what, when"),
    Endpoint("embed", EmbedRequest, EmbedResponse, "analyse", "Sentence embeddings"),
)
