"""A POST with an Idempotency-Key has one effect, whatever fails, and only its sender gets the answer again."""

import asyncio
import uuid
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from comms.kernel.database import Actor
from comms.web.context import AppContext
from comms.web.idempotency.stored_answers import KeyClaim, claim_key, delete_expired_answers
from instance.provisioning import Databases
from tests import factories
from tests.comms import recording_fixtures
from tests.comms.messaging_fixtures import MessagingClient
from tests.comms.outbox_helpers import query_as_admin

pytestmark = pytest.mark.anyio

CALL = {"session_type": "video_call", "title": "Sunday call"}

# Why these POSTs take no key. Every other POST of the OpenAPI document must take one.
WITHOUT_KEY = {
    "/api/guests/enter": "its answer is a secret, which is not stored; the link lets the same guest in again",
    "/api/webhooks": "its answer is a secret that is shown once; a webhook that was made twice is visible in the list",
    "/api/webhooks/{webhook_id}/secret": "its answer is a secret that is shown once",
    "/api/ws/tickets": "its answer is a secret, which is not stored; an unused ticket does no harm",
    **dict.fromkeys(
        (
            "/api/auth/sign-in", "/api/auth/refresh", "/api/me/second-factor", "/api/me/second-factor/confirm",
            "/api/users/{user_id}/password-reset", "/api/service-accounts",
            "/api/account-changes/{change_id}/approve",
        ),
        "its answer is a secret, which is not stored",
    ),
    **dict.fromkeys(
        (
            "/api/auth/password-reset", "/api/auth/sign-out", "/api/auth/sign-out-everywhere",
            "/api/account-changes/{change_id}/refuse",
        ),
        "a second request has no effect: the token or the sign-in is used up",
    ),
    **dict.fromkeys(
        (
            f"/api/ai/{call}"
            for call in (
                "analyze-transcript", "detect-safeguarding", "extract-action-items", "sentiment-analysis",
                "generate-summary", "compliance-analysis", "transcribe", "embed",
            )
        ),
        "it stores nothing: a second request only gets a second answer",
    ),
}  # fmt: skip


def keyed(ctx: AppContext, actor: Actor, key: str | None = None) -> dict[str, str]:
    """The headers of a request of the actor with a key; a new key if none is given."""
    return factories.bearer(ctx, actor) | {"Idempotency-Key": key or str(uuid.uuid4())}


def slug_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"].rpartition("/")[2])


async def titles(ctx: AppContext, actor: Actor) -> list[str]:
    return [row["title"] for row in await factories.rows(ctx, actor, "select title from communication_sessions")]


async def test_every_post_takes_a_key_or_is_excepted_with_a_reason(app: FastAPI) -> None:
    posts = {path: found["post"] for path, found in app.openapi()["paths"].items() if "post" in found}
    taking = {
        path
        for path, operation in posts.items()
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", ()))
    }
    assert set(posts) - taking == set(WITHOUT_KEY)
    assert len(taking) > 10


async def test_repeated_it_is_answered_as_before_and_done_once(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    headers = keyed(ctx, manager)
    first = await client.post("/api/sessions", json=CALL, headers=headers)
    again = await client.post("/api/sessions", json=CALL, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    for name in ("location", "etag", "content-type"):
        assert again.headers[name] == first.headers[name]
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert await titles(ctx, manager) == ["Sunday call"]
    events = await factories.rows(ctx, manager, "select 1 from events")
    assert len(events) == 1


async def test_another_key_or_none_is_another_request(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    for headers in (keyed(ctx, manager), keyed(ctx, manager), factories.bearer(ctx, manager)):
        assert (await client.post("/api/sessions", json=CALL, headers=headers)).status_code == 201
    assert len(await titles(ctx, manager)) == 3


@pytest.mark.parametrize(
    ("path", "body"), [("/api/sessions", CALL | {"title": "Monday call"}), ("/api/sessions?x=1", CALL)]
)
async def test_a_key_that_was_another_requests_is_refused(
    client: httpx.AsyncClient, ctx: AppContext, path: str, body: dict[str, Any]
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    headers = keyed(ctx, manager)
    assert (await client.post("/api/sessions", json=CALL, headers=headers)).status_code == 201
    answer = await client.post(path, json=body, headers=headers)
    assert (answer.status_code, slug_of(answer)) == (422, "idempotency-key-reused")
    assert await titles(ctx, manager) == ["Sunday call"]


async def test_what_failed_is_kept_nowhere_and_may_be_tried_again(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    headers = keyed(ctx, manager)
    nowhere = CALL | {"home_id": str(uuid.uuid4())}
    assert (await client.post("/api/sessions", json=nowhere, headers=headers)).status_code == 404
    assert (await client.post("/api/sessions", json=CALL, headers=headers)).status_code == 201


async def test_the_same_key_of_two_people_is_two_keys(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    colleague = await factories.make_user(ctx, manager.tenant_id, "care_manager")
    stranger = await factories.make_actor(ctx, "care_manager")
    made = [
        (await client.post("/api/sessions", json=CALL, headers=keyed(ctx, actor, "one"))).json()["id"]
        for actor in (manager, colleague, stranger)
    ]
    assert len(set(made)) == 3
    for actor in (manager, colleague, stranger):
        kept = await factories.rows(ctx, actor, "select user_id from kept_answers")
        assert kept == [{"user_id": actor.user_id}]


async def test_of_many_at_once_one_is_done_and_the_others_are_told_so(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    headers = keyed(ctx, manager)
    answers = await asyncio.gather(
        *(client.post("/api/sessions", json=CALL, headers=headers) for _ in range(12))
    )  # fmt: skip
    done = [answer for answer in answers if answer.status_code == 201]
    assert done
    assert len({answer.json()["id"] for answer in done}) == 1
    assert all((a.status_code, slug_of(a)) == (409, "request-in-progress") for a in answers if a not in done)
    assert await titles(ctx, manager) == ["Sunday call"]


async def test_while_the_first_still_runs_the_second_is_told_to_wait(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    async with ctx.database.acting_as(manager) as conn:
        assert await claim_key(conn, manager, "slow", b"any") == KeyClaim(refers_to=())
        answer = await client.post("/api/sessions", json=CALL, headers=keyed(ctx, manager, "slow"))
        assert (answer.status_code, slug_of(answer)) == (409, "request-in-progress")
    assert (await client.post("/api/sessions", json=CALL, headers=keyed(ctx, manager, "slow"))).status_code == 201


@pytest.mark.parametrize("key", ["", " ", "with space", "k" * 256, "é"])
async def test_a_key_that_is_none_is_refused(client: httpx.AsyncClient, ctx: AppContext, key: str) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    headers = [*factories.bearer(ctx, manager).items(), ("Idempotency-Key", key)]
    sent = [(name.encode(), value.encode()) for name, value in headers]
    answer = await client.post("/api/sessions", json=CALL, headers=sent)
    assert (answer.status_code, slug_of(answer)) == (422, "idempotency-key-invalid")


async def test_a_key_of_quotes_alone_is_a_key(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    first, again = [await client.post("/api/sessions", json=CALL, headers=keyed(ctx, manager, '""')) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]


async def test_a_repeat_passes_the_same_checks_as_its_first(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    headers = keyed(ctx, manager)
    assert (await client.post("/api/sessions", json=CALL, headers=headers)).status_code == 201
    await factories.rows(ctx, manager, "update users set active = false where id = %s returning id", manager.user_id)
    assert (await client.post("/api/sessions", json=CALL, headers=headers)).status_code == 401


async def test_a_days_old_answer_is_forgotten_and_a_younger_one_is_not(
    client: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    for key in ("old", "young"):
        assert (await client.post("/api/sessions", json=CALL, headers=keyed(ctx, manager, key))).status_code == 201
    await query_as_admin(
        databases, "update kept_answers set created_at = now() - interval '25 hours' "
        "where tenant_id = %s and key = 'old' returning 1", manager.tenant_id,
    )  # fmt: skip
    async with ctx.database.without_tenant() as conn:
        assert await delete_expired_answers(conn) == 1
    kept = await query_as_admin(databases, "select key from kept_answers where tenant_id = %s", manager.tenant_id)
    assert kept == [{"key": "young"}]


async def test_an_expired_answer_that_was_not_swept_yet_holds_nobody_up(
    client: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    headers = keyed(ctx, manager, "weekly")
    first = await client.post("/api/sessions", json=CALL, headers=headers)
    await query_as_admin(
        databases, "update kept_answers set created_at = now() - interval '25 hours' where tenant_id = %s returning 1",
        manager.tenant_id,
    )  # fmt: skip
    second = await client.post("/api/sessions", json=CALL, headers=headers)
    assert (second.status_code, second.json()["id"] != first.json()["id"]) == (201, True)


async def test_an_answer_about_an_alert_is_not_given_again_to_whom_it_turns_out_to_be_about(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    person = await factories.make_user(ctx, made.tenant_id, "safeguarding_lead")
    path = f"/api/alerts/{alert.id}"
    steps: dict[str, dict[str, Any] | None] = {
        f"{path}/claim": None,
        "/api/break-glass": {"object_kind": "alert", "object_id": str(alert.id), "reason": "x", "minutes": 5},
        f"{path}/subjects": {"user_id": str(made.people["S1"].user_id)},
        f"{path}/review": {"decision": "escalate", "reason": "Grave."},
    }
    keys = {step: keyed(ctx, person) for step in steps}
    for first in (True, False):  # the second time it is replayed: the person may still see it
        for step, body in steps.items():
            if first and step.startswith(path):
                keys[step] |= {
                    "If-Match": (await client.get(path, headers=factories.bearer(ctx, person))).headers["etag"]
                }
            assert (await client.post(step, json=body, headers=keys[step])).status_code in (200, 201), step
    named = await client.post(
        f"{path}/subjects", json={"user_id": str(person.user_id)}, headers=factories.bearer(ctx, made.lead)
    )
    assert (named.status_code, named.json()["standing"]) == (201, "named")
    for step, body in steps.items():
        again = await client.post(step, json=body, headers=keys[step])
        assert (again.status_code, slug_of(again)) == (404, "not-found"), step
        assert str(alert.id) not in again.text + str(again.headers)
    cleared = await client.delete(f"{path}/subjects/{person.user_id}", headers=factories.bearer(ctx, made.lead))
    assert cleared.status_code == 204
    assert (await client.post(f"{path}/claim", headers=keys[f"{path}/claim"])).headers["idempotency-replayed"] == "true"


async def test_who_names_themselves_is_not_told_of_the_alert_again(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    headers, body = keyed(ctx, made.lead), {"user_id": str(made.lead.user_id)}
    assert (await client.post(f"/api/alerts/{alert.id}/subjects", json=body, headers=headers)).status_code == 201
    again = await client.post(f"/api/alerts/{alert.id}/subjects", json=body, headers=headers)
    assert (again.status_code, slug_of(again)) == (404, "not-found")


async def test_who_left_a_conversation_is_not_given_again_what_they_were_answered_in_it(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    talk = MessagingClient(client, ctx)
    manager = await factories.make_actor(ctx, "care_manager")
    carer = await talk.person(manager)
    conversation = await talk.begin(manager, carer)
    headers = {"Idempotency-Key": "once"}
    body = {"conversation_id": conversation.rpartition("/")[2], "content": "Tea?"}
    for status in (201, 201):
        sent = await talk.ask(carer, "POST", "/api/messages", json=body, headers=headers)
        assert sent.status_code == status
    left = await talk.ask(manager, "DELETE", f"{conversation}/members/{carer.user_id}")
    assert left.status_code == 204, left.text
    again = await talk.ask(carer, "POST", "/api/messages", json=body, headers=headers)
    assert (again.status_code, slug_of(again)) == (404, "not-found")


async def test_whatever_has_an_id_and_a_rule_of_who_sees_it_is_asked_about_at_a_repeat(databases: Databases) -> None:
    """Add a new table to `app.seen_of`, or name it here with the reason."""
    everybodys = {
        "homes", "users", "data_processing_activities", "session_participants", "presences", "sign_ins", "ws_tickets",
    } | {"consent_records", "consent_audit_trail"}  # fmt: skip  # seen by the whole tenant; roles are checked again
    never_answered = {
        "audit_log", "events", "utterances", "stage_timings", "alert_evidence", "message_versions",
        "message_readings", "conversation_members", "kept_answers",
    } | {"recovery_codes", "service_accounts", "webhook_secrets"}  # fmt: skip  # in no answer to a POST with a key
    found = await query_as_admin(
        databases, "select c.relname as name from pg_class c join pg_attribute a on a.attrelid = c.oid "
        "where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and a.attname = 'id' "
        "and has_any_column_privilege('wcc_app', c.oid, 'select') and c.relname <> 'tenants'",
    )  # fmt: skip
    (asked,) = await query_as_admin(databases, "select pg_get_functiondef('app.seen_of'::regproc) as said")
    for name in {row["name"] for row in found} - everybodys - never_answered:
        assert f"'{name}:'" in asked["said"], name


async def test_an_upload_sent_twice_is_one_recording(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    headers = keyed(ctx, manager)
    path = f"/api/recordings?session_id={session_id}"
    first = await client.post(path, files={"file": factories.wav()}, headers=headers)
    again = await client.post(path, files={"file": factories.wav()}, headers=headers)
    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    other = await client.post(path, files={"file": factories.wav(2.0)}, headers=headers)
    assert (other.status_code, slug_of(other)) == (422, "idempotency-key-reused")
    assert len(await factories.rows(ctx, manager, "select 1 from recordings")) == 1
    assert len(await factories.rows(ctx, manager, "select 1 from recording_tracks")) == 1


async def test_a_recording_is_started_and_stopped_once_however_often_it_is_said(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    await factories.put_in_force(ctx, manager, "record", "vital_interests")
    session_id = await factories.make_session(ctx, manager, manager, session_type="video_call")
    for path, body in ((f"/api/recordings/start/{session_id}", None), (f"/api/recordings/stop/{session_id}", None)):
        headers = keyed(ctx, manager)
        first, again = [await client.post(path, json=body, headers=headers) for _ in range(2)]
        assert (first.status_code, again.status_code) in ((201, 201), (200, 200)), (first.text, again.text)
        assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")


async def test_the_first_people_of_a_tenant_are_added_once(client: httpx.AsyncClient, ctx: AppContext) -> None:
    administrator = await factories.make_operator(ctx)
    tenant = {"slug": factories.new_slug("group"), "name": "Elm Group"}
    headers = keyed(ctx, administrator)
    made = [await client.post("/api/tenants", json=tenant, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in made] == [201, 201]
    lead = {"display_name": "Lead", "role": "safeguarding_lead"}
    headers = keyed(ctx, administrator)
    added = [await client.post(f"{made[0].headers['location']}/users", json=lead, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in added] == [201, 201]
    assert added[0].json()["id"] == added[1].json()["id"]
