"""Tests of the model API: calls and responses are streamed without being parsed; each call needs a lawful basis."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from comms.ai.lawful_use import check_lawful_basis
from comms.ai.model_client import open_model_client
from comms.app.application import create_app
from comms.governance.consent.lawful_grounds import end_ground
from comms.governance.consent.queries import ConsentChange, ConsentOrigin, grant_consent, withdraw_consent
from comms.kernel.database import Actor
from comms.web.context import AppContext
from models.contract.endpoints import ENDPOINTS, EndpointName, LawfulBasisRef
from models.contract.errors import Kind, WriteCareError
from tests import factories
from tests.comms import recording_fixtures
from tests.comms.http_server import served

pytestmark = pytest.mark.anyio

NOTHING_UNREAD: dict[str, list[str]] = {"recordings": [], "conversations": []}


class ModelServer:
    """A small HTTP server instead of Ray Serve: it returns what it received, and answers in two halves."""

    def __init__(self) -> None:
        self.second_half = asyncio.Event()
        self.first_part_arrived = asyncio.Event()
        self.left_alone = asyncio.Event()
        self.calls: list[str] = []
        self.app = Starlette(
            routes=[
                Route("/api/ai/embed", self._echo, methods=["POST"]),
                Route("/api/ai/analyze-transcript", self._in_halves, methods=["POST"]),
                Route("/api/ai/transcribe", self._take_upload, methods=["POST"]),
                Route("/api/ai/sentiment-analysis", self._refuse, methods=["POST"]),
                Route("/api/ai/generate-summary", self._not_deployed, methods=["POST"]),
            ]
        )

    async def _echo(self, request: Request) -> Response:
        self.calls.append(request.url.path)
        return JSONResponse(
            {
                "path": request.url.path, "query": request.url.query, "body": (await request.body()).decode(),
                "headers": dict(request.headers),
            }
        )  # fmt: skip

    async def _in_halves(self, request: Request) -> Response:
        await request.body()

        async def halves() -> AsyncIterator[bytes]:
            yield b'{"first": 1,'
            try:
                await self.second_half.wait()
            finally:
                self.left_alone.set()
            yield b'"second": 2}'

        return StreamingResponse(halves(), media_type="application/json")

    async def _take_upload(self, request: Request) -> Response:
        taken = 0
        async for part in request.stream():
            taken += len(part)
            self.first_part_arrived.set()
        return JSONResponse({"bytes": taken})

    async def _refuse(self, request: Request) -> Response:
        problem = {"type": "https://writecarenotes.com/problems/request-invalid", "status": 422, "detail": "…"}
        return JSONResponse(problem, 422, media_type="application/problem+json")

    async def _not_deployed(self, request: Request) -> Response:
        return PlainTextResponse("Path '/api/ai/generate-summary' not found.", 404)


@pytest.fixture
async def models() -> ModelServer:
    return ModelServer()


@pytest.fixture
async def api(ctx: AppContext, models: ModelServer) -> AsyncIterator[httpx.AsyncClient]:
    """The application on a port of its own, which forwards to the model server on another port."""
    app = create_app(ctx.settings)
    async with served(models.app) as serving, open_model_client(f"http://{serving}") as opened:
        app.state.ctx, app.state.models = ctx, opened
        async with (
            served(app) as address,
            httpx.AsyncClient(base_url=f"http://{address}", trust_env=False, timeout=60) as client,
        ):
            yield client


async def caller(ctx: AppContext, role: str = "service") -> dict[str, str]:
    return factories.bearer(ctx, await factories.make_actor(ctx, role))


def slug_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition("/")[2]


# --- forwarding -------------------------------------------------------------------------------------------------------


async def test_a_call_goes_on_as_it_came_with_its_token(api: httpx.AsyncClient, ctx: AppContext) -> None:
    headers = await caller(ctx)
    answer = await api.post("/api/ai/embed?x=1&x=2", content=b'{"texts": ["a"]}', headers=headers)
    assert answer.status_code == 200
    arrived = answer.json()
    assert (arrived["path"], arrived["query"], arrived["body"]) == ("/api/ai/embed", "x=1&x=2", '{"texts": ["a"]}')
    assert arrived["headers"]["authorization"] == headers["Authorization"]
    assert arrived["headers"]["x-request-id"] == answer.headers["x-request-id"]
    assert "cookie" not in arrived["headers"]


async def test_an_answer_is_passed_on_before_it_is_complete(
    api: httpx.AsyncClient, ctx: AppContext, models: ModelServer
) -> None:
    async with api.stream("POST", "/api/ai/analyze-transcript", json={}, headers=await caller(ctx)) as answer:
        parts = answer.aiter_raw()
        assert await anext(parts) == b'{"first": 1,'
        models.second_half.set()  # the server waits for this: a proxy that buffers the whole response would hang
        assert b"".join([part async for part in parts]) == b'"second": 2}'


async def test_a_caller_that_goes_away_frees_the_models(
    api: httpx.AsyncClient, ctx: AppContext, models: ModelServer
) -> None:
    async with api.stream("POST", "/api/ai/analyze-transcript", json={}, headers=await caller(ctx)) as answer:
        await anext(answer.aiter_raw())
    await models.left_alone.wait()
    assert not models.second_half.is_set()


async def test_an_upload_is_passed_on_before_it_is_complete(
    api: httpx.AsyncClient, ctx: AppContext, models: ModelServer
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"a" * 1000
        await models.first_part_arrived.wait()
        yield b"b" * 1000

    answer = await api.post("/api/ai/transcribe", content=body(), headers=await caller(ctx))
    assert answer.json() == {"bytes": 2000}


async def test_the_models_own_problems_come_back_unchanged(api: httpx.AsyncClient, ctx: AppContext) -> None:
    answer = await api.post("/api/ai/sentiment-analysis", json={}, headers=await caller(ctx))
    assert (answer.status_code, slug_of(answer)) == (422, "request-invalid")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_without_a_token_or_the_permission_nothing_reaches_the_models(
    api: httpx.AsyncClient, ctx: AppContext, models: ModelServer
) -> None:
    assert (await api.post("/api/ai/embed", json={})).status_code == 401
    expired = factories.bearer(ctx, await factories.make_actor(ctx, "service"), lifetime=-60)
    assert slug_of(await api.post("/api/ai/embed", json={}, headers=expired)) == "token-expired"
    for role in ("resident", "external", "care_worker"):
        assert (await api.post("/api/ai/embed", json={}, headers=await caller(ctx, role))).status_code == 403
    assert models.calls == []


async def test_models_that_are_still_starting_are_unavailable(api: httpx.AsyncClient, ctx: AppContext) -> None:
    answer = await api.post("/api/ai/generate-summary", json={}, headers=await caller(ctx))
    assert (answer.status_code, slug_of(answer)) == (503, "models-unavailable")


async def test_models_that_are_down_or_were_never_named_are_unavailable(
    client: httpx.AsyncClient, ctx: AppContext, models: ModelServer
) -> None:
    never_named = await client.post("/api/ai/embed", json={}, headers=await caller(ctx))
    assert (never_named.status_code, slug_of(never_named)) == (503, "models-unavailable")
    async with served(models.app) as gone:
        pass
    app = create_app(ctx.settings)
    async with open_model_client(f"http://{gone}") as opened:
        app.state.ctx, app.state.models = ctx, opened
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as asking:
            down = await asking.post("/api/ai/embed", json={}, headers=await caller(ctx))
    assert (down.status_code, slug_of(down)) == (503, "models-unavailable")
    assert down.headers["retry-after"] == "5"


async def test_every_model_call_is_described_with_its_bodies(app: FastAPI) -> None:
    document = app.openapi()
    for endpoint in ENDPOINTS:
        call = document["paths"][f"/api/ai/{endpoint.call}"]["post"]
        described = json.dumps(call["requestBody"])
        assert "processing_id" in described, endpoint.call
        assert "$ref" not in described, endpoint.call
        assert endpoint.response.__name__ in json.dumps(call["responses"]["200"]), endpoint.call


# --- lawful bases -----------------------------------------------------------------------------------------------------


async def checked(
    ctx: AppContext, actor: Actor, call: EndpointName = "detect-safeguarding", **ground: uuid.UUID
) -> None:
    async with ctx.database.acting_as(actor) as conn:
        await check_lawful_basis(conn, actor, LawfulBasisRef(**ground), call)


async def refusal(
    ctx: AppContext, actor: Actor, call: EndpointName = "detect-safeguarding", **ground: uuid.UUID
) -> Any:
    with pytest.raises(WriteCareError) as refused:
        await checked(ctx, actor, call, **ground)
    return refused.value.kind, refused.value.slug


async def test_a_call_on_a_recording_whose_people_permit_it_is_made_and_logged(
    ctx: AppContext, worker_ctx: AppContext
) -> None:
    made = await recording_fixtures.make_recording(ctx)
    for each in (ctx, worker_ctx):  # for every database role that the calling process may have
        await checked(each, made.lead, recording_id=made.recording_id)
    acts = await factories.rows(
        ctx,
        made.lead,
        "select object_type, object_id, actor_id from audit_log where action = 'ai.detect-safeguarding'",
    )
    logged = {"object_type": "recording", "object_id": made.recording_id, "actor_id": made.lead.user_id}
    assert acts == [logged, logged]


async def test_one_persons_no_is_a_no_to_the_whole_recording(ctx: AppContext) -> None:
    made = await recording_fixtures.make_recording(ctx)
    resident = made.people["S2"]
    async with ctx.database.acting_as(resident) as conn:
        await withdraw_consent(
            conn, resident, ConsentChange(user_id=resident.user_id, purpose="analyse"), ConsentOrigin()
        )
    assert await refusal(ctx, made.lead, recording_id=made.recording_id) == (Kind.REFUSED, "consent-missing")
    await checked(ctx, made.lead, "transcribe", recording_id=made.recording_id)  # the refusal was for 'analyse'
    acts = await factories.rows(ctx, made.lead, "select action from audit_log where action like 'ai.%%'")
    assert [act["action"] for act in acts] == ["ai.transcribe"]


async def test_on_a_basis_of_consent_everybody_who_can_be_heard_must_have_granted_it(ctx: AppContext) -> None:
    made = await recording_fixtures.make_recording(ctx, basis="consent")
    for speaker, person in made.people.items():
        assert await refusal(ctx, made.lead, recording_id=made.recording_id) == (Kind.REFUSED, "consent-missing")
        async with ctx.database.acting_as(person) as conn:
            change = ConsentChange(user_id=person.user_id, purpose="analyse", consent_method="spoken")
            await grant_consent(conn, person, change, ConsentOrigin())
        assert speaker in made.participants
    await checked(ctx, made.lead, recording_id=made.recording_id)


async def test_whose_track_is_not_in_the_recording_is_not_asked(ctx: AppContext) -> None:
    made = await recording_fixtures.make_recording(ctx)
    resident = made.people["S2"]
    async with ctx.database.acting_as(made.people["S1"]) as conn:
        await conn.execute(
            "insert into recordings (tenant_id, session_id, status, duration_seconds, started_by, id) "
            "select tenant_id, session_id, 'ready', 5, started_by, %s from recordings where id = %s",
            (own := uuid.uuid4(), made.recording_id),
        )
        await conn.execute(
            "insert into recording_tracks (tenant_id, recording_id, position, participant_id, object_key, media_type, "
            "size_bytes, duration_seconds, wrapped_key, key_id) values (%s, %s, 0, %s, %s, 'audio/wav', 1, 5, '', 'k')",
            (made.tenant_id, own, made.participants["S1"], str(own)),
        )
    async with ctx.database.acting_as(resident) as conn:
        await withdraw_consent(
            conn, resident, ConsentChange(user_id=resident.user_id, purpose="analyse"), ConsentOrigin()
        )
    await checked(ctx, made.lead, recording_id=own)
    assert await refusal(ctx, made.lead, recording_id=made.recording_id) == (Kind.REFUSED, "consent-missing")


async def test_what_is_not_there_or_another_tenants_is_missing(ctx: AppContext) -> None:
    made = await recording_fixtures.make_recording(ctx)
    stranger = await factories.make_actor(ctx, "safeguarding_lead")
    activity = await recording_fixtures.put_activity_in_force(ctx, made.tenant_id, "analyse")
    gone = (Kind.MISSING, "not-found")
    assert await refusal(ctx, stranger, recording_id=made.recording_id) == gone
    assert await refusal(ctx, stranger, processing_id=activity.id) == gone
    assert await refusal(ctx, made.lead, recording_id=uuid.uuid4()) == gone
    assert await refusal(ctx, made.lead, conversation_id=uuid.uuid4()) == gone


async def test_a_processing_activity_carries_its_own_purpose_while_it_is_in_force(ctx: AppContext) -> None:
    actor = await factories.make_actor(ctx, "service")
    activity = await recording_fixtures.put_activity_in_force(ctx, actor.tenant_id, "analyse")
    await checked(ctx, actor, processing_id=activity.id)
    assert await refusal(ctx, actor, "transcribe", processing_id=activity.id) == (
        Kind.REFUSED, "ground-other-purpose",
    )  # fmt: skip
    async with ctx.database.acting_as(actor) as conn:
        await end_ground(conn, actor, activity.id)
    assert await refusal(ctx, actor, processing_id=activity.id) == (Kind.REFUSED, "ground-ended")


async def test_consent_in_general_is_no_ground_for_words_of_nobody_in_particular(ctx: AppContext) -> None:
    actor = await factories.make_actor(ctx, "service")
    activity = await recording_fixtures.put_activity_in_force(ctx, actor.tenant_id, "analyse", "consent")
    assert await refusal(ctx, actor, processing_id=activity.id) == (Kind.REFUSED, "ground-needs-people")


# --- answered here ----------------------------------------------------------------------------------------------------


async def test_communication_patterns_count_who_was_heard(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, _ = await recording_fixtures.make_alert(ctx, worker_ctx)
    shown = (await client.get("/api/ai/communication-patterns", headers=factories.bearer(ctx, made.lead))).json()
    assert shown["sessions"] == [
        {"session_type": "audio_call", "sessions": 1, "cancelled": 0, "recordings": 1, "recorded_seconds": 20.0}
    ]
    assert [(who["user_id"], who["utterances"], who["speaking_seconds"]) for who in shown["people"]] == [
        (str(made.people["S1"].user_id), 3, 10.5),
        (str(made.people["S2"].user_id), 2, 7.0),
    ]


async def test_risk_indicators_count_concerns_beside_the_period_before(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, _ = await recording_fixtures.make_alert(ctx, worker_ctx, categories=("neglect", "physical_abuse"))
    _, dismissed = await recording_fixtures.make_alert(ctx, worker_ctx, made.tenant_id, "critical")
    headers = factories.bearer(ctx, made.lead)
    review = {"decision": "dismiss", "reason": "A card game."}
    await client.post(f"/api/alerts/{dismissed.id}/review", json=review, headers=headers | {"If-Match": '"1"'})
    shown = (await client.get("/api/ai/risk-indicators", headers=headers)).json()
    assert shown["risk_levels"] == {"high": 1, "critical": 1}
    assert shown["categories"] == [
        {
            "category": "physical_abuse", "alerts": 2, "alerts_before": 0, "open": 1, "confirmed": 0, "dismissed": 1,
            "highest_severity": "critical",
        },
        {
            "category": "neglect", "alerts": 1, "alerts_before": 0, "open": 1, "confirmed": 0, "dismissed": 0,
            "highest_severity": "high",
        },
    ]  # fmt: skip
    made_at = (await factories.rows(ctx, made.lead, "select max(created_at) as at from alerts"))[0]["at"]
    later = {"since": "2100-01-01T00:00:00Z", "until": "2101-01-01T00:00:00Z"}
    assert made_at.year < 2100
    empty = (await client.get("/api/ai/risk-indicators", params=later, headers=headers)).json()
    assert (empty["risk_levels"], empty["categories"]) == ({}, [])


async def test_as_a_member_of_another_tenant_or_another_team_learns_nothing(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, _ = await recording_fixtures.make_alert(ctx, worker_ctx)
    stranger = factories.bearer(ctx, await factories.make_actor(ctx, "safeguarding_lead"))
    carer = factories.bearer(ctx, made.people["S1"])
    for name in ("communication-patterns", "risk-indicators"):
        assert (await client.get(f"/api/ai/{name}", headers=carer)).status_code == 403
        shown = (await client.get(f"/api/ai/{name}", headers=stranger)).json()
        assert shown.pop("not_read", NOTHING_UNREAD) == NOTHING_UNREAD
        assert {key: value for key, value in shown.items() if key != "period" and value} == {}


@pytest.mark.parametrize(
    "period", [{"since": "2030-01-01T00:00:00Z", "until": "2029-01-01T00:00:00Z"}, {"since": "2001-01-01T00:00:00Z"}]
)
async def test_a_period_that_is_none_is_invalid(
    client: httpx.AsyncClient, ctx: AppContext, period: dict[str, str]
) -> None:
    headers = await caller(ctx, "safeguarding_lead")
    answer = await client.get("/api/ai/risk-indicators", params=period, headers=headers)
    assert (answer.status_code, slug_of(answer)) == (422, "period-invalid")
