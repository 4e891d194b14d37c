"""Whether a message will be read for safeguarding: said to its sender when they send it, not left to be found out."""

from typing import Literal
from uuid import UUID

from comms.governance.consent.permissions import Reason, permits
from comms.kernel.database import Actor, Connection
from comms.messaging.message_records import Message
from models.contract.records import Record


class AssessmentForecast(Record):
    """Whether the models will read the message; it may change with the grounds and with the sender's consent.

    Where not, `lacking` says what for: the organisation's lawful `ground`, or the `consent` of `user_id`.
    """

    will_be_read: bool
    reason: Reason
    lacking: Literal["ground", "consent"] | None
    user_id: UUID | None


class SentMessage(Message):
    """A message as its sender is answered, with whether it will be read."""

    reading: AssessmentForecast


async def with_forecast(conn: Connection, actor: Actor, message: Message) -> SentMessage:
    """The actor's own message with what will become of it."""
    answer = await permits(conn, actor.user_id, "analyse")
    lacking: Literal["ground", "consent"] | None = None
    if not answer.permitted:
        lacking = "ground" if answer.reason == "no-lawful-basis" else "consent"
    outlook = AssessmentForecast(
        will_be_read=answer.permitted, reason=answer.reason, lacking=lacking,
        user_id=actor.user_id if lacking == "consent" else None,
    )  # fmt: skip
    return SentMessage(**message.model_dump(), reading=outlook)
