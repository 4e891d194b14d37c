"""Live events: who may open a socket, which events it receives, and how a client continues after a disconnection."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from comms.app.application import create_app
from comms.kernel.database import Actor
from comms.kernel.settings import Settings
from comms.live.fan_out import open_fan_out
from comms.live.tickets import make_ticket
from comms.outbox.queries import emit
from comms.web.context import AppContext
from instance.provisioning import Databases
from models.contract.errors import WriteCareError
from tests import factories
from tests.comms import outbox_helpers, recording_fixtures
from tests.comms.http_server import served

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def address(app: FastAPI, databases: Databases) -> AsyncIterator[str]:
    """The application on a port, with a running relay."""
    async with served(app) as where, outbox_helpers.relaying(databases):
        yield where


async def ticket_for(ctx: AppContext, actor: Actor, lifetime_seconds: float = 30.0) -> str:
    async with ctx.database.acting_as(actor) as conn:
        return (await make_ticket(conn, actor, lifetime_seconds)).ticket


def opened(address: str, ticket: str, after: int | None = None, path: str = "alerts", **more: Any) -> connect:
    cursor = "" if after is None else f"&after={after}"
    return connect(f"ws://{address}/ws/{path}?ticket={ticket}{cursor}", proxy=None, **more)


async def receive(socket: ClientConnection) -> dict[str, Any]:
    """Returns the next event of the outbox; the time limit of the suite ends a wait for one that never comes."""
    while True:
        event: dict[str, Any] = json.loads(await socket.recv())
        if not event["type"].startswith("presence"):
            return event


async def refusal(address: str, ticket: str, **more: Any) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refused:
        async with opened(address, ticket, **more):
            raise AssertionError("this socket should have been refused")
    answer = refused.value.response
    return answer.status_code, str(json.loads(answer.body or b"{}")["type"]).rpartition("/")[2]


async def test_a_new_alert_wakes_the_socket_with_ids_and_severity_alone(
    address: str, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made = await recording_fixtures.make_recording(ctx)
    async with opened(address, await ticket_for(ctx, made.lead)) as socket:
        alert = await recording_fixtures.raise_test_alert(worker_ctx, made, "high")
        assert alert is not None
        first, second = await receive(socket), await receive(socket)
    assert first["type"] == "communication.writecarenotes.com.safeguarding.alert"
    assert second["type"] == "communication.writecarenotes.com.safeguarding.alert.high_priority"
    assert first["position"] < second["position"]
    assert first["subject"] == f"alert/{alert.id}"
    assert first["data"] == {
        "alert_id": str(alert.id), "session_id": str(made.session_id), "recording_id": str(made.recording_id),
        "severity": "high",
    }  # fmt: skip


async def test_a_review_is_told_to_the_whole_team(
    client: httpx.AsyncClient, address: str, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx, severity="low")
    colleague = await factories.make_user(ctx, made.tenant_id, "reviewer")
    async with (
        opened(address, await ticket_for(ctx, made.lead), after=0) as one,
        opened(address, await ticket_for(ctx, colleague), after=0) as other,
    ):
        for socket in (one, other):
            assert (await receive(socket))["data"]["alert_id"] == str(alert.id)
        await client.post(
            f"/api/alerts/{alert.id}/review", json={"decision": "confirm", "reason": "Plain words."},
            headers=factories.bearer(ctx, made.lead) | {"If-Match": '"1"'},
        )  # fmt: skip
        for socket in (one, other):
            told = await receive(socket)
            assert told["type"].endswith(".alert.reviewed")
            assert told["data"]["state"] == "confirmed"
            assert "Plain" not in json.dumps(told)


async def test_as_a_member_of_another_tenant_hears_nothing(
    address: str, ctx: AppContext, worker_ctx: AppContext
) -> None:
    here, elsewhere = await recording_fixtures.make_recording(ctx), await recording_fixtures.make_recording(ctx)
    async with opened(address, await ticket_for(ctx, elsewhere.lead), after=0) as socket:
        await recording_fixtures.raise_test_alert(worker_ctx, here, "low")
        async with opened(address, await ticket_for(ctx, here.lead), after=0) as own:
            await receive(own)  # the other tenant's alert was sent before this event
        alert = await recording_fixtures.raise_test_alert(worker_ctx, elsewhere, "low")
        assert alert is not None
        assert (await receive(socket))["data"]["alert_id"] == str(alert.id)


async def test_events_of_other_kinds_are_not_told_on_the_alerts_socket(
    address: str, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made = await recording_fixtures.make_recording(ctx)
    async with opened(address, await ticket_for(ctx, made.lead)) as socket:
        async with ctx.database.acting_as(made.lead) as conn:
            await emit(conn, made.lead, "message.sent", aggregate=("message", uuid.uuid4()), version=1, data={})
        await recording_fixtures.raise_test_alert(worker_ctx, made, "low")  # transcript.ready, then the alert
        assert (await receive(socket))["type"].endswith(".safeguarding.alert")


async def test_a_client_that_was_away_comes_back_to_where_it_was(
    address: str, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, first = await recording_fixtures.make_alert(ctx, worker_ctx, severity="low")
    async with opened(address, await ticket_for(ctx, made.lead), after=0) as socket:
        last = await receive(socket)
    assert last["data"]["alert_id"] == str(first.id)
    missed = [(await recording_fixtures.make_alert(ctx, worker_ctx, made.tenant_id, "low"))[1] for _ in range(3)]
    async with opened(address, await ticket_for(ctx, made.lead), after=last["position"]) as socket:
        _, fresh = await recording_fixtures.make_alert(ctx, worker_ctx, made.tenant_id, "low")
        told = [await receive(socket) for _ in range(4)]
    assert [event["data"]["alert_id"] for event in told] == [str(alert.id) for alert in (*missed, fresh)]


async def test_as_the_person_an_alert_is_about_hears_nothing_of_it(
    client: httpx.AsyncClient, address: str, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx, severity="low")
    reviewer = await factories.make_user(ctx, made.tenant_id, "reviewer")
    manager = await factories.make_user(ctx, made.tenant_id, "care_manager")
    named = {"user_id": str(reviewer.user_id)}
    await client.post(f"/api/alerts/{alert.id}/subjects", json=named, headers=factories.bearer(ctx, made.lead))
    wanted = {"object_kind": "alert", "object_id": str(alert.id), "reason": "The lead is away.", "minutes": 5}
    async with (
        opened(address, await ticket_for(ctx, reviewer), after=0) as subjects,
        opened(address, await ticket_for(ctx, made.lead), after=0) as leads,
    ):
        await client.post("/api/break-glass", json=wanted, headers=factories.bearer(ctx, manager))
        said = {"decision": "confirm", "reason": "Plain words."}
        saw = factories.bearer(ctx, made.lead) | {"If-Match": '"1"'}
        await client.post(f"/api/alerts/{alert.id}/review", json=said, headers=saw)
        _, next_alert = await recording_fixtures.make_alert(ctx, worker_ctx, made.tenant_id, "low")
        told = [await receive(leads) for _ in range(5)]
        first_heard = await receive(subjects)
    assert [event["type"].removeprefix("communication.writecarenotes.com.") for event in told] == [
        "safeguarding.alert", "alert.subject.changed", "glass.broken", "alert.reviewed", "safeguarding.alert",
    ]  # fmt: skip
    assert first_heard["data"]["alert_id"] == str(next_alert.id)
    assert "withheld" not in json.dumps(told)


async def test_a_ticket_is_good_once(address: str, ctx: AppContext) -> None:
    lead = await factories.make_actor(ctx, "safeguarding_lead")
    ticket = await ticket_for(ctx, lead)
    async with opened(address, ticket):
        pass
    assert await refusal(address, ticket) == (401, "ticket-invalid")


async def test_of_many_sockets_with_one_ticket_one_is_let_in(address: str, ctx: AppContext) -> None:
    ticket = await ticket_for(ctx, await factories.make_actor(ctx, "reviewer"))

    async def knock() -> bool:
        try:
            async with opened(address, ticket):
                return True
        except InvalidStatus:
            return False

    assert sorted(await asyncio.gather(*(knock() for _ in range(5)))) == [False, False, False, False, True]


async def test_an_expired_ticket_is_refused_before_the_socket_opens(address: str, ctx: AppContext) -> None:
    lead = await factories.make_actor(ctx, "safeguarding_lead")
    assert await refusal(address, await ticket_for(ctx, lead, lifetime_seconds=-1.0)) == (401, "ticket-invalid")


async def test_forged_tickets_are_refused_and_use_nothing_up(address: str, ctx: AppContext) -> None:
    lead = await factories.make_actor(ctx, "safeguarding_lead")
    stranger = await factories.make_actor(ctx, "safeguarding_lead")
    ticket = await ticket_for(ctx, lead)
    tenant, id, secret = ticket.split(".")
    assert tenant == str(lead.tenant_id)
    forged = ["", "nonsense", f"{tenant}.{id}.guessed", f"{stranger.tenant_id}.{id}.{secret}", f"{tenant}.{id}"]
    for attempt in forged:
        assert await refusal(address, attempt) == (401, "ticket-invalid"), attempt
    async with opened(address, ticket):
        pass


async def test_the_database_keeps_the_tickets_hash_alone(client: httpx.AsyncClient, ctx: AppContext) -> None:
    lead = await factories.make_actor(ctx, "safeguarding_lead")
    answer = await client.post("/api/ws/tickets", headers=factories.bearer(ctx, lead))
    assert (answer.status_code, answer.headers["location"]) == (201, "/ws/alerts")
    secret = answer.json()["ticket"].split(".")[2]
    kept = await factories.rows(ctx, lead, "select t::text as shown from ws_tickets t")
    assert len(kept) == 1
    assert secret not in kept[0]["shown"]
    assert secret.encode().hex() not in kept[0]["shown"]


async def test_without_a_token_there_is_no_ticket(client: httpx.AsyncClient) -> None:
    assert (await client.post("/api/ws/tickets")).status_code == 401


async def test_a_ticket_of_a_person_who_has_left_is_refused(address: str, ctx: AppContext) -> None:
    lead = await factories.make_actor(ctx, "safeguarding_lead")
    ticket = await ticket_for(ctx, lead)
    await factories.rows(ctx, lead, "update users set active = false where id = %s returning id", lead.user_id)
    assert await refusal(address, ticket) == (401, "ticket-invalid")


@pytest.mark.parametrize("role", ["care_worker", "care_manager", "resident", "data_scientist"])
async def test_roles_outside_the_safeguarding_team_are_refused(address: str, ctx: AppContext, role: str) -> None:
    outsider = await factories.make_actor(ctx, role)
    assert await refusal(address, await ticket_for(ctx, outsider)) == (403, "role-lacks-permission")


async def test_a_page_of_another_origin_is_refused_and_our_own_is_not(address: str, ctx: AppContext) -> None:
    lead = await factories.make_actor(ctx, "safeguarding_lead")
    ticket = await ticket_for(ctx, lead)
    for origin in ("https://elsewhere.example", "null", f"http://{address}.elsewhere.example"):
        assert await refusal(address, ticket, origin=origin) == (403, "origin-refused"), origin
    async with opened(address, ticket, origin=f"http://{address}"):
        pass


async def test_a_socket_is_refused_under_a_host_name_that_is_not_ours(settings: Settings, ctx: AppContext) -> None:
    named = create_app(settings.model_copy(update={"allowed_hosts": frozenset({"care.example"})}))
    ticket = await ticket_for(ctx, await factories.make_actor(ctx, "safeguarding_lead"))
    async with named.router.lifespan_context(named), served(named) as here:
        address, _, port = here.partition(":")
        for host in ("evil.example", "care.example.evil.example"):
            refused = await refusal(host, ticket, host=address, port=int(port))
            assert refused == (421, "host-unknown"), host
        async with opened("care.example", ticket, host=address, port=int(port)):
            pass  # the refused requests did not use the ticket up


async def test_a_sessions_socket_tells_its_people_of_that_session_and_of_no_alert(
    address: str, ctx: AppContext, worker_ctx: AppContext
) -> None:
    here = await recording_fixtures.make_recording(ctx)
    other = await recording_fixtures.make_recording(ctx, here.tenant_id)
    resident, path = here.people["S2"], f"sessions/{here.session_id}"
    async with opened(address, await ticket_for(ctx, resident), path=path) as socket:
        await recording_fixtures.raise_test_alert(worker_ctx, other, "high")
        await recording_fixtures.raise_test_alert(worker_ctx, here, "high")
        async with ctx.database.acting_as(here.worker) as conn:
            told = {"recording_id": str(here.recording_id), "session_id": str(here.session_id)}
            of = ("recording", here.recording_id)
            await emit(conn, here.worker, "recording.processed", aggregate=of, version=99, data=told)
        events = [await receive(socket), await receive(socket)]
    assert [event["type"].removeprefix("communication.writecarenotes.com.") for event in events] == [
        "transcript.ready",
        "recording.processed",
    ]
    assert {event["data"]["session_id"] for event in events} == {str(here.session_id)}


async def test_a_session_that_one_does_not_take_part_in_is_not_to_be_heard(address: str, ctx: AppContext) -> None:
    here = await recording_fixtures.make_recording(ctx)
    other = await recording_fixtures.make_recording(ctx, here.tenant_id)
    stranger = await factories.make_actor(ctx, "care_worker")
    path = f"sessions/{here.session_id}"
    for actor in (other.people["S2"], stranger):
        assert await refusal(address, await ticket_for(ctx, actor), path=path) == (404, "not-found")


async def test_a_client_that_falls_too_far_behind_is_cut_off_with_a_code_that_says_so(
    ctx: AppContext, worker_ctx: AppContext, databases: Databases, address: str
) -> None:
    made = await recording_fixtures.make_recording(ctx)
    another = create_app(ctx.settings)
    async with open_fan_out(ctx, max_queued=0) as impatient, served(another) as elsewhere:
        another.state.ctx, another.state.fan_out = ctx, impatient
        async with opened(elsewhere, await ticket_for(ctx, made.lead)) as socket:
            await recording_fixtures.raise_test_alert(worker_ctx, made, "low")
            with pytest.raises(ConnectionClosedError):
                await socket.recv()
    assert (socket.close_code, socket.close_reason) == (1013, "socket-too-slow")


async def test_a_feed_that_closes_tells_its_sockets(ctx: AppContext) -> None:
    lead = await factories.make_actor(ctx, "safeguarding_lead")
    async with open_fan_out(ctx) as fan_out, fan_out.subscribe(lead, ["safeguarding.alert"]) as subscription:
        fan_out.close()
        with pytest.raises(WriteCareError) as end:
            await subscription.next()
    assert end.value.slug == "going-away"


async def test_a_feed_whose_connection_is_cut_misses_nothing(
    address: str, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> None:
    made = await recording_fixtures.make_recording(ctx)
    async with opened(address, await ticket_for(ctx, made.lead)) as socket:
        await outbox_helpers.query_as_admin(
            databases,
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'writecare-feed'",
        )
        alert = await recording_fixtures.raise_test_alert(worker_ctx, made, "low")
        assert alert is not None
        assert (await receive(socket))["data"]["alert_id"] == str(alert.id)
