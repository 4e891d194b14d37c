"""The HTTP application of the model API, without Ray: how it reads a request."""

import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request

from comms.kernel.database import Actor
from comms.web.context import AppContext
from comms.web.problems import install_problem_handlers
from models.contract.endpoints import ENDPOINTS
from serving.ingress import IngressState, _json, _transcribe
from tests import factories

pytestmark = pytest.mark.anyio


@pytest.fixture
async def caller(ctx: AppContext) -> AsyncIterator[httpx.AsyncClient]:
    async with door_of(ctx, await factories.make_actor(ctx, "care_manager")) as opened:
        yield opened


@asynccontextmanager
async def door_of(ctx: AppContext, manager: Actor) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the ingress's two kinds of request body, as a care manager, without models."""
    ingress_state = IngressState(ctx.settings, ctx.database, ctx.verifier, {}, ctx.recording_decoders)
    [endpoint] = [one for one in ENDPOINTS if one.call == "transcribe"]
    app = FastAPI()
    install_problem_handlers(app)

    @app.post("/json")
    async def read_json(request: Request) -> None:
        await _json(request)

    @app.post("/sound")
    async def read_sound(request: Request) -> None:
        await _transcribe(ingress_state, manager, request, endpoint)

    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as opened:
        yield opened


@pytest.mark.parametrize(
    "body",
    [b"{", b"\xff", b"[" * 100_000, b'{"n": ' + b"1" * 5000 + b"}", rb'{"id": "half \ud800"}'],
    ids=["cut off", "not UTF-8", "nested too deeply", "a number too long", "half a character"],
)
async def test_what_is_no_json_that_can_be_read_is_the_callers_error(caller: httpx.AsyncClient, body: bytes) -> None:
    answer = await caller.post("/json", content=body)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, "request-invalid")


async def test_a_byte_order_mark_before_a_body_is_passed_over(caller: httpx.AsyncClient) -> None:
    assert (await caller.post("/json", content=b'\xef\xbb\xbf{"items": []}')).status_code == 200


async def test_sound_is_kept_in_the_data_folder_alone_and_without_a_name(
    caller: httpx.AsyncClient, ctx: AppContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))  # writing a temporary file fails
    answer = await caller.post(
        "/sound", data={"processing_id": str(uuid.uuid4())}, files={"audio": ("a.wav", bytes(3 << 20))}
    )
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (404, "not-found")
    assert list((ctx.settings.data_dir / "scratch").iterdir()) == []


async def test_a_form_without_sound_or_with_both_sorts_of_it_is_refused(caller: httpx.AsyncClient) -> None:
    ground = {"processing_id": str(uuid.uuid4())}
    both = {"audio": ("a.wav", b"a"), "items": ("b.wav", b"b")}
    for files, slug in (({"sound": ("a.wav", b"a")}, "upload-malformed"), (both, "audio-parts")):
        answer = await caller.post("/sound", data=ground, files=files)
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, slug)
    answer = await caller.post("/sound", data=ground | {"speakers": "x"}, files={"audio": ("a.wav", b"a")})
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, "request-invalid")


@pytest.mark.parametrize(
    "content",
    [b"ffconcat version 1.0\nfile etc/hostname\n", b"#EXTM3U\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"],
    ids=["ffconcat", "m3u8"],
)
async def test_a_list_of_other_files_is_no_sound(ctx: AppContext, content: bytes) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    ground = await factories.put_in_force(ctx, manager, "transcribe", "vital_interests")
    async with door_of(ctx, manager) as caller:
        answer = await caller.post(
            "/sound", data={"processing_id": str(ground.id)}, files={"audio": ("a.wav", content)}
        )
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, "audio-unreadable")
