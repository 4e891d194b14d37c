"""Alerts: raised once, visible only to the safeguarding team, claimed by one person, decided for good."""

import asyncio
from collections.abc import Coroutine
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest

from comms.governance.consent.queries import ConsentChange, ConsentOrigin, withdraw_consent
from comms.kernel.database import Actor
from comms.safeguarding.alerts.records import Alert
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories
from tests.comms import outbox_helpers, recording_fixtures

pytestmark = pytest.mark.anyio


async def ask(
    client: httpx.AsyncClient, ctx: AppContext, actor: Actor, path: str = "", **params: Any
) -> httpx.Response:
    return await client.get(f"/api/alerts{path}", params=params, headers=factories.bearer(ctx, actor))


async def tell(
    client: httpx.AsyncClient, ctx: AppContext, actor: Actor, path: str, body: Any = None, etag: str | None = None
) -> httpx.Response:
    """Sends a command about the current version of the alert, or about the version with this ETag."""
    saw = {"If-Match": etag} if etag is not None else await recording_fixtures.seen(ctx, actor, path.split("/")[1])
    return await client.post(f"/api/alerts{path}", json=body, headers=factories.bearer(ctx, actor) | saw)


def slug_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition("/")[2]


def decision(word: str = "confirm") -> dict[str, str]:
    return {"decision": word, "reason": "The account is consistent."}


async def reviews_of(ctx: AppContext, actor: Actor, alert: Alert) -> list[str]:
    found = await factories.rows(ctx, actor, "select decision from reviews where alert_id = %s order by id", alert.id)
    return [row["decision"] for row in found]


async def at_once(
    databases: Databases, alert: Alert, *asked: Coroutine[Any, Any, httpx.Response]
) -> list[httpx.Response]:
    """Returns the responses to requests that all wait for the row lock of the alert before the first can get it."""
    async with await psycopg.AsyncConnection.connect(databases.administrator) as holder:
        await holder.execute("select 1 from alerts where id = %s for update", (alert.id,))
        running = [asyncio.create_task(each) for each in asked]

        async def all_wait() -> bool:
            waiting = await outbox_helpers.query_as_admin(
                databases, "select 1 from pg_stat_activity where usename = 'wcc_app' and wait_event_type = 'Lock'"
            )
            return len(waiting) == len(asked)

        await outbox_helpers.until(all_wait)
        await holder.rollback()
        return await asyncio.gather(*running)


# --- raising ---------------------------------------------------------------------------------------------


async def test_an_alert_is_raised_once_however_many_workers_try(ctx: AppContext, worker_ctx: AppContext) -> None:
    made = await recording_fixtures.make_recording(ctx)
    raised = await asyncio.gather(
        *(recording_fixtures.raise_test_alert(worker_ctx, made, "critical") for _ in range(4))
    )
    assert len({alert.id for alert in raised if alert is not None}) == 1
    assert None not in raised
    told = await factories.rows(
        ctx, made.lead, "select type, data from events where aggregate_type = 'alert' order by id"
    )
    assert [row["type"] for row in told] == ["safeguarding.alert", "safeguarding.alert.high_priority"]
    assert {frozenset(row["data"]) for row in told} == {
        frozenset({"alert_id", "session_id", "recording_id", "severity"})
    }
    evidence = await factories.rows(ctx, made.lead, "select category from alert_evidence")
    assert [row["category"] for row in evidence] == ["physical_abuse"]


async def test_a_medium_alert_is_told_of_without_high_priority(ctx: AppContext, worker_ctx: AppContext) -> None:
    made, _ = await recording_fixtures.make_alert(ctx, worker_ctx, severity="medium")
    told = await factories.rows(ctx, made.lead, "select type from events where aggregate_type = 'alert'")
    assert [row["type"] for row in told] == ["safeguarding.alert"]


async def test_words_that_were_taken_back_in_the_meantime_are_put_before_nobody(
    ctx: AppContext, worker_ctx: AppContext
) -> None:
    made = await recording_fixtures.make_recording(ctx)
    async with ctx.database.acting_as(made.people["S2"]) as conn:
        change = ConsentChange(user_id=made.people["S2"].user_id, purpose="analyse")
        await withdraw_consent(conn, made.people["S2"], change, ConsentOrigin())
    assert await recording_fixtures.raise_test_alert(worker_ctx, made) is None
    assert await factories.rows(ctx, made.lead, "select 1 from alerts") == []
    assert await factories.rows(ctx, made.lead, "select 1 from events where aggregate_type = 'alert'") == []


# --- the queue -------------------------------------------------------------------------------------------


async def test_the_queue_has_open_alerts_first_by_severity_then_the_longest_waiting(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, low = await recording_fixtures.make_alert(ctx, worker_ctx, severity="low")
    tenant = made.tenant_id
    _, first_high = await recording_fixtures.make_alert(ctx, worker_ctx, tenant, "high")
    _, decided = await recording_fixtures.make_alert(ctx, worker_ctx, tenant, "critical")
    _, second_high = await recording_fixtures.make_alert(ctx, worker_ctx, tenant, "high")
    _, critical = await recording_fixtures.make_alert(ctx, worker_ctx, tenant, "critical")
    assert (await tell(client, ctx, made.lead, f"/{decided.id}/review", decision())).status_code == 201
    expected = [str(alert.id) for alert in (critical, first_high, second_high, low, decided)]

    whole = (await ask(client, ctx, made.lead)).json()
    assert [item["id"] for item in whole["items"]] == expected
    assert whole["next"] is None

    paged: list[str] = []
    cursor: str | None = None
    while True:
        page = (await ask(client, ctx, made.lead, limit=2, **({"cursor": cursor} if cursor else {}))).json()
        paged += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert paged == expected


async def test_the_queue_is_filtered_by_state_severity_and_category(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, high = await recording_fixtures.make_alert(
        ctx, worker_ctx, severity="high", categories=("neglect", "falls_injury")
    )
    _, low = await recording_fixtures.make_alert(ctx, worker_ctx, made.tenant_id, "low")
    await tell(client, ctx, made.lead, f"/{high.id}/claim")

    async def found(**params: Any) -> list[str]:
        return [item["id"] for item in (await ask(client, ctx, made.lead, **params)).json()["items"]]

    assert await found(state="claimed") == [str(high.id)]
    assert await found(state=["claimed", "new"]) == [str(high.id), str(low.id)]
    assert await found(severity="low") == [str(low.id)]
    assert await found(category="falls_injury") == [str(high.id)]
    assert await found(category="self_harm") == []
    assert (await ask(client, ctx, made.lead, state="nonsense")).status_code == 422
    for cursor in ("0.1.x", f"0.{10**20}.{high.id}", f"{10**20}.1.{high.id}", f"0.-1.{high.id}"):
        refused = await ask(client, ctx, made.lead, cursor=cursor)
        assert (refused.status_code, slug_of(refused)) == (422, "cursor-invalid"), cursor


# --- who sees what ---------------------------------------------------------------------------------------


async def test_as_a_member_of_another_tenant_sees_nothing(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    _, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    stranger = await factories.make_actor(ctx, "safeguarding_lead")
    assert (await ask(client, ctx, stranger)).json() == {"items": [], "next": None}
    for answer in (
        await ask(client, ctx, stranger, f"/{alert.id}"),
        await tell(client, ctx, stranger, f"/{alert.id}/claim"),
        await tell(client, ctx, stranger, f"/{alert.id}/review", decision()),
    ):
        assert (answer.status_code, slug_of(answer)) == (404, "not-found")


@pytest.mark.parametrize("role", ["care_worker", "care_manager", "resident", "external", "data_scientist"])
async def test_roles_outside_the_safeguarding_team_are_refused_and_see_no_row(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, role: str
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    outsider = await factories.make_user(ctx, made.tenant_id, role)
    for answer in (
        await ask(client, ctx, outsider),
        await ask(client, ctx, outsider, f"/{alert.id}"),
        await tell(client, ctx, outsider, f"/{alert.id}/claim"),
    ):
        assert (answer.status_code, slug_of(answer)) == (403, "role-lacks-permission")
    for table in ("alerts", "alert_evidence", "reviews", "analyses"):
        assert await factories.rows(ctx, outsider, f"select 1 from {table}") == [], table


async def test_the_data_protection_officer_reads_and_does_not_decide(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    officer = await factories.make_user(ctx, made.tenant_id, "data_protection_officer")
    assert (await ask(client, ctx, officer, f"/{alert.id}")).status_code == 200
    assert (await tell(client, ctx, officer, f"/{alert.id}/review", decision())).status_code == 403


async def test_an_alert_shows_the_exact_words_their_place_in_the_audio_and_the_models_reasons(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    answer = await ask(client, ctx, made.lead, f"/{alert.id}")
    assert answer.headers["etag"] == '"1"'
    shown = answer.json()
    assert (shown["recording_id"], shown["state"], shown["claimed_by"]) == (str(made.recording_id), "new", None)
    assert shown["models"] == {"safeguarding": "safeguarding@1"}
    assert shown["evidence"] == [
        {
            "utterance": 1, "speaker": "S2", "start_seconds": 4.0, "end_seconds": 7.5,
            "text": recording_fixtures.LINES[1][1], "category": "physical_abuse", "severity": "high",
            "probability": 0.9, "threshold": 0.4,
            "model": "safeguarding", "model_version": "safeguarding@1",
            "spans": [
                {"utterance": 1, "start": 3, "end": 17, "weight": 0.7},
                {"utterance": 3, "start": 4, "end": 7, "weight": 0.2},
            ],
        }
    ]  # fmt: skip
    assert [(turn["utterance"], turn["text"]) for turn in shown["context"]] == [
        (n, text) for n, (_, text) in enumerate(recording_fixtures.LINES)
    ]
    assert shown["unsure"] == [
        {
            "utterance": 3, "speaker": "S2", "start_seconds": 12.0, "end_seconds": 15.5,
            "text": recording_fixtures.LINES[3][1],
            "probability": 0.09, "threshold": 0.05,
        }
    ]  # fmt: skip
    acts = await factories.rows(
        ctx, made.lead, "select actor_id, object_id from audit_log where action = 'alert.viewed'"
    )
    assert acts == [{"actor_id": made.lead.user_id, "object_id": alert.id}]


# --- claiming and deciding -------------------------------------------------------------------------------


async def test_of_many_reviewers_at_once_one_claims(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    team = [await factories.make_user(ctx, made.tenant_id, "reviewer") for _ in range(5)]
    answers = await at_once(databases, alert, *(tell(client, ctx, who, f"/{alert.id}/claim") for who in team))
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412, 412]
    assert {slug_of(answer) for answer in answers if answer.status_code == 412} == {"version-stale"}
    loser = next(who for who, answer in zip(team, answers, strict=True) if answer.status_code == 412)
    after_looking = await tell(client, ctx, loser, f"/{alert.id}/claim")
    assert (after_looking.status_code, slug_of(after_looking)) == (409, "alert-claimed")
    winner = next(who for who, answer in zip(team, answers, strict=True) if answer.status_code == 200)
    again = await tell(client, ctx, winner, f"/{alert.id}/claim")
    assert (again.status_code, again.json()["version"]) == (200, 2)
    shown = (await ask(client, ctx, made.lead, f"/{alert.id}")).json()
    assert (shown["state"], shown["claimed_by"]) == ("claimed", str(winner.user_id))


async def test_of_two_decisions_at_once_one_is_kept(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    team = [await factories.make_user(ctx, made.tenant_id, "reviewer") for _ in range(2)]
    answers = await at_once(
        databases,
        alert,
        tell(client, ctx, team[0], f"/{alert.id}/review", decision("confirm")),
        tell(client, ctx, team[1], f"/{alert.id}/review", decision("dismiss")),
    )
    assert sorted(answer.status_code for answer in answers) == [201, 412]
    assert len(await reviews_of(ctx, made.lead, alert)) == 1


async def test_who_decides_an_unclaimed_alert_claims_it_and_the_decision_is_told_of(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    answer = await tell(client, ctx, made.lead, f"/{alert.id}/review", decision())
    assert (answer.status_code, answer.headers["etag"]) == (201, '"2"')
    review = answer.json()
    assert (review["decision"], review["state"], review["reviewer_id"]) == (
        "confirm", "confirmed", str(made.lead.user_id),
    )  # fmt: skip
    shown = (await ask(client, ctx, made.lead, f"/{alert.id}")).json()
    assert (shown["state"], shown["claimed_by"]) == ("confirmed", str(made.lead.user_id))
    assert shown["reviews"] == [review]
    told = await factories.rows(ctx, made.lead, "select data from events where type = 'alert.reviewed'")
    assert [row["data"] for row in told] == [
        {
            "alert_id": str(alert.id), "severity": "high", "state": "confirmed", "decision": "confirm",
            "review_id": review["id"],
        }
    ]  # fmt: skip
    assert "consistent" not in str(told)


async def test_anothers_alert_cannot_be_decided_until_it_is_escalated(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    reviewer = await factories.make_user(ctx, made.tenant_id, "reviewer")
    await tell(client, ctx, reviewer, f"/{alert.id}/claim")
    refused = await tell(client, ctx, made.lead, f"/{alert.id}/review", decision())
    assert (refused.status_code, slug_of(refused)) == (409, "alert-claimed")
    assert (await tell(client, ctx, reviewer, f"/{alert.id}/review", decision("escalate"))).status_code == 201
    assert (await tell(client, ctx, made.lead, f"/{alert.id}/claim")).json()["state"] == "claimed"
    assert (await tell(client, ctx, made.lead, f"/{alert.id}/review", decision("refer"))).status_code == 201
    assert await reviews_of(ctx, made.lead, alert) == ["escalate", "refer"]


async def test_a_decided_alert_is_neither_claimed_nor_decided_back(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    await tell(client, ctx, made.lead, f"/{alert.id}/review", decision("dismiss"))
    for path, body in (("claim", None), ("review", decision())):
        answer = await tell(client, ctx, made.lead, f"/{alert.id}/{path}", body)
        assert (answer.status_code, slug_of(answer)) == (409, "alert-decided"), path


async def test_who_saw_an_older_version_is_told_to_read_again(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    await tell(client, ctx, made.lead, f"/{alert.id}/claim", etag='"1"')
    stale = await tell(client, ctx, made.lead, f"/{alert.id}/review", decision(), etag='"1"')
    assert (stale.status_code, slug_of(stale)) == (412, "version-stale")
    fresh = await tell(client, ctx, made.lead, f"/{alert.id}/review", decision(), etag='"2"')
    assert fresh.status_code == 201


async def test_a_dismissal_of_what_was_seen_before_an_escalation_is_refused(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    reviewer = await factories.make_user(ctx, made.tenant_id, "reviewer")
    saw = (await ask(client, ctx, made.lead, f"/{alert.id}")).headers["etag"]
    escalated = await tell(client, ctx, reviewer, f"/{alert.id}/review", decision("escalate"), etag=saw)
    assert escalated.status_code == 201
    dismissed = await tell(client, ctx, made.lead, f"/{alert.id}/review", decision("dismiss"), etag=saw)
    assert (dismissed.status_code, slug_of(dismissed)) == (412, "version-stale")
    assert await reviews_of(ctx, made.lead, alert) == ["escalate"]
    assert (await ask(client, ctx, made.lead, f"/{alert.id}")).json()["state"] == "escalated"


@pytest.mark.parametrize("etag", [None, "*", " * "])
@pytest.mark.parametrize("path", ["claim", "review"])
async def test_a_decision_that_does_not_say_what_was_seen_is_not_taken(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, path: str, etag: str | None
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    headers = factories.bearer(ctx, made.lead) | ({"If-Match": etag} if etag is not None else {})
    body = decision() if path == "review" else None
    answer = await client.post(f"/api/alerts/{alert.id}/{path}", json=body, headers=headers)
    assert (answer.status_code, slug_of(answer)) == (428, "version-required")
    assert (await ask(client, ctx, made.lead, f"/{alert.id}")).json()["version"] == 1


@pytest.mark.parametrize(
    "body", [{}, {"decision": "abuse", "reason": "x"}, {"decision": "confirm", "reason": ""}, decision() | {"by": "x"}]
)
async def test_a_decision_without_a_known_word_and_a_reason_is_invalid(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, body: Any
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    assert (await tell(client, ctx, made.lead, f"/{alert.id}/review", body)).status_code == 422
    assert await reviews_of(ctx, made.lead, alert) == []


async def test_a_review_is_never_changed_by_the_api_nor_by_the_owner(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    review = (await tell(client, ctx, made.lead, f"/{alert.id}/review", decision())).json()
    change = "update reviews set decision = 'dismiss' where id = %s returning id"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await factories.rows(ctx, made.lead, change, UUID(review["id"]))
    async with await psycopg.AsyncConnection.connect(databases.administrator) as admin:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            await admin.execute(change.encode(), (review["id"],))
    assert await reviews_of(ctx, made.lead, alert) == ["confirm"]
