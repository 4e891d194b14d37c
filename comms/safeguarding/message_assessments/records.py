"""Records of message assessments: a message that is due, the turns that the models read, and their results."""

from uuid import UUID

from pydantic import Field

from comms.kernel.access.roles import Role
from comms.safeguarding.alerts.records import NewMessageEvidence
from models.contract.records import Category, Probability, Record, SentimentLabel, Severity


class DueMessage(Record):
    """A version of a message that is not assessed yet; `tries` counts the leases, with this one."""

    message_id: UUID
    version: int
    sender_id: UUID
    tries: int


class UnexplainedEvidence(DueMessage):
    """A concern in a version of a message that an alert cites, and whose decisive words are not known yet."""

    id: UUID
    category: Category
    severity: Severity
    probability: Probability
    threshold: Probability
    model_version: str  # of the model that found the concern


class MessageTurn(Record):
    """A message in the form that the models read.

    `due`: it must be assessed. `again`: it is one of the last messages before a due one and is assessed again, now with
    what came after it. Otherwise it is only context for the others.
    """

    conversation_id: UUID
    message_id: UUID
    version: int
    sender_id: UUID | None
    role: Role | None
    text: str = Field(repr=False)
    current: bool  # whether the message still has this text
    due: bool
    again: bool = False


class MessageAssessment(Record):
    """What the models found in a version of a message, and how many turns of context they read before and after it.

    `again`: the message was assessed before, without what came after it. `vector`: the embedding of its current text;
    None if the text has changed or is empty.
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
    unread_language: str | None = None  # its language, if the models do not support it
    models: dict[str, str]
    vector: tuple[float, ...] | None = Field(default=None, repr=False)
