"""Records of alerts: a new alert, an alert with its evidence, and a review."""

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from pydantic import Field, computed_field

from comms.kernel.text_types import Words
from models.contract.records import Category, Probability, Record, Severity

AlertState = Literal["new", "claimed", "confirmed", "dismissed", "escalated", "referred"]
Decision = Literal["confirm", "dismiss", "escalate", "refer"]

OPEN_STATES: Final[tuple[AlertState, ...]] = ("new", "claimed", "escalated")
STATE_AFTER: Final[dict[Decision, AlertState]] = {
    "confirm": "confirmed",
    "dismiss": "dismissed",
    "escalate": "escalated",
    "refer": "referred",
}


class EvidenceSpan(Record):
    """Characters `start:end` of the text of utterance `utterance`, and how much they changed the probability."""

    utterance: int = Field(ge=0)
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    weight: float


class NewEvidence(Record):
    """A concern in one utterance (its position in the transcript), as the model returned it."""

    utterance: int = Field(ge=0)
    category: Category
    severity: Severity
    probability: Probability
    threshold: Probability
    model: str
    model_version: str
    spans: tuple[EvidenceSpan, ...] = ()


class MessageSpan(Record):
    """Characters `start:end` of a message in its `version`, and how much they changed the probability."""

    message_id: UUID
    version: int
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    weight: float


class NewMessageEvidence(Record):
    """A concern in one message in its `version`, as the model returned it; the spans are found later."""

    message_id: UUID
    version: int
    category: Category
    severity: Severity
    probability: Probability
    threshold: Probability
    model: str
    model_version: str


class NewAlert(Record):
    """What the pipeline found; it becomes an `Alert` if the people still permit the analysis."""

    recording_id: UUID
    transcription_id: UUID
    analysis_id: UUID
    severity: Severity
    categories: tuple[Category, ...] = Field(min_length=1)
    probability: Probability
    models: dict[str, str]
    evidence: tuple[NewEvidence, ...] = Field(min_length=1)


class Alert(Record):
    """A concern for a person to decide, or already decided; `version` is its ETag.

    It is about a recording (with its session and analysis) or about a conversation.
    """

    id: UUID
    session_id: UUID | None
    recording_id: UUID | None
    analysis_id: UUID | None
    conversation_id: UUID | None
    state: AlertState
    severity: Severity
    categories: tuple[Category, ...]
    probability: Probability
    models: dict[str, str]
    claimed_by: UUID | None
    claimed_at: datetime | None
    version: int
    created_at: datetime


class ContextTurn(Record):
    """An utterance at or near the evidence, so that reviewers see the words in their context."""

    utterance: int
    speaker: str | None
    start_seconds: float
    end_seconds: float
    text: str = Field(repr=False)


class UnsureTurn(ContextTurn):
    """An utterance of the same recording in which the model raised nothing and was not sure: somebody should look.

    The probability of any concern lies at `threshold` or above, and below what raises one.
    """

    probability: Probability
    threshold: Probability


class AlertEvidence(ContextTurn):
    """The exact words, their position in the audio, and the reason of the model."""

    category: Category
    severity: Severity
    probability: Probability
    threshold: Probability
    model: str
    model_version: str
    spans: tuple[EvidenceSpan, ...]


class MessageEvidence(NewMessageEvidence):
    """The exact words of a message in the assessed version, and the reason of the model.

    `explained`: the search for the words that moved the model (`spans`) is done. Before that, and if there are no
    spans, the whole message is the evidence.
    """

    spans: tuple[MessageSpan, ...]
    explained: bool
    sender_id: UUID | None
    text: str = Field(repr=False)
    sent_at: datetime


class ContextMessage(Record):
    """A message at or near the evidence, in its current version; `content` is null if it was deleted."""

    message_id: UUID
    version: int
    sender_id: UUID | None
    content: str | None = Field(repr=False)
    sent_at: datetime


class Review(Record):
    """The decision of a person on an alert, with the reason. It is never changed."""

    id: UUID
    alert_id: UUID
    decision: Decision
    reason: str = Field(repr=False)
    reviewer_id: UUID
    created_at: datetime

    @computed_field  # type: ignore[prop-decorator]
    @property
    def state(self) -> AlertState:
        """The state of the alert after the decision."""
        return STATE_AFTER[self.decision]


class NewReview(Record):
    """What a reviewer sends; reviewer and time come from the token and the clock."""

    decision: Decision
    reason: Words = Field(min_length=1, max_length=4000, repr=False)


class AlertDetail(Alert):
    """An alert with everything a person needs to decide; the audio is under `recording_id`.

    For a recording, `evidence`, `context` and `unsure` are what was said. For a conversation, `message_evidence` and
    `message_context` what was written.
    """

    evidence: tuple[AlertEvidence, ...] = ()
    context: tuple[ContextTurn, ...] = Field(default=(), repr=False)
    unsure: tuple[UnsureTurn, ...] = Field(default=(), repr=False)
    message_evidence: tuple[MessageEvidence, ...] = ()
    message_context: tuple[ContextMessage, ...] = Field(default=(), repr=False)
    reviews: tuple[Review, ...]

    def is_explained(self) -> bool:
        """Whether the search for spans is done for all evidence."""
        return all(piece.explained for piece in self.message_evidence)
