"""Sessions and participants: created, changed with their version, reported by events, invisible to other tenants."""

import asyncio
from typing import Any

import httpx
import pytest

from comms.kernel.database import Actor
from comms.web.context import AppContext
from tests import factories

pytestmark = pytest.mark.anyio


async def make(client: httpx.AsyncClient, ctx: AppContext, actor: Actor, **fields: Any) -> httpx.Response:
    body = {"session_type": "video_call", "title": "Sunday call"} | fields
    return await client.post("/api/sessions", json=body, headers=factories.bearer(ctx, actor))


async def events_of(ctx: AppContext, actor: Actor, session_id: str) -> list[tuple[str, int]]:
    found = await factories.rows(
        ctx, actor, "select type, aggregate_version from events where aggregate_id = %s order by aggregate_version",
        session_id,
    )  # fmt: skip
    return [(row["type"], row["aggregate_version"]) for row in found]


async def test_a_session_is_made_with_its_participants_and_read_back(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    resident = await factories.make_user(ctx, manager.tenant_id, "resident")
    made = await make(
        client, ctx, manager,
        participants=[
            {"user_id": str(manager.user_id), "participant_type": "staff"},
            {"user_id": str(resident.user_id), "participant_type": "resident"},
        ],
    )  # fmt: skip
    assert made.status_code == 201
    session = made.json()
    assert session["status"] == "scheduled"
    assert [p["user_id"] for p in session["participants"]] == [str(manager.user_id), str(resident.user_id)]
    assert all(p["joined_at"] is None for p in session["participants"])
    read = await client.get(made.headers["location"], headers=factories.bearer(ctx, manager))
    assert read.json() == session
    assert read.headers["etag"] == f'"{session["version"]}"'


async def test_a_session_runs_through_its_life_and_each_step_is_told(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    headers = factories.bearer(ctx, manager)
    guest = await factories.make_user(ctx, manager.tenant_id, "external")
    session_id = (await make(client, ctx, manager)).json()["id"]
    path = f"/api/sessions/{session_id}"
    started = await client.put(path, json={"status": "active"}, headers=headers)
    assert started.json()["actual_start_time"] is not None
    person = {"user_id": str(guest.user_id), "participant_type": "family"}
    joined = await client.post(f"{path}/participants", json=person, headers=headers)
    assert (joined.status_code, joined.json()["joined_at"] is not None) == (201, True)
    member = joined.headers["location"]
    assert (await client.get(member, headers=headers)).json() == joined.json()
    listed = await client.get(f"{path}/participants", headers=headers)
    assert listed.json() == {"items": [joined.json()], "next": None}
    assert (await client.put(member, json={"permissions": {"camera": False}}, headers=headers)).status_code == 200
    assert (await client.delete(member, headers=headers)).status_code == 204
    assert (await client.put(member, json={"joined": True}, headers=headers)).json()["left_at"] is None
    assert (await client.put(member, json={"joined": False}, headers=headers)).json()["left_at"] is not None
    ended = await client.delete(path, headers=headers)
    assert (ended.json()["status"], ended.json()["end_time"] is not None) == ("ended", True)
    assert await events_of(ctx, manager, session_id) == [
        ("session.created", 1), ("session.started", 2), ("session.participant.joined", 3),
        ("session.participant.left", 5), ("session.participant.joined", 6), ("session.participant.left", 7),
        ("session.ended", 8),
    ]  # fmt: skip


async def test_a_session_that_is_over_stays_over(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    headers = factories.bearer(ctx, manager)
    path = (await make(client, ctx, manager)).headers["location"]
    cancelled = await client.delete(path, headers=headers)
    assert cancelled.json()["status"] == "cancelled"
    for answer in (
        await client.delete(path, headers=headers),
        await client.put(path, json={"status": "active"}, headers=headers),
        await client.post(
            f"{path}/participants", json={"user_id": str(manager.user_id), "participant_type": "staff"},
            headers=headers,
        ),
    ):  # fmt: skip
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (409, "session-status")


async def test_who_read_an_older_version_changes_nothing(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    headers = factories.bearer(ctx, manager)
    made = await make(client, ctx, manager)
    path, etag = made.headers["location"], made.headers["etag"]
    first = await client.put(path, json={"title": "Monday call"}, headers=headers | {"If-Match": etag})
    assert first.status_code == 200
    for stale in (etag, '"nonsense"'):
        late = await client.put(path, json={"title": "Lost"}, headers=headers | {"If-Match": stale})
        assert (late.status_code, late.json()["type"].rpartition("/")[2]) == (412, "version-stale")
    assert (await client.get(path, headers=headers)).json()["title"] == "Monday call"


async def test_lists_come_in_pages_newest_first(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    headers = factories.bearer(ctx, manager)
    made = [(await make(client, ctx, manager, title=f"Call {n}")).json()["id"] for n in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/api/sessions", params=params, headers=headers)).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == made[::-1]
    handover = (await make(client, ctx, manager, session_type="handover")).json()["id"]
    narrowed = await client.get("/api/sessions", params={"session_type": "handover"}, headers=headers)
    assert [item["id"] for item in narrowed.json()["items"]] == [handover]


async def test_as_a_member_of_another_tenant_sees_nothing_and_changes_nothing(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    stranger = await factories.make_actor(ctx, "care_manager")
    path = (await make(client, ctx, manager)).headers["location"]
    headers = factories.bearer(ctx, stranger)
    person = {"user_id": str(stranger.user_id), "participant_type": "staff"}
    assert (await client.get("/api/sessions", headers=headers)).json() == {"items": [], "next": None}
    for answer in (
        await client.get(path, headers=headers),
        await client.put(path, json={"title": "Mine"}, headers=headers),
        await client.delete(path, headers=headers),
        await client.post(f"{path}/participants", json=person, headers=headers),
        await client.get(f"{path}/participants", headers=headers),
        await client.get(f"{path}/participants/{manager.user_id}", headers=headers),
        await client.put(f"{path}/participants/{manager.user_id}", json={}, headers=headers),
        await client.delete(f"{path}/participants/{manager.user_id}", headers=headers),
    ):
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (404, "not-found")


async def test_another_tenants_person_or_home_cannot_be_brought_in(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    stranger = await factories.make_actor(ctx, "care_manager")
    headers = factories.bearer(ctx, manager)
    their_home = await client.post("/api/homes", json={"name": "Elm"}, headers=factories.bearer(ctx, stranger))
    before = (await client.get("/api/sessions", headers=headers)).json()
    assert (await make(client, ctx, manager, home_id=their_home.json()["id"])).status_code == 404
    person = {"user_id": str(stranger.user_id), "participant_type": "staff"}
    assert (await make(client, ctx, manager, participants=[person])).status_code == 404
    assert (await client.get("/api/sessions", headers=headers)).json() == before


async def test_residents_see_their_own_sessions_alone(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    ann = await factories.make_user(ctx, manager.tenant_id, "resident")
    bob = await factories.make_user(ctx, manager.tenant_id, "resident")
    anns = await factories.make_session(ctx, manager, ann)
    bobs = await factories.make_session(ctx, manager, bob)
    headers = factories.bearer(ctx, ann)
    listed = await client.get("/api/sessions", headers=headers)
    assert [item["id"] for item in listed.json()["items"]] == [str(anns)]
    for part in ("", "/participants", f"/participants/{bob.user_id}"):
        assert (await client.get(f"/api/sessions/{bobs}{part}", headers=headers)).status_code == 404
    assert (await client.get(f"/api/sessions/{anns}/participants/{bob.user_id}", headers=headers)).status_code == 404
    refused = await make(client, ctx, ann)
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (403, "role-lacks-permission")


async def test_somebody_who_takes_part_is_not_added_twice(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    session_id = await factories.make_session(ctx, manager, manager)
    twice = await client.post(
        f"/api/sessions/{session_id}/participants",
        json={"user_id": str(manager.user_id), "participant_type": "staff"},
        headers=factories.bearer(ctx, manager),
    )
    assert (twice.status_code, twice.json()["type"].rpartition("/")[2]) == (409, "already-taking-part")


async def test_a_hundred_people_make_sessions_at_once_and_none_fails(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    people = [await factories.make_user(ctx, manager.tenant_id, "care_worker") for _ in range(100)]
    answers = await asyncio.gather(*(make(client, ctx, person) for person in people))
    assert [answer.status_code for answer in answers] == [201] * 100
    assert {answer.json()["created_by"] for answer in answers} == {str(person.user_id) for person in people}


# --- joining and leaving, and connection quality
# ------------------------------------------------------------------------

REPORT = {
    "round_trip_milliseconds": 40.0, "jitter_milliseconds": 4.0, "lost_packets_ratio": 0.01,
    "bitrate_kilobits_per_second": 900.0,
}  # fmt: skip


async def running(client: httpx.AsyncClient, ctx: AppContext, manager: Actor, *people: Actor) -> str:
    """The URL path of a session that has begun and has no participant yet."""
    path = f"/api/sessions/{await factories.make_session(ctx, manager, *people, session_type='video_call')}"
    assert (await client.put(path, json={"status": "active"}, headers=factories.bearer(ctx, manager))).is_success
    return path


async def test_everybody_comes_and_goes_by_themselves_and_changes_nobody_else(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    for role in ("resident", "external", "reviewer", "care_worker"):
        person = await factories.make_user(ctx, manager.tenant_id, role)
        path = await running(client, ctx, manager, person, manager)
        headers, me = factories.bearer(ctx, person), f"{path}/participants/{person.user_id}"
        assert (await client.put(me, json={"joined": True}, headers=headers)).json()["joined_at"] is not None
        assert (await client.put(me, json={"joined": False}, headers=headers)).json()["left_at"] is not None
        if role != "care_worker":  # a care worker may change sessions, and so these, too
            for where, change in (
                (me, {"permissions": {"record": True}}),
                (me, {"joined": True, "participant_type": "staff"}),
                (f"{path}/participants/{manager.user_id}", {"joined": False}),
            ):
                refused = await client.put(where, json=change, headers=headers)
                assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (
                    403, "role-lacks-permission",
                ), (role, change)  # fmt: skip


async def test_who_was_taken_out_of_a_call_does_not_come_back_by_themselves(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    guest = await factories.make_user(ctx, manager.tenant_id, "external")
    path = await running(client, ctx, manager, guest)
    staff, headers, me = (
        factories.bearer(ctx, manager), factories.bearer(ctx, guest), f"{path}/participants/{guest.user_id}",
    )  # fmt: skip
    await client.put(me, json={"joined": True}, headers=headers)
    await client.put(me, json={"joined": False}, headers=headers)
    assert (await client.delete(me, headers=staff)).status_code == 204
    back = await client.put(me, json={"joined": True}, headers=headers)
    assert (back.status_code, back.json()["type"].rpartition("/")[2]) == (403, "removed-from-session")
    assert (await client.put(me, json={"joined": True}, headers=staff)).status_code == 200
    assert (await client.put(me, json={"joined": False}, headers=headers)).status_code == 200
    assert (await client.put(me, json={"joined": True}, headers=headers)).status_code == 200


async def test_a_participants_switches_are_known_by_name_and_changed_one_by_one(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    path = await running(client, ctx, manager, manager)
    headers, me = factories.bearer(ctx, manager), f"{path}/participants/{manager.user_id}"
    usual = {"camera": True, "microphone": True, "screen": False, "chat": True, "record": False}
    assert (await client.get(me, headers=headers)).json()["permissions"] == usual
    for change in ({"screen": True}, {"camera": False}):
        await client.put(me, json={"permissions": change}, headers=headers)
    assert (await client.get(me, headers=headers)).json()["permissions"] == usual | {"screen": True, "camera": False}
    assert (await client.put(me, json={"permissions": {"dance": True}}, headers=headers)).status_code == 422


async def test_a_client_reports_its_own_connection_while_it_is_in_the_call(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    person = await factories.make_user(ctx, manager.tenant_id, "resident")
    path = await running(client, ctx, manager, person)
    headers, me = factories.bearer(ctx, person), f"{path}/participants/{person.user_id}"
    early = await client.post(f"{path}/connection-quality", json=REPORT, headers=headers)
    assert (early.status_code, early.json()["type"].rpartition("/")[2]) == (409, "not-in-the-call")
    await client.put(me, json={"joined": True}, headers=headers)
    await client.post(f"{path}/connection-quality", json=REPORT, headers=headers)
    worse = REPORT | {"round_trip_milliseconds": 140.0, "lost_packets_ratio": 0.03}
    answer = await client.post(f"{path}/connection-quality", json=worse, headers=headers)
    assert answer.json()["latest"] == worse
    assert answer.json()["summary"] == {
        "reports": 2, "mean_round_trip_milliseconds": 90.0, "worst_round_trip_milliseconds": 140.0,
        "mean_jitter_milliseconds": 4.0, "mean_lost_packets_ratio": 0.02, "worst_lost_packets_ratio": 0.03,
        "mean_bitrate_kilobits_per_second": 900.0,
    }  # fmt: skip
    assert (await client.get(me, headers=headers)).json()["connection_quality"] == answer.json()
    outsider = await client.post(
        f"{path}/connection-quality", json=REPORT, headers=factories.bearer(ctx, manager)
    )  # takes no part
    assert outsider.status_code == 404
    nonsense = await client.post(f"{path}/connection-quality", json=REPORT | {"lost_packets_ratio": 2}, headers=headers)
    assert nonsense.status_code == 422


async def test_what_was_measured_is_told_when_a_session_ends_and_counted_once(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    person = await factories.make_user(ctx, manager.tenant_id, "resident")
    path = await running(client, ctx, manager, person, manager)
    for actor in (person, manager):
        headers = factories.bearer(ctx, actor)
        await client.put(f"{path}/participants/{actor.user_id}", json={"joined": True}, headers=headers)
    for actor, milliseconds in ((person, 10.0), (person, 20.0), (manager, 60.0)):
        report = REPORT | {"round_trip_milliseconds": milliseconds}
        await client.post(f"{path}/connection-quality", json=report, headers=factories.bearer(ctx, actor))

    def ended() -> float:
        return (
            ctx.metrics.registry.get_sample_value("writecare_sessions_ended_total", {"session_type": "video_call"}) or 0
        )

    before, headers = ended(), factories.bearer(ctx, manager)
    assert (await client.put(path, json={"status": "ended"}, headers=headers)).status_code == 200
    assert (await client.put(path, json={"status": "ended"}, headers=headers)).status_code == 200
    assert ended() == before + 1
    told = await factories.rows(ctx, manager, "select data from events where type = 'session.ended'")
    metrics = told[0]["data"]["metrics"]
    assert metrics.pop("duration_seconds") >= 0
    connection = metrics.pop("connection")
    assert metrics == {"participants": 2, "joined": 2, "recordings": 0}
    assert (connection["reports"], connection["mean_round_trip_milliseconds"]) == (3, 30.0)
    text = (await client.get("/metrics", headers=factories.operator(ctx))).text
    assert "writecare_session_round_trip_milliseconds_bucket" in text
