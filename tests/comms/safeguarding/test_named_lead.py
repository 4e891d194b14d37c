"""An alert about a lead, looked for by that lead in every route that reads: its id is nowhere."""

import uuid
from dataclasses import dataclass, replace
from typing import Final

import httpx
import pytest
from fastapi import FastAPI

from comms.governance.retention.holds import NewHold, place_hold
from comms.kernel.database import Actor
from comms.safeguarding.alerts.conversation_alerts import raise_in_conversation
from comms.safeguarding.alerts.records import NewMessageEvidence
from comms.web.context import House
from tests import factories
from tests.comms.described import PUBLIC, operations, request
from tests.comms.neighbourhood import Neighbour, make_neighbour

pytestmark = pytest.mark.anyio

ROLES: Final = ("safeguarding_lead", "reviewer", "data_protection_officer", "service")  # as which she may have a token


@dataclass(frozen=True)
class Matter:
    """A tenant with an alert about a call and one about a conversation that the lead takes part in; all is in order."""

    home: Neighbour
    lead: Actor
    alerts: tuple[uuid.UUID, uuid.UUID]
    hold: uuid.UUID

    def secrets(self) -> set[str]:
        """What must not be answered: the alerts, and the hold on her message."""
        return {str(id) for id in (*self.alerts, self.hold)}


@pytest.fixture(scope="module")
async def matter(house: House, worker_house: House) -> Matter:
    home = await make_neighbour(house, worker_house)
    lead = home.people["safeguarding_lead"]
    for role in ("safeguarding_lead", "reviewer", "data_protection_officer"):
        await factories.make_user(house, home.tenant_id, role)
    worker, officer = home.people["service"], home.people["data_protection_officer"]
    concern = NewMessageEvidence(
        message_id=home.ids["message"], version=1, category="neglect", severity="high", probability=0.9,
        threshold=0.4, model="safeguarding", model_version="safeguarding@1",
    )  # fmt: skip
    async with worker_house.database.acting_as(worker) as conn:
        written = await raise_in_conversation(conn, worker, home.ids["conversation"], [concern], {"safeguarding": "1"})
    async with house.database.acting_as(officer) as conn:
        new = NewHold(conversation_id=home.ids["conversation"], message_id=home.ids["message"], reference="case-2")
        hold = await place_hold(conn, officer, new)
    return Matter(home, lead, (home.ids["alert"], written.id), hold.id)


async def found(client: httpx.AsyncClient, app: FastAPI, house: House, matter: Matter, actor: Actor) -> set[str]:
    """The operations in whose answers the actor comes upon what is secret."""
    signed = factories.bearer(house, actor)
    places = set()
    for alert, hold in zip(matter.alerts, (matter.hold, matter.home.ids["hold"]), strict=True):
        ids = {**matter.home.ids, "alert": alert, "hold": hold}
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
                if any(secret in told for secret in matter.secrets()):
                    places.add(str(operation))
    front = await client.get("/", headers=signed)
    return places | {"the first page" for secret in matter.secrets() if secret in front.text}


async def read_about(client: httpx.AsyncClient, house: House, matter: Matter) -> None:
    """Others read the log about the alerts, open them through broken glass, and hold what they rest on."""
    officer, carer = matter.home.people["data_protection_officer"], matter.home.people["care_worker"]
    for alert in matter.alerts:
        read = await client.get(f"/api/audit?object_id={alert}", headers=factories.bearer(house, officer))
        assert read.status_code == 200
        wanted = {"object_kind": "alert", "object_id": str(alert), "reason": "The lead is away.", "minutes": 5}
        broken = await client.post("/api/break-glass", json=wanted, headers=factories.bearer(house, carer))
        assert broken.status_code == 201


async def test_a_named_lead_finds_the_alerts_about_her_in_no_answer(
    client: httpx.AsyncClient, app: FastAPI, house: House, matter: Matter
) -> None:
    await read_about(client, house, matter)
    seen = await found(client, app, house, matter, matter.lead)
    assert {  # so that the search looks where there is something to be found
        "GET /api/alerts", "GET /api/alerts/{alert_id}", "GET /api/alerts/{alert_id}/subjects", "GET /api/audit",
        "GET /api/break-glass", "GET /api/retention/holds", "GET /api/retention/holds/{hold_id}", "the first page",
    } <= seen  # fmt: skip
    reviewer = matter.home.people["reviewer"]
    for alert in matter.alerts:
        named = await client.post(
            f"/api/alerts/{alert}/subjects", json={"user_id": str(matter.lead.user_id)},
            headers=factories.bearer(house, reviewer),
        )  # fmt: skip
        assert (named.status_code, named.json()["standing"]) == (201, "named")
    await read_about(client, house, matter)
    for role in ROLES:
        assert await found(client, app, house, matter, replace(matter.lead, role=role)) == set(), role
    # what was sent is not answered with what is there: the same as for an id of nothing
    signed = factories.bearer(house, matter.lead)
    for path in ("/api/alerts/{}", "/api/alerts/{}/subjects"):
        there = await client.get(path.format(matter.alerts[0]), headers={**signed, "If-None-Match": '"1"'})
        nowhere = await client.get(path.format(uuid.uuid4()), headers={**signed, "If-None-Match": '"1"'})
        assert there.status_code == nowhere.status_code == 404
        assert {**there.json(), "request_id": ""} == {**nowhere.json(), "request_id": ""}
    assert "GET /api/alerts/{alert_id}" in await found(client, app, house, matter, reviewer)
