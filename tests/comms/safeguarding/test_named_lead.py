"""A safeguarding lead who is the subject of an alert finds its id in no response of any route that reads."""

import uuid
from dataclasses import dataclass, replace
from typing import Final

import httpx
import pytest
from fastapi import FastAPI

from comms.governance.retention.holds import NewHold, place_hold
from comms.kernel.database import Actor
from comms.safeguarding.alerts.conversation_alerts import add_concerns
from comms.safeguarding.alerts.records import NewMessageEvidence
from comms.web.context import AppContext
from tests import factories
from tests.comms.openapi_requests import PUBLIC, operations, request
from tests.comms.tenant_fixture import TenantFixture, make_tenant_fixture

pytestmark = pytest.mark.anyio

ROLES: Final = (
    "safeguarding_lead",
    "reviewer",
    "data_protection_officer",
    "service",
)  # the roles that her token may have


@dataclass(frozen=True)
class NamedLeadScenario:
    """A tenant with one alert about a call of the lead and one about a conversation of the lead."""

    home: TenantFixture
    lead: Actor
    alerts: tuple[uuid.UUID, uuid.UUID]
    hold: uuid.UUID

    def secrets(self) -> set[str]:
        """The ids that no response may contain: the alerts, and the hold on her message."""
        return {str(id) for id in (*self.alerts, self.hold)}


@pytest.fixture(scope="module")
async def lead_scenario(ctx: AppContext, worker_ctx: AppContext) -> NamedLeadScenario:
    home = await make_tenant_fixture(ctx, worker_ctx)
    lead = home.people["safeguarding_lead"]
    for role in ("safeguarding_lead", "reviewer", "data_protection_officer"):
        await factories.make_user(ctx, home.tenant_id, role)
    worker, officer = home.people["service"], home.people["data_protection_officer"]
    concern = NewMessageEvidence(
        message_id=home.ids["message"], version=1, category="neglect", severity="high", probability=0.9,
        threshold=0.4, model="safeguarding", model_version="safeguarding@1",
    )  # fmt: skip
    async with worker_ctx.database.acting_as(worker) as conn:
        written = await add_concerns(conn, worker, home.ids["conversation"], [concern], {"safeguarding": "1"})
    async with ctx.database.acting_as(officer) as conn:
        new = NewHold(conversation_id=home.ids["conversation"], message_id=home.ids["message"], reference="case-2")
        hold = await place_hold(conn, officer, new)
    return NamedLeadScenario(home, lead, (home.ids["alert"], written.id), hold.id)


async def found(
    client: httpx.AsyncClient, app: FastAPI, ctx: AppContext, lead_scenario: NamedLeadScenario, actor: Actor
) -> set[str]:
    """Returns the operations whose responses show the actor a secret id."""
    signed = factories.bearer(ctx, actor)
    places = set()
    for alert, hold in zip(lead_scenario.alerts, (lead_scenario.hold, lead_scenario.home.ids["hold"]), strict=True):
        ids = {**lead_scenario.home.ids, "alert": alert, "hold": hold}
        for operation in operations(app.openapi()):
            if operation.method != "GET" or str(operation) in PUBLIC:
                continue
            for whole in {False, bool(operation.parameters("query"))}:
                made = request(operation, ids, "tea", whole=whole)
                if whole and "object_id" in made["params"]:
                    made["params"] = {"object_id": str(alert)}
                if "cursor" in made["params"]:
                    del made["params"]["cursor"]
                answer = await client.request(**made, headers=signed)
                assert answer.status_code != 500, f"{operation}: {answer.text}"
                told = answer.text + str(answer.headers)
                if any(secret in told for secret in lead_scenario.secrets()):
                    places.add(str(operation))
    front = await client.get("/", headers=signed)
    return places | {"the first page" for secret in lead_scenario.secrets() if secret in front.text}


async def read_about(client: httpx.AsyncClient, ctx: AppContext, lead_scenario: NamedLeadScenario) -> None:
    """Others read the audit log about the alerts and open them by break-glass."""
    officer, carer = lead_scenario.home.people["data_protection_officer"], lead_scenario.home.people["care_worker"]
    for alert in lead_scenario.alerts:
        read = await client.get(f"/api/audit?object_id={alert}", headers=factories.bearer(ctx, officer))
        assert read.status_code == 200
        wanted = {"object_kind": "alert", "object_id": str(alert), "reason": "The lead is away.", "minutes": 5}
        broken = await client.post("/api/break-glass", json=wanted, headers=factories.bearer(ctx, carer))
        assert broken.status_code == 201


async def test_a_named_lead_finds_the_alerts_about_her_in_no_answer(
    client: httpx.AsyncClient, app: FastAPI, ctx: AppContext, lead_scenario: NamedLeadScenario
) -> None:
    await read_about(client, ctx, lead_scenario)
    seen = await found(client, app, ctx, lead_scenario, lead_scenario.lead)
    assert {  # the search must cover routes that do contain them
        "GET /api/alerts", "GET /api/alerts/{alert_id}", "GET /api/alerts/{alert_id}/subjects", "GET /api/audit",
        "GET /api/break-glass", "GET /api/retention/holds", "GET /api/retention/holds/{hold_id}", "the first page",
    } <= seen  # fmt: skip
    reviewer = lead_scenario.home.people["reviewer"]
    for alert in lead_scenario.alerts:
        named = await client.post(
            f"/api/alerts/{alert}/subjects", json={"user_id": str(lead_scenario.lead.user_id)},
            headers=factories.bearer(ctx, reviewer),
        )  # fmt: skip
        assert (named.status_code, named.json()["standing"]) == (201, "named")
    await read_about(client, ctx, lead_scenario)
    for role in ROLES:
        assert await found(client, app, ctx, lead_scenario, replace(lead_scenario.lead, role=role)) == set(), role
    # a request with a withheld id gets the same response as one with an unknown id
    signed = factories.bearer(ctx, lead_scenario.lead)
    for path in ("/api/alerts/{}", "/api/alerts/{}/subjects"):
        there = await client.get(path.format(lead_scenario.alerts[0]), headers={**signed, "If-None-Match": '"1"'})
        nowhere = await client.get(path.format(uuid.uuid4()), headers={**signed, "If-None-Match": '"1"'})
        assert there.status_code == nowhere.status_code == 404
        assert {**there.json(), "request_id": ""} == {**nowhere.json(), "request_id": ""}
    assert "GET /api/alerts/{alert_id}" in await found(client, app, ctx, lead_scenario, reviewer)
