"""The alert's nouns: what is raised, what a person sees of it, what they decide."""

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
    """Characters `start:end` of the text of utterance `utterance`, and how far they moved the probability."""

    utterance: int = Field(ge=0)
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    weight: float


class NewEvidence(Record):
    """A concern in one utterance (its position in the transcript), as the model gave it."""

    utterance: int = Field(ge=0)
    category: Category
    severity: Severity
    probability: Probability
    threshold: Probability
    model: str
    model_version: str
    spans: tuple[EvidenceSpan, ...] = ()


class MessageSpan(Record):
    """Characters `start:end` of a message as it stood at `version`, and how far they moved the probability."""

    message_id: UUID
    version: int
    start: int = Field(ge=0)
    end: int = Field(ge=0)
    weight: float


class NewMessageEvidence(Record):
    """A concern in one message as it stood at `version`, as the model gave it; which words moved it is found later."""

    message_id: UUID
    version: int
    category: Category
    severity: Severity
    probability: Probability
    threshold: Probability
    model: str
    model_version: str


class NewAlert(Record):
    """What the pipeline found worth a person's eyes; it becomes an `Alert` where consent still stands."""

    recording_id: UUID
    transcription_id: UUID
    analysis_id: UUID
    severity: Severity
    categories: tuple[Category, ...] = Field(min_length=1)
    probability: Probability
    models: dict[str, str]
    evidence: tuple[NewEvidence, ...] = Field(min_length=1)


class Alert(Record):
    """A concern that waits for a person or was decided by one; `version` is its ETag.

    It rests on a recording, with its session and analysis, or on a conversation.
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
    """An utterance at or around the evidence, so that nobody judges words torn out of the talk."""

    utterance: int
    speaker: str | None
    start_seconds: float
    end_seconds: float
    text: str = Field(repr=False)


class AlertEvidence(ContextTurn):
    """The exact words, where they are in the audio, and why the model took them for a concern."""

    category: Category
    severity: Severity
    probability: Probability
    threshold: Probability
    model: str
    model_version: str
    spans: tuple[EvidenceSpan, ...]


class MessageEvidence(NewMessageEvidence):
    """The exact words of a message, as they stood when they were read, and why the model took them for a concern.

    `explained`: whether it was looked for which words moved the model (`spans`). Until then, and where none stand out,
    the message whole is the evidence.
    """

    spans: tuple[MessageSpan, ...]
    explained: bool
    sender_id: UUID | None
    text: str = Field(repr=False)
    sent_at: datetime


class ContextMessage(Record):
    """A message at or around the evidence, as it stands now; null once it is deleted."""

    message_id: UUID
    version: int
    sender_id: UUID | None
    content: str | None = Field(repr=False)
    sent_at: datetime


class Review(Record):
    """A person's decision on an alert, with the reason. Added, never changed."""

    id: UUID
    alert_id: UUID
    decision: Decision
    reason: str = Field(repr=False)
    reviewer_id: UUID
    created_at: datetime

    @computed_field  # type: ignore[prop-decorator]
    @property
    def state(self) -> AlertState:
        """The state that the decision gave the alert."""
        return STATE_AFTER[self.decision]


class NewReview(Record):
    """What a reviewer says; who and when is taken from the token and the clock."""

    decision: Decision
    reason: Words = Field(min_length=1, max_length=4000, repr=False)


class AlertDetail(Alert):
    """An alert with everything a person needs to decide; the audio is under `recording_id`.

    Of a recording, `evidence` and `context` hold what was said; of a conversation, `message_evidence` and
    `message_context` what was written.
    """

    evidence: tuple[AlertEvidence, ...] = ()
    context: tuple[ContextTurn, ...] = Field(default=(), repr=False)
    message_evidence: tuple[MessageEvidence, ...] = ()
    message_context: tuple[ContextMessage, ...] = Field(default=(), repr=False)
    reviews: tuple[Review, ...]

    def is_explained(self) -> bool:
        """Whether no evidence waits any more for the words that moved the model."""
        return all(piece.explained for piece in self.message_evidence)
