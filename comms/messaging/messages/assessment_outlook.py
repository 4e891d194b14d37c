"""Tells the sender of a message at once whether the message will be assessed for safeguarding."""

from typing import Literal
from uuid import UUID

from comms.governance.consent.permissions import Reason, permits
from comms.kernel.database import Actor, Connection
from comms.messaging.message_records import Message
from models.contract.records import Record


class AssessmentForecast(Record):
    """Whether the models will assess the message. It can change with the lawful basis and the sender's consent.

    If they will not, `lacking` says why: `ground` for the organisation's lawful basis, `consent` for the consent of
    `user_id`.
    """

    will_be_read: bool
    reason: Reason
    lacking: Literal["ground", "consent"] | None
    user_id: UUID | None


class SentMessage(Message):
    """The answer to the sender of a message: the message, and whether it will be assessed."""

    reading: AssessmentForecast


async def with_forecast(conn: Connection, actor: Actor, message: Message) -> SentMessage:
    """Adds the forecast to the actor's own message."""
    answer = await permits(conn, actor.user_id, "analyse")
    lacking: Literal["ground", "consent"] | None = None
    if not answer.permitted:
        lacking = "ground" if answer.reason == "no-lawful-basis" else "consent"
    outlook = AssessmentForecast(
        will_be_read=answer.permitted, reason=answer.reason, lacking=lacking,
        user_id=actor.user_id if lacking == "consent" else None,
    )  # fmt: skip
    return SentMessage(**message.model_dump(), reading=outlook)
