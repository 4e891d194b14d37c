"""A message's reading and its nouns: what waits to be read, the turn that the models are shown, what they found."""

from uuid import UUID

from pydantic import Field

from comms.kernel.access.roles import Role
from comms.safeguarding.alerts.records import NewMessageEvidence
from models.contract.records import Category, Probability, Record, SentimentLabel, Severity


class DueMessage(Record):
    """A message as it stood at a version, not read yet; `tries`: how often it was taken to be, this time included."""

    message_id: UUID
    version: int
    sender_id: UUID
    tries: int


class UnexplainedEvidence(DueMessage):
    """A concern that an alert cites of a message at a version, and of which nobody knows yet which words moved it."""

    id: UUID
    category: Category
    severity: Severity
    probability: Probability
    threshold: Probability
    model_version: str  # of the model that raised it


class MessageTurn(Record):
    """What somebody wrote, as the models may be shown it.

    `due`: it is to be read. `again`: it is one of the last before one that is due, to be read once more with what came
    after it. Else it is there for the others to be understood by.
    """

    conversation_id: UUID
    message_id: UUID
    version: int
    sender_id: UUID | None
    role: Role | None
    text: str = Field(repr=False)
    current: bool  # whether the message still says so
    due: bool
    again: bool = False


class MessageAssessment(Record):
    """What the models say of a message at a version, and how many turns they were shown before and after it.

    `again`: the message was read before, without what came after it. `vector`: of its words as they stand, where they
    still do and there are any.
    """

    conversation_id: UUID
    message_id: UUID
    version: int
    turns_before: int
    turns_after: int
    again: bool = False
    probability: Probability
    concerns: tuple[NewMessageEvidence, ...] = Field(repr=False)
    sentiment: SentimentLabel
    unread_language: str | None = None  # in which it is, where the readers do not know that language
    models: dict[str, str]
    vector: tuple[float, ...] | None = Field(default=None, repr=False)
