"""An attachment as its reader sees it."""

from datetime import datetime
from uuid import UUID

from pydantic import Field

from models.contract.records import Record


class Attachment(Record):
    """A file beside a message: `media_type` is of what is inside, `size_bytes` as it is kept.

    `duration_seconds` is of sound alone.
    """

    id: UUID
    name: str = Field(repr=False)
    media_type: str
    size_bytes: int
    duration_seconds: float | None
    created_at: datetime
