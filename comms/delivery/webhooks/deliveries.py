"""Deliveries: an event on its way to a webhook. The relay makes them, the sender sends them; here they are read and
asked for again.
"""

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from psycopg.rows import DictRow
from pydantic import Field

from comms.delivery.webhooks.queries import lock_webhook, read_webhook, require_event_permissions
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from models.contract.errors import conflict, missing
from models.contract.records import Record

DeliveryState = Literal["waiting", "delivered", "dead"]
_MOST_REPLAYED: Final = 10_000


class Delivery(Record):
    """One event for one webhook. What was answered is not kept: its status alone, or why there was none."""

    id: UUID
    event_id: UUID
    position: int
    state: DeliveryState
    attempts: int
    last_status: int | None
    last_failure: str | None
    due_at: datetime
    created_at: datetime
    ended_at: datetime | None


class Range(Record):
    """Positions of the outbox: after the first, up to and with the second."""

    after: int = Field(ge=0, le=2**63 - 1)
    until: int = Field(ge=0, le=2**63 - 1)


class Replayed(Record):
    """How many deliveries are on their way again."""

    deliveries: int


_COLUMNS: Final = "id, event_id, position, state, attempts, last_status, last_failure, due_at, created_at, ended_at"
_MAY_RECEIVE: Final = (
    "app.webhook_hears(w.tenant_id, w.created_by, e.type, e.aggregate_type, e.aggregate_id, e.data)"  # may the owner?
)
_AFRESH: Final = "state = 'waiting', attempts = 0, due_at = now(), ended_at = null"


async def list_deliveries(
    conn: Connection, webhook_id: UUID, *, state: DeliveryState | None, before: UUID, limit: int
) -> list[Delivery]:
    """Deliveries of the webhook, newest first, from before the id; raises `missing`."""
    await read_webhook(conn, webhook_id)
    found = await conn.execute(
        f"select {_COLUMNS} from webhook_deliveries where webhook_id = %(webhook)s "  # noqa: S608 (constants)
        "and id < %(before)s and (%(state)s::text is null or state = %(state)s) order by id desc limit %(limit)s",
        {"webhook": webhook_id, "before": before, "state": state, "limit": limit},
    )
    return [Delivery.model_validate(row) for row in await found.fetchall()]


async def replay_delivery(conn: Connection, actor: Actor, webhook_id: UUID, delivery_id: UUID) -> Delivery:
    """Has one event sent again, under the same id, as if for the first time.

    Raises `missing`, also where the webhook's owner may not read (any more) what the event tells of, and `refused`
    (`event-not-yours-to-read`).
    """
    await require_event_permissions(conn, actor, (await lock_webhook(conn, webhook_id)).event_types)
    renewed = await conn.execute(
        f"update webhook_deliveries set {_AFRESH} where webhook_id = %s and id = %s "  # noqa: S608 (constants)
        "and exists (select from webhooks w join events e on e.tenant_id = w.tenant_id "
        f"    where w.id = webhook_id and e.id = event_id and {_MAY_RECEIVE}) "
        f"returning {_COLUMNS}",
        (webhook_id, delivery_id),
    )
    row: DictRow | None = await renewed.fetchone()
    if row is None:
        raise missing("delivery")
    await record_act(conn, actor, "webhook.replayed", ("webhook", webhook_id), {"delivery_id": str(delivery_id)})
    return Delivery.model_validate(row)


async def replay_range(conn: Connection, actor: Actor, webhook_id: UUID, wanted: Range) -> Replayed:
    """Has the events of the range that the webhook wants sent (again), also those of while it was not active.

    Those alone that its owner may read. Raises `missing`, `refused` (`event-not-yours-to-read`), and a conflict
    (`range-too-large`) for more than ten thousand events.
    """
    await require_event_permissions(conn, actor, (await lock_webhook(conn, webhook_id)).event_types)
    made = await conn.execute(
        "with made as (insert into webhook_deliveries "  # noqa: S608 (constants)
        "(tenant_id, webhook_id, event_id, aggregate_id, position) "
        "select e.tenant_id, w.id, e.id, e.aggregate_id, e.position from webhooks w join events e "
        "on e.tenant_id = w.tenant_id and e.type = any(w.event_types) "
        f"where w.id = %s and e.position > %s and e.position <= %s and {_MAY_RECEIVE} order by e.position limit %s "
        f"on conflict (tenant_id, webhook_id, event_id) do update set {_AFRESH} returning 1) "
        "select count(*) as deliveries from made",
        (webhook_id, wanted.after, wanted.until, _MOST_REPLAYED + 1),
    )
    replayed = Replayed.model_validate(one(await made.fetchone()))
    if replayed.deliveries > _MOST_REPLAYED:
        raise conflict("range-too-large", f"More than {_MOST_REPLAYED} events lie in this range: ask for less at once.")
    details = {**wanted.model_dump(), **replayed.model_dump()}
    await record_act(conn, actor, "webhook.replayed", ("webhook", webhook_id), details)
    return replayed
