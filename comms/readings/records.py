"""A message's reading and its nouns: what waits to be read, the turn that the models are shown, what they found."""

from uuid import UUID

from pydantic import Field

from comms.alerts.records import NewMessageEvidence
from comms.identity.roles import Role
from models.records import Probability, Record, SentimentLabel


class DueMessage(Record):
    """A message as it stood at a version, not read yet; `tries`: how often it was taken to be, this time included."""

    message_id: UUID
    version: int
    sender_id: UUID
    tries: int


class MessageTurn(Record):
    """What somebody wrote, as the models may be shown it; `due`: it is to be read, else it is what came before."""

    conversation_id: UUID
    message_id: UUID
    version: int
    sender_id: UUID | None
    role: Role | None
    text: str = Field(repr=False)
    current: bool  # whether the message still says so
    due: bool


class MessageReading(Record):
    """What the models say of a message at a version; `vector`: of its words as they stand, where they still do."""

    conversation_id: UUID
    message_id: UUID
    version: int
    probability: Probability
    concerns: tuple[NewMessageEvidence, ...] = Field(repr=False)
    sentiment: SentimentLabel
    models: dict[str, str]
    vector: tuple[float, ...] | None = Field(repr=False)
