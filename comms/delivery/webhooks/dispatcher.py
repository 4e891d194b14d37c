"""The webhook dispatcher: takes due deliveries and sends them, in order within an aggregate, at least once.

Each attempt is an asyncio task. The number of concurrent attempts for one webhook is limited, so that a slow receiver
does not delay the others. A delivery stays `waiting` until its outcome is committed: after a kill in the middle, it is
sent again with the same id. Only the process that holds an advisory lock sends; when it ends, another process takes
over.
"""

import asyncio
import random
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import structlog

from comms.delivery.webhooks.signing_keys import signing_keys
from comms.delivery.webhooks.transport import DeliveryOutcome, WebhookClient
from comms.kernel.access.system_actor import NIL_UUID
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, Database
from comms.kernel.processes.background_tasks import end
from comms.kernel.processes.leader_election import run_as_leader
from comms.kernel.storage.key_service import KeyService
from comms.outbox.envelope import SentEvent
from comms.outbox.queries import EVENTS_CHANNEL
from models.contract.errors import WriteCareError

_LOCK: Final = 0x77636334  # a session lock: PostgreSQL frees it when the connection ends
_IDLE_SECONDS: Final = 0.5
_MAX_RUNNING: Final = 64
_MAX_RUNNING_PER_WEBHOOK: Final = 4
_WITHHELD: Final = DeliveryOutcome(failure="owner-may-not-read")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class RetryPolicy:
    """How often and with which pauses a failed delivery is retried, and when a webhook is disabled."""

    attempts: int = 10  # with these pauses: 15 to 20 hours
    first_pause_seconds: float = 5.0
    longest_pause_seconds: float = 6 * 3600.0
    dead_in_a_row: int = 5  # dead deliveries without a success between them, until the webhook is disabled

    def pause_seconds(self, attempts: int) -> float:
        """Returns the pause before the next attempt: four times the last one, less a random part of up to a quarter.

        The random part spreads the attempts over time.
        """
        grown = self.first_pause_seconds * 4.0 ** (attempts - 1)
        return min(grown, self.longest_pause_seconds) * random.uniform(0.75, 1.0)  # noqa: S311 (not a secret)


@dataclass(frozen=True)
class _DueDelivery:
    """A delivery that may be sent now."""

    tenant_id: UUID
    id: UUID
    webhook_id: UUID
    attempts: int
    url: str
    permitted: bool  # the owner of the webhook may read the event now
    event: SentEvent


class WebhookSender:
    """Sends webhook deliveries; one for each process."""

    def __init__(self, database: Database, keys: KeyService, client: WebhookClient, retry_policy: RetryPolicy) -> None:
        self._database = database
        self._keys = keys
        self._client = client
        self._retry_policy = retry_policy
        self._running: dict[asyncio.Task[None], _DueDelivery] = {}

    async def run(self, url: str, stopping: asyncio.Event) -> None:
        """Sends until `stopping` is set. After a lost database connection, unfinished deliveries are sent again."""
        await run_as_leader(
            "sender", url, _LOCK, lambda conn: self._send_until(conn, stopping), stopping, retry_on=(WriteCareError,)
        )

    async def _send_until(self, conn: Connection, stopping: asyncio.Event) -> None:
        await conn.execute(f"listen {EVENTS_CHANNEL}".encode())
        try:
            while not stopping.is_set():
                for due in await self._fetch_due(conn):
                    self._running[asyncio.create_task(self._attempt_delivery(due))] = due
                await self._wait(conn)
                for task in [task for task in self._running if task.done()]:
                    del self._running[task]
                    task.result()  # raises if the database was lost; then the leader election starts again
        finally:
            await self._cancel_running()

    async def _wait(self, conn: Connection) -> None:
        """Waits until an attempt ends, the relay sends a notification, or the poll interval is over."""

        async def wait_for_notification() -> None:
            async for _ in conn.notifies(timeout=_IDLE_SECONDS, stop_after=1):
                pass

        notified = asyncio.create_task(wait_for_notification())
        await asyncio.wait({notified, *self._running}, return_when=asyncio.FIRST_COMPLETED)
        await end({notified})

    async def _fetch_due(self, conn: Connection) -> list[_DueDelivery]:
        """Returns due deliveries that are not in progress: for each aggregate the first that waits, up to the limit of
        each webhook.
        """
        free = _MAX_RUNNING - len(self._running)
        if free <= 0:
            return []
        busy = list(self._running.values())
        found = await conn.execute(
            "select d.tenant_id, d.id as delivery_id, d.webhook_id, d.attempts, w.url, e.id, e.type, "
            "e.aggregate_type, e.aggregate_id, e.aggregate_version, e.data, e.occurred_at, e.position, "
            "app.webhook_hears(w.tenant_id, w.created_by, e.type, e.aggregate_type, e.aggregate_id, e.data) "
            "    as permitted "
            "from webhooks w cross join lateral (select * from webhook_deliveries d where d.tenant_id = w.tenant_id "
            "    and d.webhook_id = w.id and d.state = 'waiting' and d.due_at <= now() and d.id <> all(%(busy)s) "
            "    and not exists (select 1 from webhook_deliveries b where b.tenant_id = d.tenant_id "
            "        and b.webhook_id = d.webhook_id and b.aggregate_id = d.aggregate_id and b.state = 'waiting' "
            "        and b.position < d.position) "
            "    order by d.due_at, d.position limit greatest(0, %(each)s - (select count(*) "
            "        from unnest(%(webhooks)s::uuid[]) as under_way (id) where under_way.id = w.id))) d "
            "join events e on e.tenant_id = d.tenant_id and e.id = d.event_id "
            "where w.state = 'active' order by d.due_at, d.position limit %(free)s",
            {
                "busy": [due.id for due in busy], "webhooks": [due.webhook_id for due in busy],
                "each": _MAX_RUNNING_PER_WEBHOOK, "free": free,
            },
        )  # fmt: skip
        return [_due_delivery(row) for row in await found.fetchall()]

    async def _attempt_delivery(self, due: _DueDelivery) -> None:
        outcome = await self._send(due) if due.permitted else _WITHHELD
        async with self._database.acting_as(_sender(due.tenant_id)) as conn:
            await self._record_outcome(conn, due, outcome)
        _log.info(
            "webhook delivery attempted", webhook_id=str(due.webhook_id), event_id=str(due.event.id),
            attempt=due.attempts + 1, status=outcome.status, failure=outcome.failure,
        )  # fmt: skip

    async def _send(self, due: _DueDelivery) -> DeliveryOutcome:
        try:
            async with self._database.acting_as(_sender(due.tenant_id)) as conn:
                keys = await signing_keys(conn, self._keys, due.tenant_id, due.webhook_id)
        except WriteCareError as error:
            return DeliveryOutcome(failure=error.slug)
        return await self._client.send(due.url, due.event, keys)

    async def _record_outcome(self, conn: Connection, due: _DueDelivery, outcome: DeliveryOutcome) -> None:
        attempts = due.attempts + 1
        dead = not outcome.is_delivered and (
            attempts >= self._retry_policy.attempts or outcome.is_gone or outcome is _WITHHELD
        )
        state = "delivered" if outcome.is_delivered else "dead" if dead else "waiting"
        await conn.execute(
            "update webhook_deliveries set state = %(state)s, attempts = %(attempts)s, last_status = %(status)s, "
            "last_failure = %(failure)s, due_at = now() + make_interval(secs => %(pause)s), "
            "ended_at = case when %(state)s <> 'waiting' then now() end "
            "where tenant_id = %(tenant)s and id = %(id)s and state = 'waiting'",
            {
                "state": state, "attempts": attempts, "status": outcome.status, "failure": outcome.failure,
                "pause": self._retry_policy.pause_seconds(attempts), "tenant": due.tenant_id, "id": due.id,
            },
        )  # fmt: skip
        if outcome.is_delivered:
            await conn.execute(
                "update webhooks set dead_in_a_row = 0 where tenant_id = %s and id = %s and dead_in_a_row > 0",
                (due.tenant_id, due.webhook_id),
            )
        elif dead and outcome is not _WITHHELD:  # withholding is no failure of the receiver
            await self._count_dead(conn, due, outcome)

    async def _count_dead(self, conn: Connection, due: _DueDelivery, outcome: DeliveryOutcome) -> None:
        """Counts a dead delivery. Disables the webhook after too many in a row, or at once if the receiver answered
        410.
        """
        dead_limit = 0 if outcome.is_gone else self._retry_policy.dead_in_a_row
        counted = await conn.execute(
            "update webhooks set dead_in_a_row = dead_in_a_row + 1, "
            "state = case when dead_in_a_row + 1 >= %(borne)s then 'disabled' else state end, "
            "version = version + 1, updated_at = now() "
            "where tenant_id = %(tenant)s and id = %(id)s and state = 'active' returning state",
            {"borne": dead_limit, "tenant": due.tenant_id, "id": due.webhook_id},
        )
        row = await counted.fetchone()
        if row is not None and row["state"] == "disabled":
            because = {"status": outcome.status, "failure": outcome.failure}
            await record_act(conn, _sender(due.tenant_id), "webhook.disabled", ("webhook", due.webhook_id), because)

    async def _cancel_running(self) -> None:
        await end(self._running)
        self._running.clear()


def _sender(tenant_id: UUID) -> Actor:
    return Actor(tenant_id, NIL_UUID, "service")


def _due_delivery(row: dict[str, Any]) -> _DueDelivery:
    own = {name: row.pop(name) for name in ("webhook_id", "attempts", "url", "permitted")}
    return _DueDelivery(tenant_id=row["tenant_id"], id=row.pop("delivery_id"), event=SentEvent(**row), **own)
