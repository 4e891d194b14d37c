"""A transcript or analysis that is requested while it is being made: the response has the reason and the progress."""

from typing import Any
from uuid import UUID

import httpx
import pytest

from comms.calls.recordings.progress import Stage, set_stage
from comms.calls.recordings.queries import mark_ready, park
from comms.kernel.database import Actor
from comms.web.context import AppContext
from tests import factories
from tests.comms.recording_fixtures import make_recording, transcribe
from tests.comms.web.test_middleware import assert_problem

pytestmark = pytest.mark.anyio


async def ask(
    client: httpx.AsyncClient, ctx: AppContext, actor: Actor, recording_id: UUID, what: str
) -> httpx.Response:
    return await client.get(f"/api/recordings/{recording_id}/{what}", headers=factories.bearer(ctx, actor))


def progress(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["progress"]
    return {name: value for name, value in found.items() if name != "since" and value is not None}


async def etag_of(client: httpx.AsyncClient, ctx: AppContext, actor: Actor, recording_id: UUID) -> str:
    answer = await client.get(f"/api/recordings/{recording_id}", headers=factories.bearer(ctx, actor))
    return answer.headers["etag"]


async def test_a_recording_that_waits_says_that_nothing_of_it_is_done(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    made = await make_recording(ctx)
    for what in ("transcript", "analysis"):
        answer = await ask(client, ctx, made.lead, made.recording_id, what)
        assert_problem(answer, 409, f"{what}-in-progress")
        assert progress(answer) == {"recording_status": "processing", "done": 0, "stages": 3}
        assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize(("stage", "done"), [("decoding", 0), ("transcribing", 1), ("reading", 2)])
async def test_each_stage_is_told_of_as_it_begins(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, stage: Stage, done: int
) -> None:
    made = await make_recording(ctx)
    version = (
        await client.get(f"/api/recordings/{made.recording_id}", headers=factories.bearer(ctx, made.lead))
    ).headers.get("etag")
    await set_stage(worker_ctx.database, made.worker, made.recording_id, stage)
    answer = await ask(client, ctx, made.lead, made.recording_id, "analysis")
    assert_problem(answer, 409, "analysis-in-progress")
    assert progress(answer) == {"recording_status": "processing", "stage": stage, "done": done, "stages": 3}
    assert stage in answer.json()["detail"]
    assert (
        await client.get(f"/api/recordings/{made.recording_id}", headers=factories.bearer(ctx, made.lead))
    ).headers.get("etag") == version


async def test_with_a_transcript_it_is_the_analysis_that_is_waited_for(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made = await make_recording(ctx)
    await transcribe(worker_ctx, made)
    assert (await ask(client, ctx, made.lead, made.recording_id, "transcript")).status_code == 200
    answer = await ask(client, ctx, made.lead, made.recording_id, "analysis")
    assert_problem(answer, 409, "analysis-in-progress")
    assert progress(answer)["done"] == 2


async def test_a_parked_recording_says_what_stopped_it(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made = await make_recording(ctx)
    await set_stage(worker_ctx.database, made.worker, made.recording_id, "decoding")
    async with worker_ctx.database.acting_as(made.worker) as conn:
        await park(conn, made.worker, made.recording_id, "consent-missing")
    answer = await ask(client, ctx, made.lead, made.recording_id, "transcript")
    assert_problem(answer, 409, "recording-parked")
    assert progress(answer) == {
        "recording_status": "parked", "done": 0, "stages": 3, "parked_reason": "consent-missing",
    }  # fmt: skip
    assert "retry-after" not in answer.headers


async def test_a_recording_that_still_runs_has_no_transcript_yet(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, resident, _ = await factories.make_call(ctx)
    session_id = await factories.make_session(ctx, manager, manager, resident, session_type="video_call")
    started = await client.post(f"/api/recordings/start/{session_id}", headers=factories.bearer(ctx, manager))
    recording_id = UUID(started.json()["id"])
    answer = await ask(client, ctx, manager, recording_id, "transcript")
    assert_problem(answer, 409, "recording-running")


async def test_what_is_ready_deleted_or_anothers_without_a_transcript_is_missing_as_before(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made = await make_recording(ctx)
    stranger = await factories.make_actor(ctx, "safeguarding_lead")
    assert_problem(await ask(client, ctx, stranger, made.recording_id, "transcript"), 404, "not-found")
    await set_stage(worker_ctx.database, made.worker, made.recording_id, "reading")
    async with worker_ctx.database.acting_as(made.worker) as conn:
        await mark_ready(conn, made.worker, made.recording_id)
    for what in ("transcript", "analysis"):
        assert_problem(await ask(client, ctx, made.lead, made.recording_id, what), 404, "not-found")
    kept = await factories.rows(ctx, made.lead, "select stage, stage_since from recordings")
    assert kept == [{"stage": None, "stage_since": None}]
    await client.delete(f"/api/recordings/{made.recording_id}", headers=factories.bearer(ctx, made.lead))
    assert_problem(await ask(client, ctx, made.lead, made.recording_id, "transcript"), 404, "not-found")
