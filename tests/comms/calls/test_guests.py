"""Guests sign in with a signed link: only to one session, and only while the link is valid."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from comms.kernel.database import Actor
from comms.web.context import AppContext
from comms.web.guest_routes import restrict_guest
from instance.provisioning import Databases
from models.contract.errors import WriteCareError
from tests import factories
from tests.comms import outbox_helpers
from tests.comms.http_server import served
from tests.comms.openapi_requests import PUBLIC

pytestmark = pytest.mark.anyio


@pytest.fixture
async def manager(ctx: AppContext) -> Actor:
    return await factories.make_actor(ctx, "care_manager")


@pytest.fixture
async def path(ctx: AppContext, manager: Actor) -> str:
    """The URL path of a session that has not begun."""
    return f"/api/sessions/{await factories.make_session(ctx, manager, manager, session_type='video_call')}"


async def invite(client: httpx.AsyncClient, ctx: AppContext, actor: Actor, path: str, **fields: Any) -> httpx.Response:
    body = {
        "display_name": "Dr Penny Wood", "participant_type": "professional",
        "expires_at": (datetime.now(UTC) + timedelta(days=2)).isoformat(),
    } | fields  # fmt: skip
    return await client.post(f"{path}/invitations", json=body, headers=factories.bearer(ctx, actor))


async def enter(client: httpx.AsyncClient, link: str) -> httpx.Response:
    return await client.post("/api/guests/enter", json={"invitation": link})


async def sign_in_guest(
    client: httpx.AsyncClient, ctx: AppContext, actor: Actor, path: str
) -> tuple[dict[str, str], str]:
    """Returns the headers of a guest, and their user id."""
    entered = (await enter(client, (await invite(client, ctx, actor, path)).json()["invitation"])).json()
    return {"Authorization": f"Bearer {entered['access_token']}"}, str(entered["user_id"])


def slug_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["type"]).rpartition("/")[2]


async def test_a_guest_comes_in_by_their_link_and_sees_that_session(
    client: httpx.AsyncClient, ctx: AppContext, manager: Actor, path: str
) -> None:
    invited = await invite(client, ctx, manager, path)
    assert invited.status_code == 201
    entered = await enter(client, invited.json()["invitation"])
    assert entered.status_code == 200
    guest = {"Authorization": f"Bearer {entered.json()['access_token']}"}
    me = (await client.get("/api/me", headers=guest)).json()
    assert (me["user_id"], me["role"]) == (entered.json()["user_id"], "external")
    session = (await client.get(path, headers=guest)).json()
    assert [p["participant_type"] for p in session["participants"]] == ["staff", "professional"]
    assert [item["id"] for item in (await client.get("/api/sessions", headers=guest)).json()["items"]] == [
        session["id"]
    ]
    listed = (await client.get(f"{path}/invitations", headers=factories.bearer(ctx, manager))).json()["items"]
    assert [item["entered_at"] is not None for item in listed] == [True]
    assert "invitation" not in listed[0]


async def test_a_link_that_is_opened_often_or_at_once_makes_one_person_and_one_participant(
    client: httpx.AsyncClient, ctx: AppContext, manager: Actor, path: str
) -> None:
    link = (await invite(client, ctx, manager, path)).json()["invitation"]
    answers = await asyncio.gather(*(enter(client, link) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["user_id"] for answer in answers}) == 1
    assert len((await client.get(path, headers=factories.bearer(ctx, manager))).json()["participants"]) == 2


async def test_a_link_that_was_taken_back_opens_nothing_and_the_guest_is_out(
    client: httpx.AsyncClient, ctx: AppContext, manager: Actor, path: str
) -> None:
    invited = (await invite(client, ctx, manager, path)).json()
    guest = {"Authorization": f"Bearer {(await enter(client, invited['invitation'])).json()['access_token']}"}
    assert (await client.get(path, headers=guest)).status_code == 200
    worker = await factories.make_user(ctx, manager.tenant_id, "care_worker")
    one = f"{path}/invitations/{invited['id']}"
    for _ in range(2):
        assert (await client.delete(one, headers=factories.bearer(ctx, worker))).status_code == 204
    assert slug_of(await client.get(path, headers=guest)) == (401, "token-invalid")
    assert slug_of(await enter(client, invited["invitation"])) == (401, "invitation-invalid")


async def test_links_are_not_tokens_nor_tokens_links_and_neither_is_forged(
    client: httpx.AsyncClient, ctx: AppContext, manager: Actor, path: str
) -> None:
    invited = (await invite(client, ctx, manager, path)).json()
    link, session = invited["invitation"], uuid.UUID(invited["session_id"])
    as_token = await client.get("/api/me", headers={"Authorization": f"Bearer {link}"})
    assert slug_of(as_token) == (401, "token-invalid")
    token = factories.bearer(ctx, manager)["Authorization"].removeprefix("Bearer ")
    later = datetime.now(UTC) + timedelta(days=1)
    good = uuid.UUID(invited["id"])
    for forged in (
        token,
        "nonsense",
        link[:-4] + "AAAA",
        ctx.issuer.sign_invitation(manager.tenant_id, uuid.uuid4(), session, later),
        ctx.issuer.sign_invitation(uuid.uuid4(), good, session, later),
        ctx.issuer.sign_invitation(manager.tenant_id, good, session, datetime.now(UTC) - timedelta(hours=1)),
    ):
        assert slug_of(await enter(client, forged)) == (401, "invitation-invalid")


async def test_an_invitation_needs_a_session_that_is_not_over_and_an_end_within_a_month(
    client: httpx.AsyncClient, ctx: AppContext, manager: Actor, path: str
) -> None:
    for when in (timedelta(days=-1), timedelta(days=31)):
        late = await invite(client, ctx, manager, path, expires_at=(datetime.now(UTC) + when).isoformat())
        assert slug_of(late) == (422, "expiry-invalid")
    assert (await invite(client, ctx, manager, path, participant_type="staff")).status_code == 422
    stranger = await factories.make_actor(ctx, "care_manager")
    assert slug_of(await invite(client, ctx, stranger, path)) == (404, "not-found")
    for role in ("reviewer", "resident", "external"):
        outsider = await factories.make_user(ctx, manager.tenant_id, role)
        assert slug_of(await invite(client, ctx, outsider, path)) == (403, "role-lacks-permission")
    link = (await invite(client, ctx, manager, path)).json()["invitation"]
    await client.delete(path, headers=factories.bearer(ctx, manager))
    assert slug_of(await enter(client, link)) == (409, "session-status")
    assert slug_of(await invite(client, ctx, manager, path)) == (409, "session-status")


# --- no access to anything else ---------------------------------------------------------------------------------------


async def test_every_route_that_is_not_a_guests_is_closed_to_guests(
    client: httpx.AsyncClient, app: FastAPI, ctx: AppContext, manager: Actor, path: str
) -> None:
    guest, _ = await sign_in_guest(client, ctx, manager, path)
    narrowed = Actor(manager.tenant_id, manager.user_id, "external", session_id=uuid.uuid4())
    closed = 0
    for pattern, operations in app.openapi()["paths"].items():
        for method in operations:
            if f"{method.upper()} {pattern}" in PUBLIC:
                continue
            try:
                restrict_guest(narrowed, method.upper(), pattern)
                continue
            except WriteCareError:
                closed += 1
            address = re.sub(r"\{[^}]+\}", str(uuid.uuid4()), pattern)
            answer = await client.request(method, address, headers=guest)
            assert slug_of(answer) == (403, "guest-elsewhere"), (method, pattern)
    assert closed > 40


async def test_what_is_open_to_guests_shows_them_their_own_alone(
    client: httpx.AsyncClient, ctx: AppContext, manager: Actor, path: str
) -> None:
    guest, own = await sign_in_guest(client, ctx, manager, path)
    other = await factories.make_session(ctx, manager, manager, session_type="video_call")
    # also if they are added to another session later, the link gives access only to the first
    body = {"user_id": own, "participant_type": "guest"}
    added = await client.post(f"/api/sessions/{other}/participants", json=body, headers=factories.bearer(ctx, manager))
    assert added.status_code == 201
    for part in ("", "/participants", f"/participants/{own}", f"/participants/{manager.user_id}"):
        assert slug_of(await client.get(f"/api/sessions/{other}{part}", headers=guest)) == (404, "not-found"), part
    joins = await client.put(f"/api/sessions/{other}/participants/{own}", json={"joined": True}, headers=guest)
    assert slug_of(joins) == (404, "not-found")
    listed = (await client.get("/api/sessions", headers=guest)).json()["items"]
    assert [f"/api/sessions/{item['id']}" for item in listed] == [path]
    anothers = f"{path}/participants/{manager.user_id}"
    assert slug_of(await client.put(anothers, json={"joined": False}, headers=guest)) == (403, "role-lacks-permission")
    assert (await client.get(f"/api/consent/status/{manager.user_id}", headers=guest)).status_code == 403
    yes = {"user_id": str(manager.user_id), "purpose": "record"}
    assert (await client.post("/api/consent/grant", json=yes, headers=guest)).status_code == 403


async def test_a_guest_joins_leaves_and_is_recorded_as_themselves_with_their_own_consent_alone(
    client: httpx.AsyncClient, ctx: AppContext, manager: Actor, path: str
) -> None:
    headers = factories.bearer(ctx, manager)
    guest, own = await sign_in_guest(client, ctx, manager, path)
    await factories.put_all_in_force(ctx, manager)
    await factories.grant(ctx, manager, manager)
    me = f"{path}/participants/{own}"
    assert slug_of(await client.put(me, json={"joined": True}, headers=guest)) == (409, "session-status")
    await client.put(path, json={"status": "active"}, headers=headers)
    assert (await client.put(me, json={"joined": True}, headers=guest)).json()["joined_at"] is not None
    record = path.replace("/api/sessions", "/api/recordings/start")
    assert slug_of(await client.post(record, headers=headers)) == (403, "consent-missing")
    said = await client.post("/api/consent/grant", json={"user_id": own, "purpose": "record"}, headers=guest)
    assert said.status_code == 201
    assert (await client.post(record, headers=headers)).status_code == 201
    assert (await client.put(me, json={"joined": False}, headers=guest)).json()["left_at"] is not None


@pytest.fixture(scope="module")
async def address(app: FastAPI, databases: Databases) -> AsyncIterator[str]:
    async with served(app) as where, outbox_helpers.relaying(databases):
        yield where


async def test_a_guests_socket_is_their_sessions(
    client: httpx.AsyncClient, address: str, ctx: AppContext, manager: Actor, path: str
) -> None:
    guest, _ = await sign_in_guest(client, ctx, manager, path)
    other = await factories.make_session(ctx, manager, manager, session_type="video_call")

    async def knock(where: str) -> int:
        ticket = (await client.post("/api/ws/tickets", headers=guest)).json()["ticket"]
        try:
            async with connect(f"ws://{address}/ws/{where}?ticket={ticket}", proxy=None):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code

    assert await knock(path.removeprefix("/api/")) == 101
    assert await knock(f"sessions/{other}") == 404
    assert await knock("alerts") == 403
