"""The relay: takes committed events out of the outbox, starts their jobs and assigns their positions in the order.

    python -m comms.outbox.relay

It is a separate process; its database role sees only the outbox. Jobs, positions, the mark 'sent' and the notification
are one transaction. So a relay that is killed has sent a batch completely or not at all, and the next one continues.
"""

import asyncio
import sys
from typing import Any, Final

import structlog
from procrastinate import App
from procrastinate.exceptions import ConnectorException

from comms.kernel.database import Connection
from comms.kernel.processes.leader_election import run_as_leader
from comms.kernel.processes.runner import run_until_signalled
from comms.kernel.settings import Settings
from comms.outbox.jobs import job_queue, start_jobs
from comms.outbox.queries import EVENTS_CHANNEL, OUTBOX_CHANNEL

_LOCK: Final = 0x77636332  # advisory lock: one relay at a time
_BATCH: Final = 200
_IDLE_SECONDS: Final = 1.0  # the API and the worker notify it; events of other writers wait this long

_log = structlog.get_logger(__name__)


async def relay(url: str, stopping: asyncio.Event) -> None:
    """Sends events until `stopping` is set; only one relay works at a time."""
    queue = job_queue()
    await run_as_leader(
        "relay", url, _LOCK, lambda conn: _send_until(conn, queue, stopping), stopping,
        retry_on=(ConnectorException,),
        options="-c search_path=public,procrastinate",  # procrastinate's statements name its tables without schema
    )  # fmt: skip


async def _send_until(conn: Connection, queue: App, stopping: asyncio.Event) -> None:
    await conn.execute(f"listen {OUTBOX_CHANNEL}".encode())
    while not stopping.is_set():
        if await send_batch(conn, queue) == 0:
            # A writer notifies after its commit (comms/outbox/notifier.py). The relay also polls, for writers that
            # could not notify. A notification that came while a batch was sent is kept and ends the wait at once.
            async for _ in conn.notifies(timeout=_IDLE_SECONDS, stop_after=1):
                pass


async def send_batch(conn: Connection, queue: App) -> int:
    """Sends the oldest unsent events, each aggregate's in the order of its versions; returns how many."""
    async with conn.transaction():
        events = await _lock_batch(conn)
        if not events:
            return 0
        for event in events:
            await start_jobs(conn, queue, event["type"], event["tenant_id"], event["data"])
        # Only this process assigns positions, and it commits each batch before it begins the next: a reader that has
        # seen a position will never find a smaller one later.
        fresh = await conn.execute("select nextval('events_position') from generate_series(1, %s)", (len(events),))
        positions = sorted([row["nextval"] async for row in fresh])
        # The same statement inserts a delivery for each webhook that wants the event and whose owner may read it
        # (comms/delivery/webhooks), so that none is lost.
        await conn.execute(
            "with sent as (update events e set position = laid.position, sent_at = now() "
            "    from unnest(%s::uuid[], %s::uuid[], %s::bigint[]) as laid (tenant_id, id, position) "
            "    where e.tenant_id = laid.tenant_id and e.id = laid.id "
            "    returning e.tenant_id, e.id, e.type, e.aggregate_type, e.aggregate_id, e.position, e.data) "
            "insert into webhook_deliveries (tenant_id, webhook_id, event_id, aggregate_id, position) "
            "select sent.tenant_id, w.id, sent.id, sent.aggregate_id, sent.position from sent "
            "join webhooks w on w.tenant_id = sent.tenant_id and w.state = 'active' and sent.type = any(w.event_types) "
            "and app.webhook_hears(w.tenant_id, w.created_by, sent.type, sent.aggregate_type, sent.aggregate_id, "
            "    sent.data)",
            ([event["tenant_id"] for event in events], [event["id"] for event in events], positions),
        )
        # Only the tenant ids: each listener reads the rows that it may see. At most 200 ids: 7,400 bytes of the 8,000
        # that a notification holds.
        tenants = sorted({str(event["tenant_id"]) for event in events})
        await conn.execute("select pg_notify(%s, %s)", (EVENTS_CHANNEL, ",".join(tenants)))
        return len(events)


async def _lock_batch(conn: Connection) -> list[dict[str, Any]]:
    """Locks the oldest unsent events, and those of their aggregates that belong before or between them; in order.

    Time does not give the order: `occurred_at` is when a transaction began, so an aggregate's second change may have
    the earlier time. `id > last` would miss events that commit late. The version, which is taken under the aggregate's
    row lock, gives the order. Events that happened later than the oldest batch wait: otherwise, with many waiting, a
    session's end would be sent before the recordings made in it. Rows are locked without `skip locked`: order is more
    important than speed, and no other process changes an event.
    """
    rows = await conn.execute(
        "with oldest as (select id, tenant_id, aggregate_type, aggregate_id from events where sent_at is null "
        "                order by occurred_at, id limit %s), "
        "unsent as (select e.* from events e where e.sent_at is null and (e.tenant_id, e.aggregate_type, "
        "                e.aggregate_id) in (select tenant_id, aggregate_type, aggregate_id from oldest) for update), "
        "placed as (select *, max(occurred_at) over (partition by tenant_id, aggregate_type, aggregate_id "
        "                order by aggregate_version, id) as place from unsent) "
        "select tenant_id, id, type, data from placed "
        "where place <= (select max(place) from placed where id in (select id from oldest)) "
        "order by place, aggregate_version, id",
        (_BATCH,),
    )
    return await rows.fetchall()


async def run(_settings: Settings, url: str, stopping: asyncio.Event) -> None:
    """The work of the relay process."""
    await relay(url, stopping)


if __name__ == "__main__":
    sys.exit(run_until_signalled(run))
