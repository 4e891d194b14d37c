"""Tests of need to know: only people who need it see a session's care context; others need break-glass access."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from comms.kernel.database import Actor
from comms.web.context import AppContext
from tests import factories
from tests.comms import recording_fixtures

pytestmark = pytest.mark.anyio

ABOUT = "Fall in the night, family is worried"


async def make_home(ctx: AppContext, manager: Actor) -> uuid.UUID:
    found = await factories.rows(
        ctx, manager, "insert into homes (tenant_id, name) values (%s, %s) returning id", manager.tenant_id,
        factories.new_slug("home"),
    )  # fmt: skip
    home: uuid.UUID = found[0]["id"]
    return home


async def work_in(ctx: AppContext, person: Actor, home: uuid.UUID) -> None:
    await factories.rows(ctx, person, "update users set home_id = %s where id = %s returning id", home, person.user_id)


async def ask(client: httpx.AsyncClient, ctx: AppContext, actor: Actor, path: str) -> httpx.Response:
    return await client.get(path, headers=factories.bearer(ctx, actor))


class Care:
    """A session about a resident and an incident, in a home, created by a carer who does not take part in it."""

    def __init__(self, path: str, session_id: uuid.UUID, home: uuid.UUID, **people: Actor) -> None:
        self.path, self.session_id, self.home, self.people = path, session_id, home, people


@pytest.fixture
async def care(client: httpx.AsyncClient, ctx: AppContext) -> Care:
    maker = await factories.make_actor(ctx, "care_worker")
    tenant = maker.tenant_id
    resident = await factories.make_user(ctx, tenant, "resident")
    carer = await factories.make_user(ctx, tenant, "care_worker")
    manager = await factories.make_user(ctx, tenant, "care_manager")
    home = await make_home(ctx, manager)
    await work_in(ctx, manager, home)
    made = await client.post(
        "/api/sessions",
        json={
            "session_type": "video_call", "title": "Tuesday call", "description": ABOUT, "home_id": str(home),
            "care_context": {"residents": [str(resident.user_id)], "incidents": ["INC-2025-17"]},
            "participants": [{"user_id": str(carer.user_id), "participant_type": "staff"}],
        },
        headers=factories.bearer(ctx, maker),
    )  # fmt: skip
    assert made.status_code == 201, made.text
    session_id = uuid.UUID(made.json()["id"])
    return Care(
        made.headers["location"], session_id, home, maker=maker, resident=resident, carer=carer, manager=manager
    )


async def is_shown(client: httpx.AsyncClient, ctx: AppContext, care: Care, actor: Actor) -> bool:
    """Returns whether the actor sees the care context, and checks that session, list and database agree."""
    session = (await ask(client, ctx, actor, care.path)).json()
    listed = (await ask(client, ctx, actor, "/api/sessions")).json()["items"]
    assert [item for item in listed if item["id"] == session["id"]] == [session]
    rows = await factories.rows(ctx, actor, "select incidents from care_contexts")
    shown = not session["care_context_withheld"]
    if shown:
        assert session["description"] == ABOUT
        assert session["care_context"] == {
            "residents": [str(care.people["resident"].user_id)], "incidents": ["INC-2025-17"], "earlier": None,
        }  # fmt: skip
    else:
        assert (session["description"], session["care_context"]) == (None, None)
        assert session["title"] == "Tuesday call"
    assert len(rows) == shown
    assert len(await factories.rows(ctx, actor, "select user_id from care_context_residents")) == shown
    return shown


async def test_as_who_made_it_takes_part_or_manages_its_home_sees_what_a_session_is_about(
    client: httpx.AsyncClient, ctx: AppContext, care: Care
) -> None:
    for who in ("maker", "carer", "manager"):
        assert await is_shown(client, ctx, care, care.people[who]), who


@pytest.mark.parametrize("role", ["safeguarding_lead", "reviewer", "data_protection_officer", "service"])
async def test_as_who_answers_for_safeguarding_sees_what_every_session_is_about(
    client: httpx.AsyncClient, ctx: AppContext, care: Care, role: str
) -> None:
    assert await is_shown(client, ctx, care, await factories.make_user(ctx, care.people["maker"].tenant_id, role))


async def test_as_a_care_worker_or_the_manager_of_another_home_sees_the_session_without_its_care_context(
    client: httpx.AsyncClient, ctx: AppContext, care: Care
) -> None:
    for role in ("care_worker", "care_manager"):
        other = await factories.make_user(ctx, care.people["maker"].tenant_id, role)
        await work_in(ctx, other, await make_home(ctx, care.people["manager"]))
        assert not await is_shown(client, ctx, care, other), role


async def test_as_a_care_worker_of_the_same_home_who_takes_no_part_sees_it_without_too(
    client: httpx.AsyncClient, ctx: AppContext, care: Care
) -> None:
    colleague = await factories.make_user(ctx, care.people["maker"].tenant_id)
    await work_in(ctx, colleague, care.home)
    assert not await is_shown(client, ctx, care, colleague)


async def test_who_does_not_see_a_context_does_not_change_it_but_the_rest_of_the_session(
    client: httpx.AsyncClient, ctx: AppContext, care: Care
) -> None:
    other = await factories.make_user(ctx, care.people["maker"].tenant_id)
    headers = factories.bearer(ctx, other)
    changes: tuple[dict[str, Any], ...] = ({"care_context": {}}, {"description": None}, {"home_id": None})
    for change in changes:
        refused = await client.put(care.path, json=change, headers=headers)
        assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (403, "care-context-withheld")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await factories.rows(
            ctx, other, "insert into care_contexts (tenant_id, session_id) values (%s, %s) on conflict do nothing "
            "returning session_id", other.tenant_id, care.session_id,
        )  # fmt: skip
    moved = await client.put(care.path, json={"title": "Wednesday call"}, headers=headers)
    assert (moved.status_code, moved.json()["title"], moved.json()["care_context"]) == (200, "Wednesday call", None)


async def test_who_has_no_need_to_know_comes_by_none_by_adding_themselves_or_inviting_somebody(
    client: httpx.AsyncClient, ctx: AppContext, care: Care
) -> None:
    for role in ("care_worker", "care_manager"):
        other = await factories.make_user(ctx, care.people["maker"].tenant_id, role)
        headers = factories.bearer(ctx, other)
        person = {"user_id": str(other.user_id), "participant_type": "staff"}
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        guest = {"display_name": "A", "participant_type": "guest", "expires_at": tomorrow}
        for answer in (
            await client.post(f"{care.path}/participants", json=person, headers=headers),
            await client.post(f"{care.path}/invitations", json=guest, headers=headers),
        ):
            assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (403, "care-context-withheld")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await factories.rows(
                ctx, other, "insert into session_participants (tenant_id, session_id, user_id, participant_type) "
                "values (%s, %s, %s, 'staff') returning id", other.tenant_id, care.session_id, other.user_id,
            )  # fmt: skip
        assert not await is_shown(client, ctx, care, other)


async def test_a_context_is_replaced_as_a_whole_and_a_description_by_itself(
    client: httpx.AsyncClient, ctx: AppContext, care: Care
) -> None:
    headers = factories.bearer(ctx, care.people["manager"])
    emptied = await client.put(care.path, json={"care_context": {"incidents": ["INC-9"]}}, headers=headers)
    assert emptied.json()["care_context"] == {"residents": [], "incidents": ["INC-9"], "earlier": None}
    assert emptied.json()["description"] == ABOUT
    silent = await client.put(care.path, json={"description": None}, headers=headers)
    assert (silent.json()["description"], silent.json()["care_context"]["incidents"]) == (None, ["INC-9"])


async def test_a_context_names_residents_of_this_tenant_and_nobody_else(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    strangers = await factories.make_actor(ctx, "resident")
    for person in (manager.user_id, strangers.user_id, uuid.uuid4()):
        body = {"session_type": "meeting", "title": "x", "care_context": {"residents": [str(person)]}}
        answer = await client.post("/api/sessions", json=body, headers=factories.bearer(ctx, manager))
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (404, "not-found"), person
    contexts: tuple[dict[str, Any], ...] = ({"incidents": ["She fell down"]}, {"note": "free"}, {"earlier": {}})
    for context in contexts:
        body = {"session_type": "meeting", "title": "x", "care_context": context}
        answer = await client.post("/api/sessions", json=body, headers=factories.bearer(ctx, manager))
        assert answer.status_code == 422, context
    assert (await ask(client, ctx, manager, "/api/sessions")).json()["items"] == []


# --- break-glass ------------------------------------------------------------------------------------------------------


async def breaks(
    client: httpx.AsyncClient, ctx: AppContext, actor: Actor, kind: str, id: object, **fields: Any
) -> httpx.Response:
    body = {"object_kind": kind, "object_id": str(id), "reason": "The ambulance is here.", "minutes": 15} | fields
    return await client.post("/api/break-glass", json=body, headers=factories.bearer(ctx, actor))


async def test_who_breaks_the_glass_sees_the_one_context_and_everybody_responsible_is_told(
    client: httpx.AsyncClient, ctx: AppContext, care: Care
) -> None:
    tenant = care.people["maker"].tenant_id
    other = await factories.make_user(ctx, tenant)
    officer = await factories.make_user(ctx, tenant, "data_protection_officer")
    broken = await breaks(client, ctx, other, "care_context", care.session_id)
    assert broken.status_code == 201
    assert await is_shown(client, ctx, care, other)
    assert not await is_shown(client, ctx, care, await factories.make_user(ctx, tenant))
    waiting = (await ask(client, ctx, officer, "/api/break-glass?acknowledged=false")).json()["items"]
    assert waiting == [broken.json()]
    assert (waiting[0]["user_id"], waiting[0]["reason"]) == (str(other.user_id), "The ambulance is here.")
    acts = await factories.rows(
        ctx, officer, "select actor_id, object_id, details::text from audit_log where action = 'glass.broken'"
    )
    assert [(act["actor_id"], act["object_id"]) for act in acts] == [(other.user_id, care.session_id)]
    told = await factories.rows(ctx, officer, "select data::text from events where type = 'glass.broken'")
    assert len(told) == 1
    assert "ambulance" not in acts[0]["details"] + told[0]["data"]


async def test_who_breaks_the_glass_is_not_told_that_what_they_saw_without_it_is_unchanged(
    client: httpx.AsyncClient, ctx: AppContext, care: Care
) -> None:
    other = await factories.make_user(ctx, care.people["maker"].tenant_id)
    seen = (await ask(client, ctx, other, care.path)).headers["etag"]
    headers = factories.bearer(ctx, other) | {"If-None-Match": seen}
    assert (await client.get(care.path, headers=headers)).status_code == 304
    await breaks(client, ctx, other, "care_context", care.session_id)
    assert (await client.get(care.path, headers=headers)).json()["care_context_withheld"] is False
    change = await client.put(
        care.path, json={"title": "Another call"}, headers=factories.bearer(ctx, other) | {"If-Match": seen}
    )
    assert change.status_code == 200


async def test_broken_glass_mends_itself(client: httpx.AsyncClient, ctx: AppContext, care: Care) -> None:
    other = await factories.make_user(ctx, care.people["maker"].tenant_id)
    await factories.rows(
        ctx, other,
        "insert into broken_glass (tenant_id, user_id, session_id, reason, expires_at) "
        "values (%s, %s, %s, 'x', now()) returning id",
        other.tenant_id, other.user_id, care.session_id,
    )  # fmt: skip
    assert not await is_shown(client, ctx, care, other)


async def test_a_notice_stays_until_somebody_else_who_is_responsible_acknowledges_it(
    client: httpx.AsyncClient, ctx: AppContext, care: Care
) -> None:
    tenant = care.people["maker"].tenant_id
    lead = await factories.make_user(ctx, tenant, "safeguarding_lead")
    officer = await factories.make_user(ctx, tenant, "data_protection_officer")
    glass = (await breaks(client, ctx, lead, "care_context", care.session_id)).json()["id"]
    path = f"/api/break-glass/{glass}/acknowledge"
    own = await client.post(path, headers=factories.bearer(ctx, lead))
    assert (own.status_code, own.json()["type"].rpartition("/")[2]) == (403, "glass-your-own")
    for _ in range(2):
        seen = await client.post(path, headers=factories.bearer(ctx, officer))
        assert (seen.status_code, seen.json()["acknowledged_by"]) == (200, str(officer.user_id))
    assert (await ask(client, ctx, lead, "/api/break-glass?acknowledged=false")).json()["items"] == []
    assert len((await ask(client, ctx, lead, "/api/break-glass")).json()["items"]) == 1


async def test_glass_is_broken_by_staff_for_an_hour_at_most_with_a_reason_on_what_is_there(
    client: httpx.AsyncClient, ctx: AppContext, care: Care
) -> None:
    tenant = care.people["maker"].tenant_id
    carer = await factories.make_user(ctx, tenant)
    invalid: tuple[dict[str, Any], ...] = ({"minutes": 61}, {"minutes": 0}, {"reason": ""})
    for fields in invalid:
        answer = await breaks(client, ctx, carer, "care_context", care.session_id, **fields)
        assert answer.status_code == 422, fields
    stranger = await factories.make_actor(ctx)
    for actor, kind, id in (
        (carer, "care_context", uuid.uuid4()),
        (carer, "alert", care.session_id),
        (stranger, "care_context", care.session_id),
    ):
        assert (await breaks(client, ctx, actor, kind, id)).status_code == 404, kind
    for role in ("resident", "external", "data_scientist", "platform_admin", "service"):
        outsider = await factories.make_user(ctx, tenant, role)
        assert (await breaks(client, ctx, outsider, "care_context", care.session_id)).status_code == 403, role
    for role in ("care_worker", "care_manager", "reviewer"):
        watcher = await factories.make_user(ctx, tenant, role)
        assert (await ask(client, ctx, watcher, "/api/break-glass")).status_code == 403, role


# --- recordings of a call ---------------------------------------------------------------------------------------------


async def comes_by(
    client: httpx.AsyncClient, ctx: AppContext, actor: Actor, made: recording_fixtures.RecordingFixture
) -> set[str]:
    """Returns by which routes the actor can get sound, words or model results of the call."""
    recording = f"/api/recordings/{made.recording_id}"
    ways = {
        "transcript": f"{recording}/transcript", "captions": f"{recording}/transcript?format=vtt",
        "text": f"{recording}/transcript?format=text", "sound": f"{recording}/download",
        "analysis": f"{recording}/analysis",
    }  # fmt: skip
    statuses = {way: (await ask(client, ctx, actor, path)).status_code for way, path in ways.items()}
    # 503: the track was never encrypted, so its key cannot be found
    found = {way for way, status in statuses.items() if status in (200, 503)}
    shown = (await ask(client, ctx, actor, recording)).json()
    found |= {"tracks"} if shown.get("tracks") else set()
    searched = await ask(client, ctx, actor, "/api/messages/search?q=grabbed&mode=words")
    found |= {"search"} if searched.json()["items"] else set()
    for table in ("recording_tracks", "transcriptions", "utterances", "analyses"):
        found |= {table} if await factories.rows(ctx, actor, f"select 1 from {table}") else set()
    return found


HEARD = {"transcript", "captions", "text", "sound", "tracks", "search", "recording_tracks", "transcriptions",
         "utterances"}  # fmt: skip


async def test_who_may_not_know_what_a_session_is_about_comes_by_no_word_of_its_recordings(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, _ = await recording_fixtures.make_alert(ctx, worker_ctx)
    near = made.people["S1"]
    for role in ("care_worker", "care_manager"):
        far = await factories.make_user(ctx, made.tenant_id, role)
        session = (await ask(client, ctx, far, f"/api/sessions/{made.session_id}")).json()
        assert session["care_context_withheld"] is True
        assert await comes_by(client, ctx, far, made) == set(), role
        recording = await ask(client, ctx, far, f"/api/recordings/{made.recording_id}")
        assert (recording.status_code, recording.json()["tracks"]) == (200, [])
        for way in ("transcript", "download"):
            closed = await ask(client, ctx, far, f"/api/recordings/{made.recording_id}/{way}")
            assert (closed.status_code, closed.json()["type"].rpartition("/")[2]) == (404, "not-found"), way
        broken = await breaks(client, ctx, far, "care_context", made.session_id)
        assert broken.status_code == 201
        assert await comes_by(client, ctx, far, made) == HEARD, role
    assert await comes_by(client, ctx, near, made) == HEARD
    for role in ("safeguarding_lead", "reviewer", "data_protection_officer"):
        answering = await factories.make_user(ctx, made.tenant_id, role)
        assert await comes_by(client, ctx, answering, made) == HEARD | {"analysis", "analyses"}, role


async def test_the_manager_of_the_home_hears_its_calls_and_no_others(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, _ = await recording_fixtures.make_alert(ctx, worker_ctx)
    manager = await factories.make_user(ctx, made.tenant_id, "care_manager")
    home = await make_home(ctx, manager)
    await work_in(ctx, manager, home)
    assert await comes_by(client, ctx, manager, made) == set()
    await factories.rows(
        ctx, made.lead, "update communication_sessions set home_id = %s where id = %s returning id", home,
        made.session_id,
    )  # fmt: skip
    assert await comes_by(client, ctx, manager, made) == HEARD
