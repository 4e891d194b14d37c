"""The HTTP layer: what every answer carries, the form of every failure, and that all of it is documented."""

import re
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from comms.app.application import ROUTERS, create_app
from comms.kernel.settings import Settings
from comms.web.context import AppContext
from comms.web.problems import MAPPING_OF_KIND, TYPE_PREFIX, close_code_of, is_retried, status_of
from models.contract.errors import Kind, WriteCareError
from tests import factories
from tests.comms.openapi_requests import PUBLIC

pytestmark = pytest.mark.anyio


def assert_problem(answer: httpx.Response, status: int, slug: str) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    body = answer.json()
    assert (body["type"], body["status"]) == (TYPE_PREFIX + slug, status)
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]


async def test_failures_of_every_sort_are_problems(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    headers = factories.bearer(ctx, manager)
    assert_problem(await client.get("/api/nowhere"), 404, "not-found")
    assert_problem(await client.patch("/api/sessions", headers=headers), 405, "method-not-allowed")
    assert_problem(await client.get("/api/sessions"), 401, "token-missing")
    assert_problem(await client.get("/api/tenants", headers=headers), 403, "role-lacks-permission")
    missing = f"/api/sessions/{manager.user_id}"
    assert_problem(await client.get(missing, headers=headers), 404, "not-found")
    assert_problem(await client.get("/api/sessions/not-an-id", headers=headers), 422, "request-invalid")
    garbled = headers | {"Content-Type": "application/json"}
    assert_problem(await client.post("/api/homes", content=b"{", headers=garbled), 422, "request-invalid")


async def test_an_invalid_request_is_told_where_but_not_what_it_said(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, "care_manager"))
    said = "she said he hit her"
    body = {"session_type": said, "title": "", "care_context": said, "home_id": said, said * 5: said}
    answer = await client.post("/api/sessions", json=body, headers=headers)
    assert_problem(answer, 422, "request-invalid")
    assert {"body/session_type", "body/title"} <= {found["location"] for found in answer.json()["fields"]}
    assert said not in answer.text


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        (r'"title": "nul \u0000"', "a NUL character"),
        (r'"title": "call", "description": "nul \u0000"', "a NUL character"),
    ],
)
async def test_what_the_database_cannot_keep_is_the_callers_error(
    client: httpx.AsyncClient, ctx: AppContext, fields: str, what: str
) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, "care_manager"))
    body = f'{{"session_type": "meeting", {fields}}}'
    answer = await client.post("/api/sessions", content=body, headers=headers | {"Content-Type": "application/json"})
    assert_problem(answer, 422, "text-invalid")
    assert (await client.get("/api/sessions", headers=headers)).json()["items"] == [], what


@pytest.mark.parametrize(
    ("evidence", "what"),
    [
        (r'{"note": "nul \u0000"}', "a NUL character in JSON"),
        (r'{"note": "half \ud800"}', "half a character in JSON"),
        (r'{"nul \u0000": 1}', "a NUL character as a key"),
        (r'{"note": 1e999}', "a number out of range"),
    ],
)
async def test_json_that_the_database_cannot_keep_is_the_callers_error_too(
    client: httpx.AsyncClient, ctx: AppContext, evidence: str, what: str
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    await factories.put_in_force(ctx, manager, "record")
    body = f'{{"user_id": "{manager.user_id}", "purpose": "record", "evidence": {evidence}}}'
    headers = factories.bearer(ctx, manager) | {"Content-Type": "application/json"}
    assert_problem(await client.post("/api/consent/grant", content=body, headers=headers), 422, "text-invalid")
    assert await factories.rows(ctx, manager, "select 1 from consent_records") == [], what


async def test_half_a_character_where_it_is_no_text_of_ours_is_refused_too(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, "care_manager"))
    body = r'{"session_type": "meeting", "title": "half \ud800"}'
    answer = await client.post("/api/sessions", content=body, headers=headers | {"Content-Type": "application/json"})
    assert answer.status_code == 422


async def test_a_failure_of_ours_says_nothing_of_what_it_failed_on(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = create_app(settings)

    @broken.get("/breaks")
    async def breaks() -> None:
        raise RuntimeError("the words of a resident")

    transport = httpx.ASGITransport(app=broken, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as caller:
        answer = await caller.get("/breaks")
    assert_problem(answer, 500, "internal-error")
    printed = capsys.readouterr()
    assert "resident" not in answer.text + printed.out + printed.err


async def test_every_answer_carries_a_request_id_and_security_headers(client: httpx.AsyncClient) -> None:
    for path in ("/", "/docs", "/openapi.json", "/health", "/metrics", "/api/me", "/nowhere"):
        answer = await client.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-request-id"]


@pytest.fixture
async def narrow_client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The application with an upload limit of 1,000 bytes."""
    narrow = create_app(settings.model_copy(update={"max_upload_bytes": 1000}))
    async with narrow.router.lifespan_context(narrow):
        transport = httpx.ASGITransport(app=narrow, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as opened:
            yield opened


async def test_an_upload_over_the_limit_is_stopped_announced_or_not(
    narrow_client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    headers = factories.bearer(ctx, manager)
    path = f"/api/recordings?session_id={session_id}"
    announced = await narrow_client.post(path, files={"file": factories.wav()}, headers=headers)
    assert_problem(announced, 413, "body-too-large")

    async def unannounced() -> AsyncIterator[bytes]:
        yield b'--cut\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
        for _ in range(100):
            yield b"x" * 100

    form = headers | {"Content-Type": "multipart/form-data; boundary=cut"}
    assert_problem(await narrow_client.post(path, content=unannounced(), headers=form), 413, "body-too-large")
    assert await factories.rows(ctx, manager, "select 1 from recordings") == []


async def test_json_of_an_absurd_size_is_stopped(client: httpx.AsyncClient, ctx: AppContext) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, "care_manager"))

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * (1 << 20)

    answer = await client.post("/api/homes", content=endless(), headers=headers | {"Content-Type": "application/json"})
    assert_problem(answer, 413, "body-too-large")


async def test_the_openapi_document_has_every_route_with_words_for_each(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    document = (await client.get("/openapi.json")).json()
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    assert len(routes) > 30
    for route in routes:
        for method in route.methods or ():
            operation = document["paths"][route.path][method.lower()]
            assert operation["description"], route.path
            assert operation["tags"], route.path
            if f"{method} {route.path}" not in PUBLIC:
                assert operation["security"] == [{"HTTPBearer": []}], route.path
            problem = {"$ref": "#/components/schemas/ProblemDetails"}
            for status in ("401", "403", "404", "409", "422", "503"):
                content = operation["responses"][status]["content"]
                assert content["application/problem+json"]["schema"] == problem, (route.path, status)
    for path in ("/health", "/health/detailed", "/metrics"):
        assert path in document["paths"]
    identifiers = [op["operationId"] for operations in document["paths"].values() for op in operations.values()]
    assert len(identifiers) == len(set(identifiers))
    upload = document["paths"]["/api/recordings"]["post"]["requestBody"]["content"]
    assert "file" in upload["multipart/form-data"]["schema"]["properties"]


async def test_no_route_of_the_platform_answers_without_a_token(client: httpx.AsyncClient, app: FastAPI) -> None:
    for path, operations in app.openapi()["paths"].items():
        if not path.startswith("/api/"):
            continue
        concrete = re.sub(r"\{\w+\}", str(uuid.uuid4()), path)
        for method in operations:
            if f"{method.upper()} {path}" in PUBLIC:
                continue
            assert_problem(await client.request(method, concrete), 401, "token-missing")


async def test_the_pages_for_people_are_whole_and_fetch_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    for path in ("/", "/docs"):
        page = (await client.get(path)).text
        assert '<html lang="en-GB">' in page
        assert "<h1>" in page
        assert "<script" not in page
        assert "http://" not in page
        assert "https://" not in page
    assert "POST /api/recordings" in page


async def test_health_tells_of_database_storage_models_and_confinement(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    assert (await client.get("/health")).json() == {"status": "ok"}
    health = await client.get("/health/detailed", headers=factories.operator(ctx))
    assert health.status_code == 200
    found = health.json()
    assert (found["database"]["status"], found["storage"]["status"]) == ("ok", "ok")
    assert found["confinement"] == dict.fromkeys(("memory", "cpu", "files", "network", "processes", "privileges"), True)
    assert "system calls" in found["confinement_layers"]


async def test_health_without_models_is_degraded(settings: Settings, ctx: AppContext) -> None:
    lonely = create_app(settings.model_copy(update={"serve_url": "http://127.0.0.1:9"}))
    async with lonely.router.lifespan_context(lonely):
        transport = httpx.ASGITransport(app=lonely, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as caller:
            health = await caller.get("/health/detailed", headers=factories.operator(ctx))
    assert (health.status_code, health.json()["status"], health.json()["models"]["status"]) == (200, "degraded", "down")


async def test_measurements_count_routes_and_hold_no_ids(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    await client.get(f"/api/sessions/{manager.user_id}", headers=factories.bearer(ctx, manager))
    text = (await client.get("/metrics", headers=factories.operator(ctx))).text
    assert 'writecare_http_requests_total{method="GET",route="/api/sessions/{session_id}",status="404"}' in text
    assert str(manager.user_id) not in text


def test_every_kind_has_an_answer_at_every_door() -> None:
    assert set(MAPPING_OF_KIND) == set(Kind)
    for kind in Kind:
        error = WriteCareError(kind, "any", "any")
        assert 400 <= status_of(error) < 600
        assert close_code_of(error) in (1009, 1013) or 4000 <= close_code_of(error) < 5000
        assert is_retried(error) is (kind == Kind.UNAVAILABLE)
    assert status_of(WriteCareError(Kind.CONFLICT, "version-stale", "any")) == 412
