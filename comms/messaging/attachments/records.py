"""The record of an attachment, as the API returns it."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from models.contract.records import Record


class Attachment(Record):
    """A file of a message. `media_type` is found from the content; `size_bytes` is the size as stored.

    `duration_seconds` is set only for audio.
    """

    id: UUID
    name: str = Field(repr=False)
    media_type: str
    size_bytes: int
    duration_seconds: float | None
    created_at: datetime
