"""A second upload of the same files returns the stored recording, unless the client asks for another one."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from comms.kernel.database import Actor
from comms.web.context import AppContext
from tests import factories
from tests.comms.recording_fixtures import make_alert
from tests.comms.web.test_middleware import assert_problem

pytestmark = pytest.mark.anyio

SLUG = "recording-already-there"


async def send(
    client: httpx.AsyncClient, ctx: AppContext, actor: Actor, session_id: UUID, *files: bytes,
    people: tuple[UUID, ...] = (), headers: dict[str, str] | None = None, **fields: str,
) -> httpx.Response:  # fmt: skip
    parts: list[tuple[str, Any]] = [("file", ("call.wav", file, "audio/wav")) for file in files]
    parts += [("participant", (None, str(person))) for person in people]
    parts += [(name, (None, value)) for name, value in fields.items()]
    return await client.post(
        f"/api/recordings?session_id={session_id}", files=parts,
        headers=factories.bearer(ctx, actor) | (headers or {}),
    )  # fmt: skip


async def count(ctx: AppContext, actor: Actor) -> int:
    return len(await factories.rows(ctx, actor, "select 1 from recordings"))


async def test_the_same_file_sent_twelve_times_makes_one_recording_and_offers_it(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    sound = factories.wav()
    first = await send(client, ctx, manager, session_id, sound)
    assert first.status_code == 201
    for _ in range(11):
        again = await send(client, ctx, manager, session_id, sound)
        assert_problem(again, 409, SLUG)
        assert again.headers["location"] == first.headers["location"]
        assert first.json()["id"] in again.json()["detail"]
    assert (await client.get(again.headers["location"], headers=factories.bearer(ctx, manager))).status_code == 200
    assert await count(ctx, manager) == 1
    stored = [one async for one in ctx.objects.list_under(str(manager.tenant_id))]
    assert len(stored) == 1


async def test_of_the_same_file_sent_by_several_at_once_one_is_kept(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    answers = await asyncio.gather(*(send(client, ctx, manager, session_id, factories.wav()) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert await count(ctx, manager) == 1


async def test_whoever_means_it_keeps_it_twice(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    first = await send(client, ctx, manager, session_id, factories.wav())
    second = await send(client, ctx, manager, session_id, factories.wav(), duplicate="keep")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]
    other = await send(client, ctx, manager, session_id, factories.wav(), duplicate="yes")
    assert_problem(other, 422, "duplicate-invalid")


async def test_other_files_people_and_sessions_are_no_duplicates(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, resident, session_id = await factories.make_call(ctx)
    low, high = factories.wav(hertz=200), factories.wav(hertz=400)
    people = (manager.user_id, resident.user_id)
    assert (await send(client, ctx, manager, session_id, low)).status_code == 201
    assert (await send(client, ctx, manager, session_id, high)).status_code == 201
    assert (await send(client, ctx, manager, session_id, low, people=people[:1])).status_code == 201
    assert (await send(client, ctx, manager, session_id, low, high, people=people)).status_code == 201
    assert (await send(client, ctx, manager, session_id, high, low, people=people)).status_code == 201
    swapped = await send(client, ctx, manager, session_id, high, low, people=people[::-1])
    assert_problem(swapped, 409, SLUG)  # the same tracks of the same people, sent in another order
    elsewhere = await factories.make_session(ctx, manager, manager, resident)
    assert (await send(client, ctx, manager, elsewhere, low)).status_code == 201
    stranger, _, theirs = await factories.make_call(ctx)
    assert (await send(client, ctx, stranger, theirs, low)).status_code == 201


async def test_equal_files_of_two_sessions_have_nothing_in_common_in_the_database(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager, resident, session_id = await factories.make_call(ctx)
    elsewhere = await factories.make_session(ctx, manager, manager, resident)
    for session in (session_id, elsewhere):
        await send(client, ctx, manager, session, factories.wav())
    kept = await factories.rows(ctx, manager, "select content_digest from recordings")
    assert len({bytes(row["content_digest"]) for row in kept}) == 2


async def test_what_was_deleted_is_forgotten_and_may_be_sent_again(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    lead = await factories.make_user(ctx, manager.tenant_id, "safeguarding_lead")
    first = await send(client, ctx, manager, session_id, factories.wav())
    gone = await client.delete(first.headers["location"], headers=factories.bearer(ctx, lead))
    assert gone.status_code == 204
    kept = await factories.rows(ctx, manager, "select content_digest from recordings")
    assert [row["content_digest"] for row in kept] == [None]
    assert (await send(client, ctx, manager, session_id, factories.wav())).status_code == 201


async def test_a_key_answers_before_the_files_are_compared(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    key = {"Idempotency-Key": "the-same"}
    first = await send(client, ctx, manager, session_id, factories.wav(), headers=key)
    again = await send(client, ctx, manager, session_id, factories.wav(), headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    kept = await send(client, ctx, manager, session_id, factories.wav(), headers=key, duplicate="keep")
    assert_problem(kept, 422, "idempotency-key-reused")
    fresh = await send(client, ctx, manager, session_id, factories.wav(), headers={"Idempotency-Key": "new"})
    assert_problem(fresh, 409, SLUG)


async def test_what_is_withheld_from_somebody_is_not_offered_to_them(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await make_alert(ctx, worker_ctx)
    carer = made.people["S1"]
    await factories.put_in_force(ctx, await factories.make_user(ctx, made.tenant_id, "care_manager"), "record",
                                 "public_task")  # fmt: skip
    first = await send(client, ctx, made.lead, made.session_id, factories.wav())
    assert first.status_code == 201
    named = {"user_id": str(carer.user_id)}
    lead = factories.bearer(ctx, made.lead)
    assert (await client.post(f"/api/alerts/{alert.id}/subjects", json=named, headers=lead)).status_code == 201
    move = "update alerts set recording_id = %s where id = %s returning 1 as moved"
    assert await factories.rows(ctx, made.lead, move, UUID(first.json()["id"]), alert.id) == [{"moved": 1}]
    assert (await client.get(first.headers["location"], headers=factories.bearer(ctx, carer))).status_code == 404
    again = await send(client, ctx, carer, made.session_id, factories.wav())
    assert first.json()["id"] not in again.text
    assert again.status_code == 201
