"""The CloudEvents envelope: how an event of the outbox looks to whoever is told of it (sockets, webhooks, streams)."""

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from models.contract.records import Record

TYPE_PREFIX: Final = "communication.writecarenotes.com."


class SentEvent(Record):
    """A row of the outbox that the relay has sent; `position` orders a tenant's events and is a reader's cursor."""

    tenant_id: UUID
    id: UUID
    type: str
    aggregate_type: str
    aggregate_id: UUID
    aggregate_version: int
    data: dict[str, Any]
    occurred_at: datetime
    position: int
    withheld_from: frozenset[UUID] = frozenset()  # whom what it tells of is about, or may be
    heard_by: frozenset[UUID] = frozenset()  # who was in the conversation that it tells of, at its moment


class CloudEvent(Record):
    """CloudEvents 1.0, structured mode. `data` holds ids and codes alone; `position` and `version` are extensions."""

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
    """The event as others see it; sent twice it has the same `id` both times, so that a receiver can tell."""
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
