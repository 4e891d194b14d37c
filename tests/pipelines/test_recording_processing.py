"""Processing of a recording on a real database: complete, twice, interrupted, consent withdrawn, several tracks."""

import io
from typing import Any
from uuid import UUID, uuid4

import httpx
import numpy as np
import pytest

from comms.calls.recordings import ingestion
from comms.calls.recordings.queries import Recording, load_recording, requeue, shred
from comms.calls.recordings.upload_form import upload_of
from comms.calls.sessions.attendance import list_attendees
from comms.calls.transcripts.queries import load_transcript
from comms.kernel.database import Actor
from comms.web.context import AppContext
from models.contract.errors import Kind, WriteCareError, unavailable
from models.contract.records import NotUnderstood
from pipelines.recording_processing import process_recording
from tests.factories import bearer, grant, make_call, make_user, rows, store_recording, wav, withdraw
from tests.fakes import ScriptedModels
from tests.models.audio.sounds import Stream, recorded, talk

pytestmark = pytest.mark.anyio


def lead(actor: Actor) -> Actor:
    """A user of the same tenant who did not take part in the call and whose role may see the concerns."""
    return Actor(actor.tenant_id, uuid4(), "safeguarding_lead")


async def state_of(ctx: AppContext, actor: Actor, recording: Recording) -> Recording:
    async with ctx.database.acting_as(actor) as conn:
        return await load_recording(conn, recording.id)


async def count(ctx: AppContext, actor: Actor, table: str) -> int:
    return int((await rows(ctx, lead(actor), f"select count(*) as n from {table}"))[0]["n"])


async def events(ctx: AppContext, actor: Actor, recording: Recording) -> list[str]:
    found = await rows(
        ctx, actor, "select type from events where data ->> 'recording_id' = %s order by id", str(recording.id)
    )
    return [row["type"] for row in found]


async def broken() -> None:
    raise unavailable("models-unavailable", "The model cannot answer just now.")


async def test_a_recording_walks_from_sound_to_alert(ctx: AppContext, worker_ctx: AppContext) -> None:
    manager, _, session_id = await make_call(ctx)
    recording = await store_recording(ctx, manager, session_id)
    await process_recording(worker_ctx, ScriptedModels(), manager.tenant_id, recording.id)

    assert (await state_of(ctx, manager, recording)).status == "ready"
    told = await events(ctx, manager, recording)
    assert {"transcript.ready", "recording.processed", "safeguarding.alert"} <= set(told)
    alert = (await rows(ctx, lead(manager), "select severity, categories, models, state from alerts"))[0]
    assert (alert["severity"], alert["categories"], alert["state"]) == ("high", ["physical_abuse"], "new")
    assert {"transcription", "diarization", "safeguarding", "embedding"} <= set(alert["models"])
    evidence = (await rows(ctx, lead(manager), "select model_version, threshold, spans from alert_evidence"))[0]
    assert evidence["model_version"] == "test-1"
    assert evidence["spans"] == [{"utterance": 0, "start": 0, "end": 2, "weight": 0.5}]
    embedded = await rows(ctx, lead(manager), "select count(*) as n from utterances where embedding is not null")
    assert embedded[0]["n"] == 1
    stages = await rows(ctx, manager, "select stage from stage_timings order by id")
    assert [row["stage"] for row in stages] == ["decoding", "transcription", "diarization", "attribution", "reading"]


async def test_a_voice_on_a_mixed_track_that_says_its_name_is_proposed_to_a_person_and_not_taken_as_read(
    ctx: AppContext, worker_ctx: AppContext
) -> None:
    manager, resident, session_id = await make_call(ctx)
    async with ctx.database.acting_as(manager) as conn:
        await conn.execute("update users set display_name = 'Margaret Hall' where id = %s", (resident.user_id,))
    recording = await store_recording(ctx, manager, session_id)
    models = ScriptedModels(words="hello it's Margaret he grabbed my arm")
    await process_recording(worker_ctx, models, manager.tenant_id, recording.id)

    async with ctx.database.acting_as(manager) as conn:
        stored = await load_transcript(conn, recording.id)
        attendees = await list_attendees(conn, session_id)
    proposal = stored.name_proposals[0]
    assert (proposal.speaker, proposal.utterances) == ("Speaker 1", (0,))
    assert proposal.participant_id in {one.participant_id for one in attendees if one.user_id == resident.user_id}
    assert stored.participant_ids == (None,)
    assert "Margaret" not in proposal.model_dump_json()


async def test_walked_twice_it_is_there_once(ctx: AppContext, worker_ctx: AppContext) -> None:
    manager, _, session_id = await make_call(ctx)
    recording = await store_recording(ctx, manager, session_id)
    models = ScriptedModels()
    for _ in range(2):
        await process_recording(worker_ctx, models, manager.tenant_id, recording.id)
    assert models.calls.count("transcription") == 1
    for table in ("transcriptions", "analyses", "alerts", "alert_evidence"):
        assert await count(ctx, manager, table) == 1, table
    assert (await events(ctx, manager, recording)).count("safeguarding.alert") == 1


async def test_broken_off_after_the_transcript_the_next_worker_reads_on(
    ctx: AppContext, worker_ctx: AppContext
) -> None:
    manager, _, session_id = await make_call(ctx)
    recording = await store_recording(ctx, manager, session_id)
    with pytest.raises(WriteCareError) as failure:
        await process_recording(
            worker_ctx, ScriptedModels(before={"safeguarding": broken}), manager.tenant_id, recording.id
        )
    assert failure.value.kind is Kind.UNAVAILABLE
    assert (await state_of(ctx, manager, recording)).status == "processing"

    second = ScriptedModels()
    await process_recording(worker_ctx, second, manager.tenant_id, recording.id)
    assert "transcription" not in second.calls
    assert (await state_of(ctx, manager, recording)).status == "ready"
    versions = (await rows(ctx, lead(manager), "select models from analyses"))[0]["models"]
    assert versions["transcription"] == "test-1"


async def test_without_consent_to_transcribe_it_is_parked_and_goes_on_once_that_is_given(
    ctx: AppContext, worker_ctx: AppContext
) -> None:
    manager, resident, session_id = await make_call(ctx)
    recording = await store_recording(ctx, manager, session_id)
    await withdraw(ctx, manager, resident, "transcribe")
    models = ScriptedModels()
    await process_recording(worker_ctx, models, manager.tenant_id, recording.id)
    parked = await state_of(ctx, manager, recording)
    assert (parked.status, parked.parked_reason, models.calls) == ("parked", "consent-missing", [])

    await grant(ctx, manager, resident, "transcribe")
    async with ctx.database.acting_as(manager) as conn:
        await requeue(conn, manager, recording.id)
    await process_recording(worker_ctx, models, manager.tenant_id, recording.id)
    assert (await state_of(ctx, manager, recording)).status == "ready"


async def test_without_consent_to_analyse_there_is_a_transcript_and_nothing_is_read(
    ctx: AppContext, worker_ctx: AppContext
) -> None:
    manager, resident, session_id = await make_call(ctx)
    recording = await store_recording(ctx, manager, session_id)
    await withdraw(ctx, manager, resident, "analyse")
    models = ScriptedModels()
    await process_recording(worker_ctx, models, manager.tenant_id, recording.id)
    assert (await state_of(ctx, manager, recording)).parked_reason == "consent-missing"
    assert await count(ctx, manager, "transcriptions") == 1
    assert await count(ctx, manager, "analyses") == 0
    assert models.read == []


@pytest.mark.parametrize(
    ("capability", "table"),
    [("transcription", "transcriptions"), ("safeguarding", "analyses"), ("embedding", "alerts")],
)
async def test_consent_taken_back_while_the_models_work_leaves_nothing_of_that_work(
    ctx: AppContext, worker_ctx: AppContext, capability: str, table: str
) -> None:
    manager, resident, session_id = await make_call(ctx)
    recording = await store_recording(ctx, manager, session_id)

    async def take_back() -> None:
        await withdraw(ctx, manager, resident)

    models = ScriptedModels(before={capability: take_back})
    await process_recording(worker_ctx, models, manager.tenant_id, recording.id)
    assert await count(ctx, manager, table) == 0
    assert (await state_of(ctx, manager, recording)).parked_reason == "consent-missing"


async def test_a_recording_deleted_while_the_models_work_stays_deleted(ctx: AppContext, worker_ctx: AppContext) -> None:
    manager, _, session_id = await make_call(ctx)
    recording = await store_recording(ctx, manager, session_id)

    async def delete() -> None:
        officer = lead(manager)
        async with ctx.database.acting_as(officer) as conn:
            await shred(conn, officer, recording.id)

    await process_recording(
        worker_ctx, ScriptedModels(before={"transcription": delete}), manager.tenant_id, recording.id
    )
    assert (await state_of(ctx, manager, recording)).status == "deleted"
    assert await count(ctx, manager, "transcriptions") == 0


async def test_silence_is_ready_with_an_empty_transcript_and_no_alert(ctx: AppContext, worker_ctx: AppContext) -> None:
    manager, _, session_id = await make_call(ctx)
    recording = await store_recording(ctx, manager, session_id)
    await process_recording(worker_ctx, ScriptedModels(words=""), manager.tenant_id, recording.id)
    assert (await state_of(ctx, manager, recording)).status == "ready"
    assert await count(ctx, manager, "analyses") == 1
    assert await count(ctx, manager, "alerts") == 0


NOT_UNDERSTOOD = NotUnderstood(start_seconds=0.0, end_seconds=8.5, reason="language_unsupported")


async def test_a_call_that_nobody_could_read_is_shown_to_a_person_and_is_not_of_no_risk(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    manager, _, session_id = await make_call(ctx)
    recording = await store_recording(ctx, manager, session_id)
    models = ScriptedModels(words="", language="cy", not_understood=(NOT_UNDERSTOOD,))
    await process_recording(worker_ctx, models, manager.tenant_id, recording.id)
    made = await state_of(ctx, manager, recording)
    assert (made.status, made.language, made.not_understood) == ("ready", "cy", (NOT_UNDERSTOOD,))
    [found] = await rows(ctx, lead(manager), "select risk_level, document from analyses")
    assert found["risk_level"] == "low"
    assert (found["document"]["language"], found["document"]["language_supported"]) == ("cy", False)
    headers = bearer(ctx, await make_user(ctx, manager.tenant_id, "safeguarding_lead"))
    waiting = (await client.get("/api/recordings?understood=false", headers=headers)).json()["items"]
    assert [one["id"] for one in waiting] == [str(recording.id)]
    assert (await client.get("/api/recordings?understood=true", headers=headers)).json()["items"] == []
    signs = (await client.get("/api/ai/risk-indicators", headers=headers)).json()
    assert signs["not_read"] == {"recordings": [str(recording.id)], "conversations": []}
    captions = await client.get(f"/api/recordings/{recording.id}/transcript?format=srt", headers=headers)
    assert "00:00:00,000 --> 00:00:08,500\nUnknown speaker: [not understood: language unsupported]" in captions.text


async def test_an_english_call_is_understood(ctx: AppContext, worker_ctx: AppContext) -> None:
    manager, _, session_id = await make_call(ctx)
    recording = await store_recording(ctx, manager, session_id)
    await process_recording(worker_ctx, ScriptedModels(), manager.tenant_id, recording.id)
    made = await state_of(ctx, manager, recording)
    assert (made.language, made.not_understood) == ("en", ())


async def test_another_tenants_recording_is_not_there(ctx: AppContext, worker_ctx: AppContext) -> None:
    manager, _, session_id = await make_call(ctx)
    stranger, _, _ = await make_call(ctx)
    recording = await store_recording(ctx, manager, session_id)
    models = ScriptedModels()
    with pytest.raises(WriteCareError):
        await process_recording(worker_ctx, models, stranger.tenant_id, recording.id)
    assert models.calls == []
    assert (await state_of(ctx, manager, recording)).status == "processing"


# --- one track per participant ---------------------------------------------------------------------------------------


async def tracks_of(ctx: AppContext, manager: Actor, session_id: UUID, *people: Actor) -> Recording:
    files = tuple(io.BytesIO(wav(1.0, hertz=200.0 + 50 * at)) for at, _ in enumerate(people))
    upload = await upload_of(files, tuple(person.user_id for person in people))
    return await ingestion.store_upload(ctx, manager, session_id, upload)


async def test_a_party_a_channel_of_a_file_of_everybody_is_a_speaker_each(
    ctx: AppContext, worker_ctx: AppContext
) -> None:
    manager, _, session_id = await make_call(ctx)
    content = recorded("wav", Stream("pcm_s16le", np.stack([talk(3.0), talk(3.0, 3)])))
    recording = await store_recording(ctx, manager, session_id, content)
    models = ScriptedModels()
    await process_recording(worker_ctx, models, manager.tenant_id, recording.id)
    assert (models.calls.count("transcription"), models.calls.count("diarization")) == (2, 0)
    async with ctx.database.acting_as(lead(manager)) as conn:
        transcript = (await load_transcript(conn, recording.id)).transcript
    assert transcript.speakers == ("Speaker 1", "Speaker 2")
    assert {said.speaker for said in transcript.utterances} == {"Speaker 1", "Speaker 2"}


async def participants(ctx: AppContext, manager: Actor) -> dict[str, Any]:
    found = await rows(
        ctx, lead(manager),
        "select u.speaker, p.user_id, u.text from utterances u join session_participants p on p.id = u.participant_id",
    )  # fmt: skip
    return {row["user_id"]: row["text"] for row in found}


async def test_a_track_is_a_speaker_for_certain_and_nothing_is_diarized(
    ctx: AppContext, worker_ctx: AppContext
) -> None:
    manager, resident, session_id = await make_call(ctx)
    recording = await tracks_of(ctx, manager, session_id, manager, resident)
    models = ScriptedModels()
    await process_recording(worker_ctx, models, manager.tenant_id, recording.id)
    assert "diarization" not in models.calls
    assert set(await participants(ctx, manager)) == {manager.user_id, resident.user_id}
    assert {person.role for person in models.read[0].participants} == {"manager", "resident"}


async def test_the_track_of_a_person_who_took_their_word_back_is_not_heard_and_the_others_are(
    ctx: AppContext, worker_ctx: AppContext
) -> None:
    manager, resident, session_id = await make_call(ctx)
    recording = await tracks_of(ctx, manager, session_id, manager, resident)
    await withdraw(ctx, manager, resident, "transcribe")
    models = ScriptedModels()
    await process_recording(worker_ctx, models, manager.tenant_id, recording.id)
    assert models.calls.count("transcription") == 1
    assert set(await participants(ctx, manager)) == {manager.user_id}


async def test_words_of_a_person_who_may_not_be_analysed_stand_empty_before_the_models(
    ctx: AppContext, worker_ctx: AppContext
) -> None:
    manager, resident, session_id = await make_call(ctx)
    recording = await tracks_of(ctx, manager, session_id, manager, resident)
    await withdraw(ctx, manager, resident, "analyse")
    models = ScriptedModels()
    await process_recording(worker_ctx, models, manager.tenant_id, recording.id)
    assert sorted(turn.text for turn in models.read[0].turns) == ["", "he grabbed my arm"]
    assert (await state_of(ctx, manager, recording)).status == "ready"


async def test_a_track_taken_back_while_the_models_work_is_dropped_and_the_work_done_again_without_it(
    ctx: AppContext, worker_ctx: AppContext
) -> None:
    manager, resident, session_id = await make_call(ctx)
    recording = await tracks_of(ctx, manager, session_id, manager, resident)

    async def take_back() -> None:
        await withdraw(ctx, manager, resident)

    with pytest.raises(WriteCareError, match="withdrawn") as failure:
        await process_recording(
            worker_ctx, ScriptedModels(before={"transcription": take_back}), manager.tenant_id, recording.id
        )
    assert failure.value.kind is Kind.UNAVAILABLE  # so that the queue retries
    assert await count(ctx, manager, "transcriptions") == 0
    await process_recording(worker_ctx, ScriptedModels(), manager.tenant_id, recording.id)
    assert set(await participants(ctx, manager)) == {manager.user_id}
