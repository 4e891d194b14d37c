"""Unauthenticated requests are cheap: counted before any work; hashing, headers and bodies have limits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from comms.app.application import ROUTERS, create_app
from comms.app.health.routes import router as health
from comms.app.pages.account_forms import router as account_pages
from comms.app.pages.routes import router as front
from comms.kernel.access.password_hashing import PasswordHasher
from comms.kernel.settings import Settings
from comms.web.dependencies import authenticated_actor, count_anonymous
from comms.web.uvicorn_protocol import MOST_HEADER_BYTES, TimeLimitedHttpProtocol
from models.contract.errors import WriteCareError
from tests import factories
from tests.comms.http_server import served

pytestmark = pytest.mark.anyio

# They do little work and return no text: liveness and metrics for supervisors.
UNCOUNTED = {"/health", "/health/detailed", "/metrics"}


def slug_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition("/")[2]


def needs(dependant: Any) -> set[Any]:
    """All dependencies of a route, direct and indirect."""
    return {each.call for each in dependant.dependencies} | {
        call for each in dependant.dependencies for call in needs(each)
    }


def test_every_route_asks_for_a_token_or_counts_the_address() -> None:
    routers = (*ROUTERS, health, front, account_pages)
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    open_to_all = {
        route.path for route in routes if not needs(route.dependant) & {authenticated_actor, count_anonymous}
    }
    assert open_to_all == UNCOUNTED
    assert len(routes) > 100


@asynccontextmanager
async def limited(settings: Settings, **changes: Any) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The application with other settings, and a client with its own address."""
    narrow = create_app(settings.model_copy(update=changes))
    transport = httpx.ASGITransport(app=narrow, raise_app_exceptions=False, client=(factories.new_address(), 1))
    async with (
        narrow.router.lifespan_context(narrow),
        httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as client,
    ):
        yield narrow, client


async def test_an_address_that_asks_too_often_without_a_token_is_told_when_to_go_on(settings: Settings) -> None:
    async with limited(settings, requests_a_minute_address=3) as (app, client):
        answers = [await client.get("/sign-in") for _ in range(8)]  # also if a new minute begins
        assert {answer.status_code for answer in answers[:3]} == {200}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert slug_of(refused) == "too-many-requests"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        elsewhere = httpx.ASGITransport(app=app, client=(factories.new_address(), 1))
        async with httpx.AsyncClient(transport=elsewhere, base_url="http://writecare.test") as other:
            assert (await other.get("/sign-in")).status_code == 200


# --- hashing ----------------------------------------------------------------------------------------------------------


class NoHashing(PasswordHasher):
    """Fails the test if anything is hashed."""

    async def hash(self, password: str) -> str:
        raise AssertionError("hashed")

    async def hash_new(self, password: str, context: tuple[str, ...]) -> str:
        raise AssertionError("hashed")


async def test_a_code_that_is_not_good_is_refused_before_anything_is_hashed(settings: Settings) -> None:
    async with limited(settings) as (app, client):
        app.state.ctx.passwords._new._most = 0
        sent = {"tenant": "nowhere", "user": "nobody", "code": "abcd" * 8, "new_password": "seven lanterns in a row"}
        answer = await client.post("/api/auth/password-reset", json=sent)
        assert (answer.status_code, slug_of(answer)) == (401, "reset-invalid")


async def test_new_passwords_wait_in_a_queue_of_their_own_and_a_full_one_refuses_at_once() -> None:
    hasher = PasswordHasher(sign_ins_waiting=1, new_waiting=1)
    stored = await hasher.hash("seven lanterns under water")
    new = [asyncio.create_task(hasher.hash("another long sentence")) for _ in range(8)]
    done = await asyncio.gather(*new, hasher.matches("seven lanterns under water", stored), return_exceptions=True)
    refused = [each for each in done if isinstance(each, WriteCareError)]
    assert len(refused) == 6  # one runs, one waits
    assert {(error.slug, error.retry_after_seconds) for error in refused} == {("sign-ins-busy", 5)}
    assert done[-1] is True


# --- slow and oversized requests --------------------------------------------------------------------------------------


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body, then answers with its length."""
    length = 0
    while True:
        message = await receive()
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(str(length)))]}
    )
    await send({"type": "http.response.body", "body": str(length).encode()})


async def talk(address: str, *parts: bytes) -> bytes:
    """Sends the parts, and returns what the server sends until it closes the connection."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b"closed"
    finally:
        writer.close()


class ImpatientHttpProtocol(TimeLimitedHttpProtocol):
    """Has time limits that are short enough for a test."""

    header_seconds = 0.3
    body_check_seconds = 0.3


async def test_headers_without_end_are_refused() -> None:
    async with served(silent) as address:
        endless = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Long: " + b"a" * (MOST_HEADER_BYTES + 40_000)
        assert (await talk(address, endless)).startswith(b"HTTP/1.1 431 ")
        many = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 100_000 + b"\r\n"
        assert not (await talk(address, many)).startswith(b"HTTP/1.1 200 ")


async def test_a_body_is_not_taken_for_headers() -> None:
    async with served(silent) as address, httpx.AsyncClient(trust_env=False) as client:
        for _ in range(2):  # the second uses the connection of the first
            answer = await client.post(f"http://{address}/", content=b"a" * 5_000_000)
            assert (answer.status_code, answer.text) == (200, "5000000")


async def test_a_request_that_does_not_come_is_closed() -> None:
    async with served(silent, ImpatientHttpProtocol) as address:
        assert await talk(address) == b""
        assert (await talk(address, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow:")).startswith(b"HTTP/1.1 408 ")
        assert await talk(address, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc") in (b"", b"closed")


async def test_a_second_request_of_a_connection_is_waited_for_no_longer_than_the_first() -> None:
    async with served(silent, ImpatientHttpProtocol) as address:
        whole = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        told = await talk(address, whole, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow:")
        assert told.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in told
