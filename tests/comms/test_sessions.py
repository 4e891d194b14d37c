"""Sessions and who takes part: made, changed under their version, told of, and nobody else's."""

import asyncio
from typing import Any

import httpx
import pytest

from comms.database import Actor
from comms.house import House
from tests import factories

pytestmark = pytest.mark.anyio


async def make(client: httpx.AsyncClient, house: House, actor: Actor, **fields: Any) -> httpx.Response:
    body = {"session_type": "video_call", "title": "Sunday call"} | fields
    return await client.post("/api/sessions", json=body, headers=factories.bearer(house, actor))


async def events_of(house: House, actor: Actor, session_id: str) -> list[tuple[str, int]]:
    found = await factories.rows(
        house, actor, "select type, aggregate_version from events where aggregate_id = %s order by aggregate_version",
        session_id,
    )  # fmt: skip
    return [(row["type"], row["aggregate_version"]) for row in found]


async def test_a_session_is_made_with_its_participants_and_read_back(client: httpx.AsyncClient, house: House) -> None:
    manager = await factories.make_actor(house, "care_manager")
    resident = await factories.make_user(house, manager.tenant_id, "resident")
    made = await make(
        client, house, manager,
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
    read = await client.get(made.headers["location"], headers=factories.bearer(house, manager))
    assert read.json() == session
    assert read.headers["etag"] == f'"{session["version"]}"'


async def test_a_session_runs_through_its_life_and_each_step_is_told(client: httpx.AsyncClient, house: House) -> None:
    manager = await factories.make_actor(house, "care_manager")
    headers = factories.bearer(house, manager)
    guest = await factories.make_user(house, manager.tenant_id, "external")
    session_id = (await make(client, house, manager)).json()["id"]
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
    assert await events_of(house, manager, session_id) == [
        ("session.created", 1), ("session.started", 2), ("session.participant.joined", 3),
        ("session.participant.left", 5), ("session.participant.joined", 6), ("session.participant.left", 7),
        ("session.ended", 8),
    ]  # fmt: skip


async def test_a_session_that_is_over_stays_over(client: httpx.AsyncClient, house: House) -> None:
    manager = await factories.make_actor(house, "care_manager")
    headers = factories.bearer(house, manager)
    path = (await make(client, house, manager)).headers["location"]
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


async def test_who_read_an_older_version_changes_nothing(client: httpx.AsyncClient, house: House) -> None:
    manager = await factories.make_actor(house, "care_manager")
    headers = factories.bearer(house, manager)
    made = await make(client, house, manager)
    path, etag = made.headers["location"], made.headers["etag"]
    first = await client.put(path, json={"title": "Monday call"}, headers=headers | {"If-Match": etag})
    assert first.status_code == 200
    for stale in (etag, '"nonsense"'):
        late = await client.put(path, json={"title": "Lost"}, headers=headers | {"If-Match": stale})
        assert (late.status_code, late.json()["type"].rpartition("/")[2]) == (412, "version-stale")
    assert (await client.get(path, headers=headers)).json()["title"] == "Monday call"


async def test_lists_come_in_pages_newest_first(client: httpx.AsyncClient, house: House) -> None:
    manager = await factories.make_actor(house, "care_manager")
    headers = factories.bearer(house, manager)
    made = [(await make(client, house, manager, title=f"Call {n}")).json()["id"] for n in range(5)]
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
    handover = (await make(client, house, manager, session_type="handover")).json()["id"]
    narrowed = await client.get("/api/sessions", params={"session_type": "handover"}, headers=headers)
    assert [item["id"] for item in narrowed.json()["items"]] == [handover]


async def test_as_a_member_of_another_tenant_sees_nothing_and_changes_nothing(
    client: httpx.AsyncClient, house: House
) -> None:
    manager = await factories.make_actor(house, "care_manager")
    stranger = await factories.make_actor(house, "care_manager")
    path = (await make(client, house, manager)).headers["location"]
    headers = factories.bearer(house, stranger)
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


async def test_another_tenants_person_or_home_cannot_be_brought_in(client: httpx.AsyncClient, house: House) -> None:
    manager = await factories.make_actor(house, "care_manager")
    stranger = await factories.make_actor(house, "care_manager")
    headers = factories.bearer(house, manager)
    their_home = await client.post("/api/homes", json={"name": "Elm"}, headers=factories.bearer(house, stranger))
    before = (await client.get("/api/sessions", headers=headers)).json()
    assert (await make(client, house, manager, home_id=their_home.json()["id"])).status_code == 404
    person = {"user_id": str(stranger.user_id), "participant_type": "staff"}
    assert (await make(client, house, manager, participants=[person])).status_code == 404
    assert (await client.get("/api/sessions", headers=headers)).json() == before


async def test_residents_see_their_own_sessions_alone(client: httpx.AsyncClient, house: House) -> None:
    manager = await factories.make_actor(house, "care_manager")
    ann = await factories.make_user(house, manager.tenant_id, "resident")
    bob = await factories.make_user(house, manager.tenant_id, "resident")
    anns = await factories.make_session(house, manager, ann)
    bobs = await factories.make_session(house, manager, bob)
    headers = factories.bearer(house, ann)
    listed = await client.get("/api/sessions", headers=headers)
    assert [item["id"] for item in listed.json()["items"]] == [str(anns)]
    for part in ("", "/participants", f"/participants/{bob.user_id}"):
        assert (await client.get(f"/api/sessions/{bobs}{part}", headers=headers)).status_code == 404
    assert (await client.get(f"/api/sessions/{anns}/participants/{bob.user_id}", headers=headers)).status_code == 404
    refused = await make(client, house, ann)
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (403, "role-lacks-permission")


async def test_somebody_who_takes_part_is_not_added_twice(client: httpx.AsyncClient, house: House) -> None:
    manager = await factories.make_actor(house, "care_manager")
    session_id = await factories.make_session(house, manager, manager)
    twice = await client.post(
        f"/api/sessions/{session_id}/participants",
        json={"user_id": str(manager.user_id), "participant_type": "staff"},
        headers=factories.bearer(house, manager),
    )
    assert (twice.status_code, twice.json()["type"].rpartition("/")[2]) == (409, "already-taking-part")


async def test_a_hundred_people_make_sessions_at_once_and_none_fails(client: httpx.AsyncClient, house: House) -> None:
    manager = await factories.make_actor(house, "care_manager")
    people = [await factories.make_user(house, manager.tenant_id, "care_worker") for _ in range(100)]
    answers = await asyncio.gather(*(make(client, house, person) for person in people))
    assert [answer.status_code for answer in answers] == [201] * 100
    assert {answer.json()["created_by"] for answer in answers} == {str(person.user_id) for person in people}
