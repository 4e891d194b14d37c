"""Transcripts and analyses: stored once, read back completely, only by permitted users."""

import asyncio

import pytest

from comms.calls.transcripts.queries import (
    find_analysis,
    find_transcript,
    load_analysis,
    load_transcript,
    save_embeddings,
)
from comms.web.context import AppContext
from models.contract.errors import Kind, WriteCareError
from tests import factories
from tests.comms import recording_fixtures

pytestmark = pytest.mark.anyio


async def test_a_transcript_is_read_back_as_it_was_kept(ctx: AppContext, worker_ctx: AppContext) -> None:
    made = await recording_fixtures.make_recording(ctx)
    transcription_id = await recording_fixtures.transcribe(worker_ctx, made)
    async with ctx.database.acting_as(made.people["S1"]) as conn:
        stored = await load_transcript(conn, made.recording_id)
    assert stored.id == transcription_id
    assert stored.transcript == recording_fixtures.transcript()
    assert stored.revision == 1
    assert stored.confidence_score == pytest.approx(0.9)
    assert len(set(stored.utterance_ids)) == len(recording_fixtures.LINES)
    assert stored.participant_ids == tuple(made.participants[who] for who, _ in recording_fixtures.LINES)


async def test_a_job_that_runs_twice_or_beside_itself_keeps_one_transcript_and_tells_of_it_once(
    ctx: AppContext, worker_ctx: AppContext
) -> None:
    made = await recording_fixtures.make_recording(ctx)
    ids = await asyncio.gather(*(recording_fixtures.transcribe(worker_ctx, made) for _ in range(4)))
    assert len(set(ids)) == 1
    kept = await factories.rows(ctx, made.lead, "select count(*) as n from utterances")
    told = await factories.rows(ctx, made.lead, "select data from events where type = 'transcript.ready'")
    assert kept[0]["n"] == len(recording_fixtures.LINES)
    assert [row["data"] for row in told] == [
        {
            "recording_id": str(made.recording_id), "session_id": str(made.session_id),
            "transcription_id": str(ids[0]), "revision": 1,
        }
    ]  # fmt: skip


async def test_a_recording_that_is_not_there_or_anothers_is_missing(ctx: AppContext, worker_ctx: AppContext) -> None:
    here, elsewhere = await recording_fixtures.make_recording(ctx), await recording_fixtures.make_recording(ctx)
    await recording_fixtures.transcribe(worker_ctx, here)
    astray = recording_fixtures.RecordingFixture(
        here.recording_id, here.session_id, here.participants, here.people, elsewhere.worker, elsewhere.lead
    )
    with pytest.raises(WriteCareError) as refusal:
        await recording_fixtures.transcribe(worker_ctx, astray)
    assert refusal.value.kind == Kind.MISSING
    async with ctx.database.acting_as(elsewhere.people["S1"]) as conn:
        assert await find_transcript(conn, here.recording_id) is None


async def test_an_analysis_is_kept_once_and_shown_to_the_safeguarding_team_alone(
    ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    again = await recording_fixtures.raise_test_alert(worker_ctx, made)
    assert again == alert
    async with ctx.database.acting_as(made.lead) as conn:
        stored = await load_analysis(conn, made.recording_id)
    assert (stored.id, stored.analysis, stored.confidence_level) == (
        alert.analysis_id,
        recording_fixtures.analysis(),
        0.8,
    )
    async with ctx.database.acting_as(made.people["S1"]) as conn:
        assert await find_transcript(conn, made.recording_id) is not None
        assert await find_analysis(conn, made.recording_id) is None
        with pytest.raises(WriteCareError) as refusal:
            await load_analysis(conn, made.recording_id)
    assert refusal.value.kind == Kind.MISSING


async def test_every_utterance_gets_its_own_vector(ctx: AppContext, worker_ctx: AppContext) -> None:
    made = await recording_fixtures.make_recording(ctx)
    transcription_id = await recording_fixtures.transcribe(worker_ctx, made)
    vectors = [[float(n)] * 384 for n in range(len(recording_fixtures.LINES))]
    async with worker_ctx.database.acting_as(made.worker) as conn:
        await save_embeddings(conn, transcription_id, vectors, "minilm@1")
    kept = await factories.rows(
        ctx, made.lead,
        "select position, (embedding::real[])[384] as last, embedding_model from utterances order by position",
    )  # fmt: skip
    assert [(row["position"], row["last"]) for row in kept] == [
        (n, float(n)) for n in range(len(recording_fixtures.LINES))
    ]
    assert {row["embedding_model"] for row in kept} == {"minilm@1"}


async def test_vectors_that_are_too_few_are_refused_and_none_is_kept(ctx: AppContext, worker_ctx: AppContext) -> None:
    made = await recording_fixtures.make_recording(ctx)
    transcription_id = await recording_fixtures.transcribe(worker_ctx, made)
    with pytest.raises(WriteCareError) as refusal:
        async with worker_ctx.database.acting_as(made.worker) as conn:
            await save_embeddings(conn, transcription_id, [[0.0] * 384], "minilm@1")
    assert refusal.value.slug == "embedding-count"
    kept = await factories.rows(ctx, made.lead, "select 1 from utterances where embedding is not null")
    assert kept == []


async def test_events_and_audit_hold_no_spoken_words(ctx: AppContext, worker_ctx: AppContext) -> None:
    made, _ = await recording_fixtures.make_alert(ctx, worker_ctx)
    told = await factories.rows(ctx, made.lead, "select data::text as shown from events")
    acts = await factories.rows(ctx, made.lead, "select details::text as shown from audit_log")
    assert told
    assert acts
    assert [row for row in told + acts if "grabbed" in row["shown"] or "arm" in row["shown"].split()] == []
