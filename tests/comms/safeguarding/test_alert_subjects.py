"""An alert is withheld from the people whom it is about, whatever their role, by every route."""

from uuid import UUID

import httpx
import pytest

from comms.kernel.database import Actor
from comms.safeguarding.alerts.records import Alert
from comms.web.context import AppContext
from tests import factories
from tests.comms import recording_fixtures
from tests.comms.recording_fixtures import RecordingFixture

pytestmark = pytest.mark.anyio

TEAM = ("safeguarding_lead", "reviewer", "data_protection_officer")


async def ask(client: httpx.AsyncClient, ctx: AppContext, actor: Actor, path: str) -> httpx.Response:
    return await client.get(path, headers=factories.bearer(ctx, actor))


async def name(client: httpx.AsyncClient, ctx: AppContext, actor: Actor, alert: Alert, person: UUID) -> httpx.Response:
    return await client.post(
        f"/api/alerts/{alert.id}/subjects", json={"user_id": str(person)}, headers=factories.bearer(ctx, actor)
    )


async def clear(client: httpx.AsyncClient, ctx: AppContext, actor: Actor, alert: Alert, person: UUID) -> httpx.Response:
    return await client.delete(f"/api/alerts/{alert.id}/subjects/{person}", headers=factories.bearer(ctx, actor))


async def standing_of(ctx: AppContext, actor: Actor, alert: Alert) -> dict[UUID, str]:
    found = await factories.rows(
        ctx, actor, "select user_id, standing from alert_subjects where alert_id = %s", alert.id
    )
    return {row["user_id"]: row["standing"] for row in found}


async def sees(
    client: httpx.AsyncClient, ctx: AppContext, actor: Actor, made: RecordingFixture, alert: Alert
) -> set[str]:
    """Returns the routes and queries by which the actor can see the alert or its sources."""
    recording = f"/api/recordings/{made.recording_id}"
    paths = {
        "alert": f"/api/alerts/{alert.id}", "its subjects": f"/api/alerts/{alert.id}/subjects",
        "recording": recording, "transcript": f"{recording}/transcript", "analysis": f"{recording}/analysis",
    }  # fmt: skip
    found = {what for what, path in paths.items() if (await ask(client, ctx, actor, path)).status_code == 200}
    queue = (await ask(client, ctx, actor, "/api/alerts")).json()["items"]
    found |= {"queue" for item in queue if item["id"] == str(alert.id)}
    signs = (await ask(client, ctx, actor, "/api/ai/risk-indicators")).json()
    found |= {"risk indicators"} if signs["categories"] or signs["risk_levels"] else set()
    patterns = (await ask(client, ctx, actor, "/api/ai/communication-patterns")).json()
    found |= {"communication patterns"} if patterns["people"] else set()
    for what, statement in {
        "evidence": "select 1 from alert_evidence",
        "reviews": "select 1 from reviews",
        "events": "select 1 from events where aggregate_type = 'alert'",
        "audit": "select 1 from audit_log where object_type = 'alert'",
        "utterances": "select 1 from utterances",
        "subjects": "select 1 from alert_subjects",
        "track": "select 1 from recording_tracks",
    }.items():
        found |= {what} if await factories.rows(ctx, actor, statement) else set()
    return found


async def make_reviewed(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> tuple[RecordingFixture, Alert]:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    said = {"decision": "escalate", "reason": "For the lead."}
    headers = factories.bearer(ctx, made.lead) | {"If-Match": '"1"'}
    answer = await client.post(f"/api/alerts/{alert.id}/review", json=said, headers=headers)
    assert answer.status_code == 201
    return made, alert


@pytest.mark.parametrize("role", TEAM)
async def test_as_the_person_an_alert_is_about_sees_nothing_of_it_in_any_role_of_the_team(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, role: str
) -> None:
    made, alert = await make_reviewed(client, ctx, worker_ctx)
    person = await factories.make_user(ctx, made.tenant_id, role)
    before = await sees(client, ctx, person, made, alert)
    assert {"alert", "its subjects", "queue", "recording", "transcript", "analysis", "evidence", "reviews", "events",
            "utterances", "track", "risk indicators", "communication patterns", "subjects"} <= before  # fmt: skip
    named = await name(client, ctx, made.lead, alert, person.user_id)
    assert (named.status_code, named.json()["standing"]) == (201, "named")
    assert await sees(client, ctx, person, made, alert) == set()
    assert "alert" in await sees(client, ctx, made.lead, made, alert)
    for way in ("claim", "review"):
        body = {"decision": "dismiss", "reason": "It was nothing."} if way == "review" else None
        headers = factories.bearer(ctx, person) | {"If-Match": '"2"'}
        answer = await client.post(f"/api/alerts/{alert.id}/{way}", json=body, headers=headers)
        assert answer.status_code in (403, 404), way  # the officer can never decide
    deleted = await client.delete(f"/api/recordings/{made.recording_id}", headers=factories.bearer(ctx, person))
    assert deleted.status_code in (403, 404)


async def test_as_a_carer_or_a_manager_an_alert_is_about_sees_no_recording_of_what_was_said_of_them(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    for role in ("care_worker", "care_manager"):
        person = await factories.make_user(ctx, made.tenant_id, role)
        await recording_fixtures.add_participant_row(ctx, made, person)
        transcript = f"/api/recordings/{made.recording_id}/transcript"
        assert (await ask(client, ctx, person, transcript)).status_code == 200
        await name(client, ctx, made.lead, alert, person.user_id)
        for path in (
            transcript,
            f"/api/recordings/{made.recording_id}",
            f"/api/recordings/{made.recording_id}/download",
        ):
            assert (await ask(client, ctx, person, path)).status_code == 404, (role, path)
        assert (await ask(client, ctx, person, "/api/recordings")).json()["items"] == []


async def test_nobody_breaks_the_glass_of_an_alert_about_themselves_nor_learns_who_did(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    subject = await factories.make_user(ctx, made.tenant_id, "safeguarding_lead")
    carer = await factories.make_user(ctx, made.tenant_id, "care_worker")
    await name(client, ctx, made.lead, alert, subject.user_id)
    await name(client, ctx, made.lead, alert, carer.user_id)
    manager = await factories.make_user(ctx, made.tenant_id, "care_manager")
    wanted = {"object_kind": "alert", "object_id": str(alert.id), "reason": "I must know.", "minutes": 5}
    for person in (subject, carer):
        refused = await client.post("/api/break-glass", json=wanted, headers=factories.bearer(ctx, person))
        assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (404, "not-found")
    broken = await client.post("/api/break-glass", json=wanted, headers=factories.bearer(ctx, manager))
    assert broken.status_code == 201
    assert (await ask(client, ctx, subject, "/api/break-glass")).json()["items"] == []
    assert [item["id"] for item in (await ask(client, ctx, made.lead, "/api/break-glass")).json()["items"]] == [
        broken.json()["id"]
    ]


async def test_who_broke_an_alerts_glass_reads_that_alert_and_no_other_and_the_log_says_so(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    _, other = await recording_fixtures.make_alert(ctx, worker_ctx, made.tenant_id)
    manager = await factories.make_user(ctx, made.tenant_id, "care_manager")
    assert (await ask(client, ctx, manager, f"/api/alerts/{alert.id}")).status_code == 403
    wanted = {"object_kind": "alert", "object_id": str(alert.id), "reason": "The lead is away.", "minutes": 60}
    assert (
        await client.post("/api/break-glass", json=wanted, headers=factories.bearer(ctx, manager))
    ).status_code == 201
    read = await ask(client, ctx, manager, f"/api/alerts/{alert.id}")
    assert (read.status_code, [piece["text"] for piece in read.json()["evidence"]]) == (
        200,
        [recording_fixtures.LINES[1][1]],
    )
    for path in (f"/api/alerts/{other.id}", "/api/alerts", f"/api/alerts/{alert.id}/subjects"):
        assert (await ask(client, ctx, manager, path)).status_code == 403, path
    acts = await factories.rows(
        ctx, made.lead, "select action from audit_log where actor_id = %s order by id", manager.user_id
    )
    assert [act["action"] for act in acts] == ["glass.broken", "alert.viewed"]


# --- presumed, named, cleared ----------------------------------------------------------------------------------------


async def test_who_spoke_what_an_alert_cites_is_presumed_until_the_team_says_otherwise(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    speaker = made.people["S2"]
    assert await standing_of(ctx, made.lead, alert) == {speaker.user_id: "presumed"}
    reviewer = Actor(
        speaker.tenant_id, speaker.user_id, "reviewer"
    )  # the same person may also have a token with this role
    assert await sees(client, ctx, reviewer, made, alert) == set()
    assert (await clear(client, ctx, reviewer, alert, speaker.user_id)).status_code == 404
    assert (await clear(client, ctx, made.lead, alert, speaker.user_id)).status_code == 204
    assert "alert" in await sees(client, ctx, reviewer, made, alert)
    listed = (await ask(client, ctx, made.lead, f"/api/alerts/{alert.id}/subjects")).json()["items"]
    assert [(item["standing"], item["decided_by"]) for item in listed] == [("cleared", str(made.lead.user_id))]
    assert (await clear(client, ctx, made.lead, alert, speaker.user_id)).status_code == 404


async def test_who_is_merely_presumed_keeps_the_recording_of_the_call_that_they_spoke_in(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    speaker = made.people["S2"]
    carer = Actor(speaker.tenant_id, speaker.user_id, "care_worker")
    path = f"/api/recordings/{made.recording_id}/transcript"
    assert (await ask(client, ctx, carer, path)).status_code == 200
    await name(client, ctx, made.lead, alert, speaker.user_id)
    assert (await ask(client, ctx, carer, path)).status_code == 404


async def test_who_had_claimed_an_alert_that_turns_out_to_be_about_them_holds_it_no_more(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    reviewer = await factories.make_user(ctx, made.tenant_id, "reviewer")
    headers = factories.bearer(ctx, reviewer) | {"If-Match": '"1"'}
    assert (await client.post(f"/api/alerts/{alert.id}/claim", headers=headers)).status_code == 200
    assert (await name(client, ctx, made.lead, alert, reviewer.user_id)).status_code == 201
    shown = (await ask(client, ctx, made.lead, f"/api/alerts/{alert.id}")).json()
    assert (shown["state"], shown["claimed_by"]) == ("new", None)


async def test_who_says_that_an_alert_is_about_themselves_steps_back_from_it(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    colleague = await factories.make_user(ctx, made.tenant_id, "reviewer")
    assert (await name(client, ctx, made.lead, alert, made.lead.user_id)).status_code == 201
    assert (await ask(client, ctx, made.lead, f"/api/alerts/{alert.id}")).status_code == 404
    assert (await standing_of(ctx, colleague, alert))[made.lead.user_id] == "named"


async def test_subjects_are_named_by_those_who_decide_alerts_and_are_people_of_the_tenant(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    for role in ("data_protection_officer", "care_manager", "care_worker", "service"):
        outsider = await factories.make_user(ctx, made.tenant_id, role)
        assert (await name(client, ctx, outsider, alert, outsider.user_id)).status_code == 403, role
    stranger = await factories.make_actor(ctx, "safeguarding_lead")
    assert (await name(client, ctx, stranger, alert, stranger.user_id)).status_code == 404
    assert (await name(client, ctx, made.lead, alert, stranger.user_id)).status_code == 404
    assert len(await standing_of(ctx, made.lead, alert)) == 1
