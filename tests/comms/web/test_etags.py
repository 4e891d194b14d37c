"""A record's version is its ETag: a change from an old version is refused, an unchanged record is not sent again."""

import httpx
import pytest

from comms.web.context import AppContext
from tests import factories

pytestmark = pytest.mark.anyio


async def test_what_the_caller_has_seen_already_is_not_sent_again(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    headers = factories.bearer(ctx, manager)
    path = f"/api/sessions/{await factories.make_session(ctx, manager)}"
    seen = (await client.get(path, headers=headers)).headers["etag"]
    for known in (seen, f"W/{seen}", f'"999", {seen}', "*"):
        answer = await client.get(path, headers=headers | {"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", seen), known
    await client.put(path, json={"title": "Monday call"}, headers=headers)
    changed = await client.get(path, headers=headers | {"If-None-Match": seen})
    assert (changed.status_code, changed.json()["title"]) == (200, "Monday call")


async def test_who_may_not_read_it_is_not_told_that_it_is_unchanged(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    path = f"/api/sessions/{await factories.make_session(ctx, manager)}"
    stranger = factories.bearer(ctx, await factories.make_actor(ctx, "care_manager"))
    assert (await client.get(path, headers=stranger | {"If-None-Match": "*"})).status_code == 404


async def test_a_recording_that_has_changed_since_is_not_deleted(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    recording = await factories.store_recording(ctx, manager, session_id)
    officer = factories.bearer(ctx, await factories.make_user(ctx, manager.tenant_id, "data_protection_officer"))
    path = f"/api/recordings/{recording.id}"
    stale = await client.delete(path, headers=officer | {"If-Match": '"999"'})
    assert (stale.status_code, stale.json()["type"].rpartition("/")[2]) == (412, "version-stale")
    assert (await client.get(path, headers=officer)).json()["status"] == "processing"
    seen = (await client.get(path, headers=officer)).headers["etag"]
    assert (await client.delete(path, headers=officer | {"If-Match": seen})).status_code == 204


async def test_a_participant_is_changed_under_the_sessions_version(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    guest = await factories.make_user(ctx, manager.tenant_id, "external")
    headers = factories.bearer(ctx, manager)
    session = f"/api/sessions/{await factories.make_session(ctx, manager, guest)}"
    member = f"{session}/participants/{guest.user_id}"
    stale = headers | {"If-Match": '"1"'}  # adding the guest made version 2
    assert (await client.put(member, json={"participant_type": "guest"}, headers=stale)).status_code == 412
    assert (await client.delete(member, headers=stale)).status_code == 412
    assert (await client.get(member, headers=headers)).json()["participant_type"] == "family"
    seen = (await client.get(session, headers=headers)).headers["etag"]
    changed = await client.put(member, json={"participant_type": "guest"}, headers=headers | {"If-Match": seen})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"3"')
    gone = await client.delete(member, headers=headers | {"If-Match": changed.headers["etag"]})
    assert gone.status_code == 204
