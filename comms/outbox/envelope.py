"""The CloudEvents envelope: the form in which sockets, webhooks and streams receive an event of the outbox."""

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from models.contract.records import Record

TYPE_PREFIX: Final = "communication.writecarenotes.com."


class SentEvent(Record):
    """A row of the outbox that the relay has sent; `position` orders a tenant's events and is the cursor of readers."""

    tenant_id: UUID
    id: UUID
    type: str
    aggregate_type: str
    aggregate_id: UUID
    aggregate_version: int
    data: dict[str, Any]
    occurred_at: datetime
    position: int
    withheld_from: frozenset[UUID] = frozenset()  # users whom the event is about, or may be about
    heard_by: frozenset[UUID] = frozenset()  # members of its conversation at its clock value


class CloudEvent(Record):
    """CloudEvents 1.0, structured mode. `data` holds only ids and codes; `position` and `version` are extensions."""

    specversion: Literal["1.0"] = "1.0"
    id: UUID
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    position: int
    version: int
    data: dict[str, Any]


def envelope(event: SentEvent) -> CloudEvent:
    """The event for receivers. An event that is sent twice keeps its `id`, so that a receiver can recognise it."""
    return CloudEvent(
        id=event.id,
        source=f"/tenants/{event.tenant_id}",
        type=TYPE_PREFIX + event.type,
        subject=f"{event.aggregate_type}/{event.aggregate_id}",
        time=event.occurred_at,
        position=event.position,
        version=event.aggregate_version,
        data=event.data,
    )
