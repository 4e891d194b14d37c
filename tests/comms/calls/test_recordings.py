"""Recordings over HTTP: stored completely or not at all, played by permitted users, erased for good."""

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import numpy as np
import pytest

from comms.calls.recordings.playback import open_track
from comms.calls.transcripts.queries import save_transcript
from comms.kernel.database import Actor
from comms.web.context import AppContext
from models.contract.records import Transcript, Utterance, Word
from tests import factories
from tests.factories import wav

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class State:
    """The state of one tenant that an upload can change."""

    objects: frozenset[str]
    rows: tuple[tuple[str, int], ...]
    named_files: frozenset[Path]


async def state_of(ctx: AppContext, actor: Actor) -> State:
    counted = [
        (table, (await factories.rows(ctx, actor, f"select count(*) as n from {table}"))[0]["n"])
        for table in ("recordings", "recording_tracks", "events", "communication_sessions")
    ]
    scratch = ctx.settings.data_dir / "scratch"
    return State(
        objects=frozenset([stored.key async for stored in ctx.objects.list_under(str(actor.tenant_id))]),
        rows=tuple(counted),
        named_files=frozenset(scratch.rglob("*")),
    )


def form(*files: bytes, participants: tuple[UUID, ...] = ()) -> dict[str, object]:
    parts: list[tuple[str, object]] = [("file", ("call.wav", file, "audio/wav")) for file in files]
    parts += [("participant", (None, str(participant))) for participant in participants]
    return {"files": parts}


async def upload(
    client: httpx.AsyncClient, ctx: AppContext, actor: Actor, session_id: UUID, *files: bytes,
    participants: tuple[UUID, ...] = (),
) -> httpx.Response:  # fmt: skip
    return await client.post(
        "/api/recordings", params={"session_id": str(session_id)}, headers=factories.bearer(ctx, actor),
        **form(*files, participants=participants),  # type: ignore[arg-type]
    )  # fmt: skip


def slug_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition("/")[2]


# --- stored -----------------------------------------------------------------------------------------------------------


async def test_a_mixed_recording_is_taken_in_and_comes_back_byte_for_byte(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    sound = wav(2.5)
    taken = await upload(client, ctx, manager, session_id, sound)
    assert taken.status_code == 201
    recording = taken.json()
    assert recording["status"] == "processing"
    assert recording["duration_seconds"] == pytest.approx(2.5, abs=0.05)
    [track] = recording["tracks"]
    assert (track["participant_id"], track["size_bytes"], track["media_type"]) == (None, len(sound), "audio/wav")
    assert "wrapped_key" not in taken.text
    headers = factories.bearer(ctx, manager)
    read = await client.get(taken.headers["location"], headers=headers)
    assert read.json() == recording
    heard = await client.get(f"{taken.headers['location']}/download", headers=headers)
    assert (heard.status_code, heard.content == sound) == (200, True)


async def test_each_participant_can_have_a_track_of_their_own(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, resident, session_id = await factories.make_call(ctx)
    low, high = wav(1.0, hertz=200), wav(2.0, hertz=400)
    taken = await upload(client, ctx, manager, session_id, low, high, participants=(resident.user_id, manager.user_id))
    assert taken.status_code == 201
    assert [track["user_id"] for track in taken.json()["tracks"]] == [str(resident.user_id), str(manager.user_id)]
    assert taken.json()["duration_seconds"] == pytest.approx(2.0, abs=0.05)
    second = await client.get(
        f"{taken.headers['location']}/download", params={"track": 1}, headers=factories.bearer(ctx, manager)
    )
    assert second.content == high


async def test_taking_in_leaves_the_event_that_starts_the_job_and_an_audit_entry(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    recording_id = (await upload(client, ctx, manager, session_id, wav())).json()["id"]
    told = await factories.rows(ctx, manager, "select type, data from events where aggregate_id = %s", recording_id)
    assert told == [
        {
            "type": "session.recording.stopped",
            "data": {"recording_id": recording_id, "session_id": str(session_id), "tracks": 1},
        }
    ]
    officer = await factories.make_user(ctx, manager.tenant_id, "data_protection_officer")
    acts = await factories.rows(ctx, officer, "select action from audit_log where object_id = %s", recording_id)
    assert [act["action"] for act in acts] == ["recording.stored"]


async def test_what_lies_in_storage_is_not_what_was_said(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    sound = wav(1.0)
    recording = (await upload(client, ctx, manager, session_id, sound)).json()
    key = f"{manager.tenant_id}/{recording['id']}/{recording['tracks'][0]['id']}.sealed"
    stored = (ctx.settings.data_dir / "recordings" / key).read_bytes()
    assert sound[:16] not in stored
    assert sound[1000:1032] not in stored
    keys = ctx.settings.data_dir / "keys" / "master.json"
    assert keys.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("rate", [8_000, 48_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
async def test_every_ordinary_rate_and_channel_count_is_taken(
    client: httpx.AsyncClient, ctx: AppContext, rate: int, channels: int
) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    taken = await upload(client, ctx, manager, session_id, wav(0.5, rate=rate, channels=channels))
    assert taken.status_code == 201


@pytest.mark.parametrize(
    ("container", "codec", "picture", "media_type"),
    [
        ("flac", "flac", False, "audio/flac"),
        ("mp3", "libmp3lame", False, "audio/mpeg"),
        ("ogg", "libopus", False, "audio/ogg"),
        ("mp4", "aac", False, "audio/mp4"),
        ("mp4", "aac", True, "audio/mp4"),
        ("webm", "libopus", False, "audio/webm"),
        ("adts", "aac", False, "audio/aac"),
    ],
)
async def test_every_ordinary_container_is_taken_and_named(
    client: httpx.AsyncClient, ctx: AppContext, container: str, codec: str, picture: bool, media_type: str
) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    taken = await upload(client, ctx, manager, session_id, factories.encoded(container, codec, 2.0, picture=picture))
    assert taken.status_code == 201, taken.text
    assert taken.json()["tracks"][0]["media_type"] == media_type
    assert taken.json()["duration_seconds"] == pytest.approx(2.0, abs=0.2)


# --- refused: nothing changes ---------------------------------------------------------------------------------------


def lying_wav() -> bytes:
    """Returns a WAV file whose header promises an hour, but which has one second."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.setnframes(16_000 * 3600)
        writer.writeframes(np.zeros(16_000, "<i2").tobytes())
    data = bytearray(file.getvalue())
    data[4:8] = (36 + 2 * 16_000 * 3600).to_bytes(4, "little")
    data[40:44] = (2 * 16_000 * 3600).to_bytes(4, "little")
    return bytes(data)


BAD_SOUND = {
    "not audio": (b"Dear all, please find attached the rota.\n" * 50, 422, "audio-unreadable"),
    "empty": (b"", 422, "audio-empty"),
    "no sound in it": (wav(0.0), 422, "audio-empty"),
    "truncated": (wav(20.0)[:100_000], 422, "audio-truncated"),
    "lies about its length": (lying_wav(), 422, "audio-truncated"),
    "a zip bomb's beginning": (b"PK\x03\x04" + b"\0" * 5000, 422, "audio-unreadable"),
}


@pytest.mark.parametrize("case", BAD_SOUND)
async def test_bad_sound_is_refused_and_leaves_everything_as_it_was(
    client: httpx.AsyncClient, ctx: AppContext, case: str
) -> None:
    body, status, slug = BAD_SOUND[case]
    manager, _, session_id = await factories.make_call(ctx)
    before = await state_of(ctx, manager)
    refused = await upload(client, ctx, manager, session_id, body)
    assert (refused.status_code, slug_of(refused)) == (status, slug)
    assert refused.headers["content-type"] == "application/problem+json"
    assert await state_of(ctx, manager) == before


async def test_a_good_track_beside_a_bad_one_is_not_kept_either(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, resident, session_id = await factories.make_call(ctx)
    before = await state_of(ctx, manager)
    refused = await upload(
        client, ctx, manager, session_id, wav(), b"not audio at all",
        participants=(manager.user_id, resident.user_id),
    )  # fmt: skip
    assert (refused.status_code, slug_of(refused)) == (422, "audio-unreadable")
    assert await state_of(ctx, manager) == before


async def test_without_everybodys_permission_a_mixed_track_is_refused(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager, resident, session_id = await factories.make_call(ctx)
    await factories.withdraw(ctx, manager, resident, "record")
    before = await state_of(ctx, manager)
    refused = await upload(client, ctx, manager, session_id, wav())
    assert (refused.status_code, slug_of(refused)) == (403, "consent-missing")
    assert str(resident.user_id) in refused.json()["detail"]
    assert await state_of(ctx, manager) == before
    # with one track for each person, the others may still be recorded
    alone = await upload(client, ctx, manager, session_id, wav(), participants=(manager.user_id,))
    assert alone.status_code == 201


async def test_without_a_lawful_ground_nothing_is_recorded(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    session_id = await factories.make_session(ctx, manager, manager)
    before = await state_of(ctx, manager)
    refused = await upload(client, ctx, manager, session_id, wav())
    assert (refused.status_code, slug_of(refused)) == (403, "no-lawful-basis")
    assert "POST /api/processing-activities" in refused.json()["detail"]
    assert await state_of(ctx, manager) == before


async def test_as_a_member_of_another_tenant_there_is_no_such_session(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    stranger, _, _ = await factories.make_call(ctx)
    before = await state_of(ctx, manager), await state_of(ctx, stranger)
    refused = await upload(client, ctx, stranger, session_id, wav())
    assert (refused.status_code, slug_of(refused)) == (404, "not-found")
    for path in (f"/api/recordings/start/{session_id}", f"/api/recordings/stop/{session_id}"):
        assert (await client.post(path, headers=factories.bearer(ctx, stranger))).status_code == 404
    assert (await state_of(ctx, manager), await state_of(ctx, stranger)) == before


async def test_with_an_expired_token_or_none_nothing_is_read(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    before = await state_of(ctx, manager)
    for headers in (factories.bearer(ctx, manager, lifetime=-60), {}):
        refused = await client.post(
            "/api/recordings", params={"session_id": str(session_id)}, headers=headers,
            **form(wav()),  # type: ignore[arg-type]
        )  # fmt: skip
        assert refused.status_code == 401
    assert await state_of(ctx, manager) == before


async def test_forms_that_do_not_say_whose_tracks_they_are_are_refused(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager, resident, session_id = await factories.make_call(ctx)
    stranger = await factories.make_user(ctx, manager.tenant_id, "care_worker")
    before = await state_of(ctx, manager)
    one, two = (manager.user_id,), (manager.user_id, resident.user_id)
    cases = [
        ((wav(), wav()), (), "tracks-without-participants"),
        ((wav(), wav()), one, "tracks-without-participants"),
        ((wav(),), two, "tracks-without-participants"),
        ((wav(), wav()), one * 2, "participant-twice"),
        ((wav(),), (stranger.user_id,), "participant-unknown"),
        ((), one, "upload-empty"),
    ]
    for files, participants, slug in cases:
        refused = await upload(client, ctx, manager, session_id, *files, participants=participants)
        assert (refused.status_code, slug_of(refused)) == (422, slug)
    assert await state_of(ctx, manager) == before


async def test_forms_that_are_none_are_refused(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    before = await state_of(ctx, manager)
    boundary = b"--cut\r\nContent-Disposition: form-data; name="
    cases: list[tuple[str, bytes, int, str]] = [
        ("application/json", b"{}", 415, "upload-not-multipart"),
        ("multipart/form-data", b"", 415, "upload-not-multipart"),
        ("multipart/form-data; boundary=cut", b"no boundary here", 422, "upload-malformed"),
        ("multipart/form-data; boundary=cut", boundary + b'"file"\r\n\r\n' + wav(), 422, "upload-cut-off"),
        ("multipart/form-data; boundary=cut", boundary + b'"sound"\r\n\r\nx\r\n--cut--\r\n', 422, "upload-malformed"),
        (
            "multipart/form-data; boundary=cut", boundary + b'"participant"\r\n\r\nAnn\r\n--cut--\r\n',
            422, "participant-invalid",
        ),
        ("multipart/form-data; boundary=cut", b"", 422, "upload-cut-off"),
    ]  # fmt: skip
    for kind, body, status, slug in cases:
        refused = await client.post(
            "/api/recordings", params={"session_id": str(session_id)}, content=body,
            headers=factories.bearer(ctx, manager) | {"Content-Type": kind},
        )  # fmt: skip
        assert (refused.status_code, slug_of(refused)) == (status, slug), body[:60]
        assert "Ann" not in refused.text
    assert await state_of(ctx, manager) == before


async def test_a_caller_that_breaks_off_in_the_middle_leaves_nothing(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    before = await state_of(ctx, manager)

    async def broken() -> AsyncIterator[bytes]:
        yield b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        yield wav(30.0)

    refused = await client.post(
        "/api/recordings", params={"session_id": str(session_id)}, content=broken(),
        headers=factories.bearer(ctx, manager) | {"Content-Type": "multipart/form-data; boundary=cut"},
    )  # fmt: skip
    assert slug_of(refused) == "upload-cut-off"
    assert await state_of(ctx, manager) == before


async def test_a_session_without_participants_or_cancelled_takes_no_recording(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager, _, _ = await factories.make_call(ctx)
    empty = await factories.make_session(ctx, manager)
    refused = await upload(client, ctx, manager, empty, wav())
    assert (refused.status_code, slug_of(refused)) == (409, "session-without-participants")
    cancelled = await factories.make_session(ctx, manager, manager, session_type="video_call")
    await client.delete(f"/api/sessions/{cancelled}", headers=factories.bearer(ctx, manager))
    refused = await upload(client, ctx, manager, cancelled, wav())
    assert (refused.status_code, slug_of(refused)) == (409, "session-status")


# --- started and stopped ----------------------------------------------------------------------------------------------


async def test_a_running_recording_is_stopped_with_its_tracks(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, resident, _ = await factories.make_call(ctx)
    session_id = await factories.make_session(ctx, manager, manager, resident, session_type="video_call")
    headers = factories.bearer(ctx, manager)
    started = await client.post(f"/api/recordings/start/{session_id}", headers=headers)
    assert (started.status_code, started.json()["status"]) == (201, "recording")
    twice = await client.post(f"/api/recordings/start/{session_id}", headers=headers)
    assert (twice.status_code, slug_of(twice)) == (409, "already-recording")
    bad = await client.post(f"/api/recordings/stop/{session_id}", headers=headers, **form(b"no"))  # type: ignore[arg-type]
    assert bad.status_code == 422
    stopped = await client.post(f"/api/recordings/stop/{session_id}", headers=headers, **form(wav()))  # type: ignore[arg-type]
    assert (stopped.status_code, stopped.json()["status"]) == (200, "processing")
    assert stopped.json()["id"] == started.json()["id"]
    told = await factories.rows(
        ctx, manager, "select type from events where aggregate_id = %s order by aggregate_version",
        started.json()["id"],
    )  # fmt: skip
    assert [event["type"] for event in told] == ["session.recording.started", "session.recording.stopped"]
    again = await client.post(f"/api/recordings/stop/{session_id}", headers=headers, **form(wav()))  # type: ignore[arg-type]
    assert (again.status_code, slug_of(again)) == (409, "not-recording")


async def test_of_many_who_start_or_stop_at_once_one_does(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, _ = await factories.make_call(ctx)
    session_id = await factories.make_session(ctx, manager, manager, session_type="meeting")
    headers = factories.bearer(ctx, manager)
    starts = await asyncio.gather(
        *(client.post(f"/api/recordings/start/{session_id}", headers=headers) for _ in range(4))
    )
    assert sorted(answer.status_code for answer in starts) == [201, 409, 409, 409]
    stops = await asyncio.gather(
        *(client.post(f"/api/recordings/stop/{session_id}", headers=headers, **form(wav())) for _ in range(3))  # type: ignore[arg-type]
    )
    assert sorted(answer.status_code for answer in stops) == [200, 409, 409]
    [stopped] = [answer.json() for answer in stops if answer.status_code == 200]
    kept = {
        stored.key async for stored in ctx.objects.list_under(str(manager.tenant_id)) if stopped["id"] in stored.key
    }
    assert kept == {f"{manager.tenant_id}/{stopped['id']}/{stopped['tracks'][0]['id']}.sealed"}


async def test_a_recording_stopped_without_a_track_is_none(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, _ = await factories.make_call(ctx)
    session_id = await factories.make_session(ctx, manager, manager, session_type="audio_call")
    headers = factories.bearer(ctx, manager)
    await client.post(f"/api/recordings/start/{session_id}", headers=headers)
    stopped = await client.post(f"/api/recordings/stop/{session_id}", headers=headers)
    assert (stopped.status_code, stopped.json()["status"], stopped.json()["tracks"]) == (200, "deleted", [])


async def test_recording_does_not_start_without_everybodys_permission(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager, resident, _ = await factories.make_call(ctx)
    session_id = await factories.make_session(ctx, manager, manager, resident, session_type="video_call")
    await factories.withdraw(ctx, manager, resident, "record")
    refused = await client.post(f"/api/recordings/start/{session_id}", headers=factories.bearer(ctx, manager))
    assert (refused.status_code, slug_of(refused)) == (403, "consent-missing")
    assert await factories.rows(ctx, manager, "select 1 from recordings where session_id = %s", session_id) == []


# --- played and read --------------------------------------------------------------------------------------------------


async def test_players_get_the_ranges_they_ask_for(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    sound = wav(40.0)  # over a mebibyte: two segments
    assert len(sound) > 1 << 20
    path = (await upload(client, ctx, manager, session_id, sound)).headers["location"] + "/download"
    headers = factories.bearer(ctx, manager)
    edge = 1 << 20
    for asked, start, end in (
        ("bytes=0-0", 0, 1), (f"bytes={edge - 2}-{edge + 2}", edge - 2, edge + 3), ("bytes=44-", 44, len(sound)),
        ("bytes=-7", len(sound) - 7, len(sound)), (f"bytes={edge}-99999999", edge, len(sound)),
    ):  # fmt: skip
        part = await client.get(path, headers=headers | {"Range": asked})
        assert (part.status_code, part.content == sound[start:end]) == (206, True), asked
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(sound)}"
    for not_understood in ("bytes=5-2", "bytes=0-1,5-6", "words=1-2", "bytes=-"):
        whole = await client.get(path, headers=headers | {"Range": not_understood})
        assert (whole.status_code, whole.content == sound) == (200, True), not_understood
    beyond = await client.get(path, headers=headers | {"Range": f"bytes={len(sound)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(sound)}")
    assert slug_of(beyond) == "range-not-satisfiable"
    assert (await client.get(path, params={"track": 1}, headers=headers)).status_code == 404


async def test_a_track_damaged_in_storage_is_said_to_be(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    recording = (await upload(client, ctx, manager, session_id, wav())).json()
    key = f"{manager.tenant_id}/{recording['id']}/{recording['tracks'][0]['id']}.sealed"
    file = ctx.settings.data_dir / "recordings" / key
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    heard = await client.get(f"/api/recordings/{recording['id']}/download", headers=factories.bearer(ctx, manager))
    assert (heard.status_code, slug_of(heard)) == (409, "recording-damaged")


async def test_as_a_member_of_another_tenant_hears_and_sees_nothing(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    path = (await upload(client, ctx, manager, session_id, wav())).headers["location"]
    stranger = await factories.make_actor(ctx, "safeguarding_lead")
    headers = factories.bearer(ctx, stranger)
    for rest in ("", "/download", "/transcript", "/analysis", "/consent-status"):
        assert (await client.get(path + rest, headers=headers)).status_code == 404, rest
    assert (await client.post(f"{path}/transcribe", headers=headers)).status_code == 404
    assert (await client.delete(path, headers=headers)).status_code == 404
    assert (await client.get("/api/recordings", headers=headers)).json()["items"] == []


async def test_a_resident_or_data_scientist_hears_nothing(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, resident, session_id = await factories.make_call(ctx)
    path = (await upload(client, ctx, manager, session_id, wav())).headers["location"]
    scientist = await factories.make_user(ctx, manager.tenant_id, "data_scientist")
    for person in (resident, scientist):
        for rest in ("", "/download", "/transcript", "/analysis"):
            answer = await client.get(path + rest, headers=factories.bearer(ctx, person))
            assert (answer.status_code, slug_of(answer)) == (403, "role-lacks-permission")


async def test_the_consent_status_names_everyone_and_every_purpose(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, resident, session_id = await factories.make_call(ctx)
    path = (await upload(client, ctx, manager, session_id, wav())).headers["location"]
    await factories.withdraw(ctx, manager, resident, "train")
    status = await client.get(f"{path}/consent-status", headers=factories.bearer(ctx, manager))
    found = {(p["user_id"], p["purpose"]): p["permitted"] for p in status.json()["permissions"]}
    assert len(found) == 10
    assert [key for key, permitted in found.items() if not permitted] == [(str(resident.user_id), "train")]


async def test_a_transcript_comes_as_json_captions_and_text(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    recording = await factories.store_recording(ctx, manager, session_id)
    transcript = Transcript(
        duration_seconds=4.0, language="en", speakers=("S1",),
        words=(Word(word="tea", start_seconds=1.0, end_seconds=1.5, confidence=0.9, speaker="S1"),),
        utterances=(
            Utterance(speaker="S1", start_seconds=1.0, end_seconds=1.5, text="tea\n\n& <cake>", confidence=0.9),
            Utterance(speaker=None, start_seconds=3661.25, end_seconds=3662.0, text="yes", confidence=0.5),
        ),
        models={"transcription": "test"},
    )  # fmt: skip
    headers = factories.bearer(ctx, manager)
    path = f"/api/recordings/{recording.id}/transcript"
    assert (await client.get(path, headers=headers)).status_code == 409  # it is being made
    worker = Actor(manager.tenant_id, manager.user_id, "service")
    async with worker_ctx.database.acting_as(worker) as conn:
        await save_transcript(conn, worker, recording.id, transcript, participants={}, provider="test")
    assert (await client.get(path, headers=headers)).json()["transcript"] == transcript.model_dump(mode="json")
    srt = await client.get(path, params={"format": "srt"}, headers=headers)
    assert srt.text == (
        "1\n00:00:01,000 --> 00:00:01,500\nS1: tea & <cake>\n\n2\n01:01:01,250 --> 01:01:02,000\nUnknown speaker: yes\n"
    )
    vtt = await client.get(path, params={"format": "vtt"}, headers=headers)
    assert vtt.text.startswith("WEBVTT\n\n00:00:01.000 --> 00:00:01.500\n<v S1>tea &amp; &lt;cake&gt;\n")
    assert vtt.headers["content-type"].startswith("text/vtt")
    text = await client.get(path, params={"format": "text"}, headers=headers)
    assert text.text == "[00:00:01] S1: tea & <cake>\n[01:01:01] Unknown speaker: yes\n"


async def test_the_worker_gets_the_sound_in_a_file_without_a_name(ctx: AppContext, worker_ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    sound = wav(40.0)
    recording = await factories.store_recording(ctx, manager, session_id, sound)
    worker = Actor(manager.tenant_id, manager.user_id, "service")
    with await open_track(worker_ctx, worker, recording.id, 0) as file:
        assert file.read() == sound
        assert list((ctx.settings.data_dir / "scratch").iterdir()) == []


# --- erased ---------------------------------------------------------------------------------------------------------


async def test_a_deleted_recording_is_gone_for_good(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager, _, session_id = await factories.make_call(ctx)
    officer = await factories.make_user(ctx, manager.tenant_id, "data_protection_officer")
    before = {stored.key async for stored in ctx.objects.list_under(str(manager.tenant_id))}
    path = (await upload(client, ctx, manager, session_id, wav())).headers["location"]
    headers = factories.bearer(ctx, officer)
    assert (await client.delete(path, headers=factories.bearer(ctx, manager))).status_code == 403
    assert (await client.delete(path, headers=headers)).status_code == 204
    assert {stored.key async for stored in ctx.objects.list_under(str(manager.tenant_id))} == before
    assert (await client.get(path, headers=headers)).json()["status"] == "deleted"
    assert (await client.get(f"{path}/download", headers=headers)).status_code == 404
    assert (await client.get(f"{path}/transcript", headers=headers)).status_code == 404
    keys = await factories.rows(
        ctx, officer, "select wrapped_key from recording_tracks where recording_id = %s", path.rpartition("/")[2]
    )
    assert keys == [{"wrapped_key": None}]
    assert (await client.delete(path, headers=headers)).status_code == 204
