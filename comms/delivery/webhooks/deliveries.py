"""Lists and replays deliveries of events to webhooks. The relay inserts them, the sender sends them."""

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
    """One event for one webhook. Of the response only the status is stored, or the reason why there was none."""

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
    """Positions of the outbox: greater than `after`, up to and including `until`."""

    after: int = Field(ge=0, le=2**63 - 1)
    until: int = Field(ge=0, le=2**63 - 1)


class Replayed(Record):
    """How many deliveries are waiting again."""

    deliveries: int


_COLUMNS: Final = "id, event_id, position, state, attempts, last_status, last_failure, due_at, created_at, ended_at"
# whether the owner of the webhook may read the event
_MAY_RECEIVE: Final = "app.webhook_hears(w.tenant_id, w.created_by, e.type, e.aggregate_type, e.aggregate_id, e.data)"
_AFRESH: Final = "state = 'waiting', attempts = 0, due_at = now(), ended_at = null"


async def list_deliveries(
    conn: Connection, webhook_id: UUID, *, state: DeliveryState | None, before: UUID, limit: int
) -> list[Delivery]:
    """Lists deliveries of the webhook with an id before `before`, newest first; raises `missing`."""
    await read_webhook(conn, webhook_id)
    found = await conn.execute(
        f"select {_COLUMNS} from webhook_deliveries where webhook_id = %(webhook)s "  # noqa: S608 (constants)
        "and id < %(before)s and (%(state)s::text is null or state = %(state)s) order by id desc limit %(limit)s",
        {"webhook": webhook_id, "before": before, "state": state, "limit": limit},
    )
    return [Delivery.model_validate(row) for row in await found.fetchall()]


async def replay_delivery(conn: Connection, actor: Actor, webhook_id: UUID, delivery_id: UUID) -> Delivery:
    """Sends one event again, with the same id and with no earlier attempts counted.

    Raises `missing`, also if the owner of the webhook may not read the event, and `refused`
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
    """Sends all events of the range again that the webhook subscribes to, also those from while it was not active.

    Only events that its owner may read. Raises `missing`, `refused` (`event-not-yours-to-read`), and a conflict
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
        raise conflict("range-too-large", f"This range has more than {_MOST_REPLAYED} events: ask for a smaller range.")
    details = {**wanted.model_dump(), **replayed.model_dump()}
    await record_act(conn, actor, "webhook.replayed", ("webhook", webhook_id), details)
    return replayed
