"""What HTTP requires of every address: HEAD, Allow, redirects, Host, security headers, ranges and ETags."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from comms.app.application import create_app
from comms.kernel.settings import Settings
from comms.web.allowed_hosts import AllowedHosts
from comms.web.context import AppContext
from tests import factories
from tests.comms.http_server import served
from tests.comms.recording_fixtures import make_recording, transcribe
from tests.comms.web.test_middleware import assert_problem

pytestmark = pytest.mark.anyio

PAGES = ("/", "/docs", "/sign-in", "/set-password", "/second-factor")


@asynccontextmanager
async def opened(settings: Settings, **changes: object) -> AsyncIterator[httpx.AsyncClient]:
    """The application with other settings."""
    app = create_app(settings.model_copy(update=changes))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as client:
            yield client


# --- HEAD and Allow ---------------------------------------------------------------------------------------------------


async def test_head_answers_wherever_get_does_with_its_headers_and_no_body(
    client: httpx.AsyncClient, app: FastAPI, ctx: AppContext
) -> None:
    lead = await factories.make_actor(ctx, "safeguarding_lead")
    headers = factories.bearer(ctx, lead)
    asked = 0
    for path, operations in app.openapi()["paths"].items():
        if "get" not in operations or "oidc" in path:
            continue
        concrete = re.sub(r"\{\w+\}", str(lead.user_id), path)
        whole = await client.get(concrete, headers=headers)
        head = await client.head(concrete, headers=headers)
        assert (head.status_code, head.content) == (whole.status_code, b""), path
        for name in ("content-type", "etag", "www-authenticate", "content-security-policy"):
            assert head.headers.get(name) == whole.headers.get(name), (path, name)
        asked += 1
    assert asked > 40


async def test_head_works_behind_a_real_server_too(app: FastAPI, ctx: AppContext) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, "care_manager"))
    async with served(app) as address, httpx.AsyncClient(base_url=f"http://{address}") as client:
        for path in ("/health", "/docs", "/api/me", "/api/sessions"):
            whole = await client.get(path, headers=headers)
            head = await client.head(path, headers=headers)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == whole.headers["content-length"]


async def test_head_of_a_sound_neither_reads_it_nor_says_that_somebody_heard_it(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    sound = factories.wav()
    recording = await factories.store_recording(ctx, manager, session_id, sound)
    headers = factories.bearer(ctx, manager) | {"Range": "bytes=0-9"}
    head = await client.head(f"/api/recordings/{recording.id}/download", headers=headers)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(sound)), b"")
    assert head.headers["accept-ranges"] == "bytes"
    officer = await factories.make_user(ctx, manager.tenant_id, "data_protection_officer")
    acts = await factories.rows(
        ctx, officer, "select 1 from audit_log where action = 'recording.heard' and object_id = %s", recording.id
    )
    assert acts == []


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PATCH", "/api/sessions", {"GET", "HEAD", "POST"}),
        ("PUT", "/api/conversations", {"GET", "HEAD", "POST"}),
        ("POST", "/health", {"GET", "HEAD"}),
        ("DELETE", "/sign-in", {"GET", "HEAD", "POST"}),
        ("GET", "/api/me/password", {"PUT"}),
        ("HEAD", "/api/me/password", {"PUT"}),
        ("POST", "/openapi.json", {"GET", "HEAD"}),
        ("DELETE", "/", {"GET", "HEAD"}),
    ],
)
async def test_a_method_that_is_not_taken_is_answered_with_those_that_are(
    client: httpx.AsyncClient, method: str, path: str, allow: set[str]
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allow


async def test_allow_names_every_described_method_of_every_address(client: httpx.AsyncClient, app: FastAPI) -> None:
    for path, operations in app.openapi()["paths"].items():
        concrete = re.sub(r"\{\w+\}", "0193e5a0-0000-7000-8000-000000000000", path)
        answer = await client.request("TRACE", concrete)
        assert answer.status_code == 405, path
        described = {method.upper() for method in operations} | ({"HEAD"} if "get" in operations else set())
        assert described <= set(answer.headers["allow"].split(", ")), path


# --- redirects and hosts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/me/", "/api/sessions/", "/docs/", "/health/", "/api//me"])
async def test_nothing_is_redirected_to_the_host_that_the_caller_names(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, headers={"Host": "evil.example"})
    assert_problem(answer, 404, "not-found")
    assert "location" not in answer.headers


@pytest.mark.parametrize("host", ["[", "[::::]", "[::1", "a b", "a@b", "a/b", "é.example", "a:1:2", ":80", "a:999999"])
async def test_a_host_that_is_none_is_refused_wherever_it_goes(
    client: httpx.AsyncClient, ctx: AppContext, host: str
) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, "care_manager"))
    for method, path in (("GET", "/health"), ("GET", "/api/me"), ("POST", "/api/homes")):
        sent = [(b"host", host.encode()), (b"idempotency-key", b"k")]
        sent += [(name.encode(), value.encode()) for name, value in headers.items()]
        assert_problem(await client.request(method, path, headers=sent, json={}), 400, "host-malformed")


async def test_only_the_named_hosts_are_taken_where_some_are_named(settings: Settings) -> None:
    async with opened(settings, allowed_hosts=frozenset({"Care.example"})) as client:
        for host in ("care.example", "care.example:8443", "CARE.EXAMPLE", "127.0.0.1:8080", "localhost", "[::1]:8080"):
            assert (await client.get("/", headers={"Host": host})).status_code == 200, host
        for host in ("evil.example", "care.example.evil.example", "10.0.0.1", "xcare.example"):
            answer = await client.get("/", headers={"Host": host})
            assert_problem(answer, 421, "host-unknown")
            assert (await client.get("/health", headers={"Host": host})).status_code == 200, host


def test_without_named_hosts_the_public_address_is_the_one_that_is_taken(settings: Settings) -> None:
    public = settings.model_copy(update={"public_url": "https://connect.example:8443/care"})
    assert AllowedHosts.from_settings(public).names == frozenset({"connect.example", "localhost", "127.0.0.1", "[::1]"})
    assert AllowedHosts.from_settings(settings).names is None


@pytest.mark.parametrize("origin", ["http://[::1", "http://[", "null", "evil", "http://evil.example"])
async def test_an_origin_that_is_none_is_another_origin(client: httpx.AsyncClient, origin: str) -> None:
    sent = {"tenant": "t", "user": "u", "password": "p"}
    answer = await client.post("/sign-in", data=sent, headers={"Origin": origin})
    assert_problem(answer, 403, "origin-refused")


# --- security headers -------------------------------------------------------------------------------------------------


async def test_strict_transport_is_asked_for_where_tls_is_used_and_nowhere_else(
    client: httpx.AsyncClient, app: FastAPI, settings: Settings
) -> None:
    expected = "max-age=31536000; includeSubDomains"
    assert "strict-transport-security" not in (await client.get("/")).headers
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://writecare.test") as encrypted:
        for path in ("/", "/api/me", "/nowhere"):
            assert (await encrypted.get(path)).headers["strict-transport-security"] == expected
    async with opened(settings, public_url="https://writecare.test") as behind_a_proxy:
        assert (await behind_a_proxy.get("/health")).headers["strict-transport-security"] == expected


def directives(answer: httpx.Response) -> dict[str, str]:
    parts = [part.strip().partition(" ") for part in answer.headers["content-security-policy"].split(";")]
    return {name: value for name, _, value in parts}


async def test_a_page_may_load_its_own_style_and_nothing_else(client: httpx.AsyncClient) -> None:
    for path in PAGES:
        answer = await client.get(path)
        policy = directives(answer)
        [style] = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert policy["style-src"] == f"'sha256-{digest}'"
        assert (policy["default-src"], policy["base-uri"], policy["form-action"]) == ("'none'", "'none'", "'self'")
        assert policy["frame-ancestors"] == "'none'"
        assert "style=" not in answer.text
        assert "unsafe" not in answer.headers["content-security-policy"]


async def test_what_is_no_page_may_load_nothing(client: httpx.AsyncClient) -> None:
    for path in ("/openapi.json", "/health", "/api/me", "/nowhere"):
        policy = directives(await client.get(path))
        assert {policy[name] for name in ("default-src", "base-uri", "form-action", "frame-ancestors")} == {"'none'"}


# --- ranges and tags --------------------------------------------------------------------------------------------------


async def test_a_download_goes_on_only_where_it_is_still_the_same(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    sound = factories.wav()
    recording = await factories.store_recording(ctx, manager, session_id, sound)
    path, headers = f"/api/recordings/{recording.id}/download", factories.bearer(ctx, manager)
    whole = await client.get(path, headers=headers)
    etag = whole.headers["etag"]
    assert re.fullmatch(r'"[^"]+"', etag)
    part = headers | {"Range": "bytes=100-199"}
    same = await client.get(path, headers=part | {"If-Range": etag})
    assert (same.status_code, same.content) == (206, sound[100:200])
    assert same.headers["etag"] == etag
    for other in ('"another"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT", etag.strip('"')):
        answer = await client.get(path, headers=part | {"If-Range": other})
        assert (answer.status_code, answer.content == sound) == (200, True), other
    beyond = headers | {"Range": "bytes=99999999-", "If-Range": '"another"'}
    assert (await client.get(path, headers=beyond)).status_code == 200
    known = await client.get(path, headers=part | {"If-None-Match": etag})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)


async def test_two_tracks_of_a_recording_have_two_tags(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, resident, session_id = await factories.make_call(ctx)
    sent = await client.post(
        f"/api/recordings?session_id={session_id}", headers=factories.bearer(ctx, manager),
        files=[
            ("file", ("a.wav", factories.wav(hertz=200))), ("file", ("b.wav", factories.wav(hertz=400))),
            ("participant", (None, str(manager.user_id))), ("participant", (None, str(resident.user_id))),
        ],
    )  # fmt: skip
    path = f"{sent.headers['location']}/download"
    tags = [
        (await client.get(path, params={"track": track}, headers=factories.bearer(ctx, manager))).headers["etag"]
        for track in (0, 1)
    ]
    assert len(set(tags)) == 2


async def test_each_form_of_a_transcript_has_a_tag_of_its_own(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    recording_fixtures = await make_recording(ctx)
    await transcribe(worker_ctx, recording_fixtures)
    path, headers = (
        f"/api/recordings/{recording_fixtures.recording_id}/transcript",
        factories.bearer(ctx, recording_fixtures.lead),
    )
    tags = set()
    for params in ({}, {"format": "srt"}, {"format": "vtt"}, {"format": "text"}):
        answer = await client.get(path, params=params, headers=headers)
        assert re.fullmatch(r'"[0-9a-f]{32}"', answer.headers["etag"])
        again = await client.get(path, params=params, headers=headers | {"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        tags.add(answer.headers["etag"])
    assert len(tags) == 4


async def test_a_boundary_of_an_absurd_length_is_the_callers_error(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    for length in (71, 256, 257, 3000, 60_000):
        boundary = "b" * length
        headers = factories.bearer(ctx, manager) | {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        body = f'--{boundary}\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--{boundary}--\r\n'
        answer = await client.post(f"/api/recordings?session_id={session_id}", content=body, headers=headers)
        assert_problem(answer, 422, "upload-malformed")
