"""Copies sent events to Redis streams for programs on other machines, if the settings name a Redis server.

There is one stream for each tenant, `writecare:events:<tenant id>`, so that a Redis account can be limited to one
tenant. The fields of an entry are the CloudEvents attributes (`data` as JSON); its id is the position of the event. The
last position is stored in Redis in the same MULTI as the entries. So after an outage, a restart or a restored backup of
either server the copy continues from what Redis holds, and no entry is added twice.
"""

import asyncio
import json
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from comms.kernel.database import Connection
from comms.kernel.processes.leader_election import run_as_leader
from comms.outbox.envelope import SentEvent, envelope
from comms.outbox.queries import EVENTS_CHANNEL

STREAM_PREFIX: Final = "writecare:events:"
POSITION_KEY: Final = "writecare:events:position"
_LOCK: Final = 0x77636335  # a session lock: one writer at a time
_BATCH: Final = 500
_IDLE_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


async def fill_streams(url: str, redis_url: str, length: int, stopping: asyncio.Event) -> None:
    """Adds sent events until `stopping` is set; reconnects if PostgreSQL or Redis is lost."""

    async def fill(conn: Connection) -> None:
        await conn.execute(f"listen {EVENTS_CHANNEL}".encode())
        async with Redis.from_url(
            redis_url, decode_responses=True, socket_timeout=10, socket_connect_timeout=5
        ) as redis:
            while not stopping.is_set():
                if await add_batch(conn, redis, length) == 0:
                    async for _ in conn.notifies(timeout=_IDLE_SECONDS, stop_after=1):
                        pass

    await run_as_leader("streams", url, _LOCK, fill, stopping, retry_on=(RedisError, OSError))


async def add_batch(conn: Connection, redis: "Redis", length: int) -> int:
    """Adds the oldest sent events that Redis does not hold; returns how many."""
    position = int(await redis.get(POSITION_KEY) or 0)
    found = await conn.execute(
        "select tenant_id, id, type, aggregate_type, aggregate_id, aggregate_version, data, occurred_at, position "
        "from events where position > %s order by position limit %s",
        (position, _BATCH),
    )
    events = [SentEvent(**row) async for row in found]
    if not events:
        return 0
    batch = redis.pipeline(transaction=True)
    for event in events:
        batch.xadd(f"{STREAM_PREFIX}{event.tenant_id}", _fields(event), id=f"{event.position}-0", maxlen=length)
    batch.set(POSITION_KEY, events[-1].position)
    try:
        await batch.execute()
    except ResponseError:
        # The entry exists: another writer added it. The next round reads the position that it stored.
        _log.warning("another writer filled the streams", position=position)
        raise
    return len(events)


def _fields(event: SentEvent) -> dict[Any, Any]:
    shown = envelope(event).model_dump(mode="json")
    return {**shown, "data": json.dumps(shown["data"], separators=(",", ":"))}
