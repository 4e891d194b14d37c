"""Reads and changes the rows of recordings and their tracks. The bytes are in `comms/kernel/storage`.

The states are recording → processing → ready, or parked (and processing again), or deleted. Every change raises the
version under the lock of the row, so the events of a recording have the order of its versions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import Field

from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from comms.kernel.optimistic_locking import refuse_stale
from comms.kernel.storage.key_service import WrappedKey
from comms.kernel.storage.segment_encryption import TrackObjectRef
from comms.outbox.queries import emit
from models.contract.audio_tracks import CHANNELS_HELP, Channels, Sound
from models.contract.errors import WriteCareError, conflict, missing
from models.contract.records import NotUnderstood, Record

RecordingStatus = Literal["recording", "processing", "ready", "parked", "deleted"]


class Track(Record):
    """One file of a recording: of one participant (and their user), or of everybody if both are null."""

    id: UUID
    position: int
    participant_id: UUID | None
    user_id: UUID | None
    media_type: str
    size_bytes: int
    duration_seconds: float
    channels: Channels = Field(description="How to read its channels. " + CHANNELS_HELP)
    sound: Sound | None = Field(description="Its streams and channels, and what each contains.")


class Recording(Record):
    """A recording of a session with its tracks; `duration_seconds` is that of the longest track."""

    id: UUID
    session_id: UUID
    status: RecordingStatus
    parked_reason: str | None = Field(description="The slug of the problem that stopped the processing.")
    duration_seconds: float | None
    language: str | None = Field(description="The detected language (ISO 639-1, or und); null before transcription.")
    not_understood: tuple[NotUnderstood, ...] = Field(description="Where a person must listen: the words are unknown.")
    tracks: tuple[Track, ...]
    started_by: UUID
    started_at: datetime
    completed_at: datetime | None
    version: int
    created_at: datetime


@dataclass(frozen=True)
class SealedTrack:
    """A track that has been written to encrypted storage, with the fields of its row."""

    object_ref: TrackObjectRef
    participant_id: UUID | None
    media_type: str
    size_bytes: int
    duration_seconds: float
    channels: Channels
    sound: Sound
    key: WrappedKey = field(repr=False)


_SELECT: Final = (
    "select r.id, r.session_id, r.status, r.parked_reason, r.duration_seconds, r.started_by, r.started_at, "
    "r.completed_at, r.version, r.created_at, heard.language, coalesce(heard.not_understood, '[]') as not_understood, "
    "coalesce((select jsonb_agg(jsonb_build_object('id', t.id, "
    "'position', t.position, 'participant_id', t.participant_id, 'user_id', p.user_id, 'media_type', t.media_type, "
    "'size_bytes', t.size_bytes, 'duration_seconds', t.duration_seconds, "
    "'channels', t.channels, 'sound', t.sound) order by t.position) "
    "from recording_tracks t left join session_participants p on p.tenant_id = t.tenant_id and "
    "p.id = t.participant_id where t.tenant_id = r.tenant_id and t.recording_id = r.id), '[]') as tracks "
    "from recordings r left join lateral (select t.language, t.not_understood from transcriptions t "
    "where t.tenant_id = r.tenant_id and t.recording_id = r.id order by t.revision desc limit 1) heard on true "
    "where true "
)


async def load_recording(conn: Connection, recording_id: UUID) -> Recording:
    """Returns the recording with its tracks, in any status; raises `missing`."""
    return await _read(await conn.execute(f"{_SELECT} and r.id = %s", (recording_id,)))


async def lock_recording(conn: Connection, recording_id: UUID) -> Recording:
    """As `load_recording`, and locks its row until the transaction ends."""
    return await _read(await conn.execute(f"{_SELECT} and r.id = %s for no key update of r", (recording_id,)))


async def _read(found: Any) -> Recording:
    row = await found.fetchone()
    if row is None:
        raise missing("recording")
    return Recording.model_validate(row)


async def list_recordings(
    conn: Connection,
    *,
    session_id: UUID | None,
    status: RecordingStatus | None,
    understood: bool | None,
    before: UUID,
    limit: int,
) -> list[Recording]:
    """Lists recordings with an id before `before`, newest first; each named filter applies."""
    narrowed = {
        "session": "r.session_id = %(session)s",
        "status": "r.status = %(status)s",
        "understood": "(heard.not_understood = '[]') = %(understood)s",
    }
    values = {"session": session_id, "status": status, "understood": understood, "before": before, "limit": limit}
    named = "".join(f" and {condition}" for name, condition in narrowed.items() if values[name] is not None)
    found = await conn.execute(
        f"{_SELECT} and r.id < %(before)s{named} order by r.id desc limit %(limit)s".encode(), values
    )
    return [Recording.model_validate(row) for row in await found.fetchall()]


async def running_recording(conn: Connection, session_id: UUID) -> UUID:
    """Returns the running recording of the session and locks its row; raises a conflict (`not-recording`)."""
    found = await conn.execute(
        "select id from recordings where session_id = %s and status = 'recording' for no key update", (session_id,)
    )
    row = await found.fetchone()
    if row is None:
        raise conflict("not-recording", "No recording of this session is running: start one first.")
    return UUID(str(row["id"]))


async def insert_running(conn: Connection, actor: Actor, session_id: UUID) -> Recording:
    """Inserts a running recording of the session and emits `session.recording.started`.

    Raises a conflict (`already-recording`).
    """
    made = await conn.execute(
        "insert into recordings (tenant_id, session_id, status, started_by) values (%s, %s, 'recording', %s) "
        "on conflict (tenant_id, session_id) where status = 'recording' do nothing returning id",
        (actor.tenant_id, session_id, actor.user_id),
    )
    row = await made.fetchone()
    if row is None:
        raise conflict("already-recording", "A recording of this session is already running: stop it first.")
    recording_id: UUID = row["id"]
    await emit(
        conn, actor, "session.recording.started", aggregate=("recording", recording_id), version=1,
        data={"recording_id": str(recording_id), "session_id": str(session_id)},
    )  # fmt: skip
    await record_act(conn, actor, "recording.started", ("recording", recording_id))
    return await load_recording(conn, recording_id)


async def keep(
    conn: Connection,
    actor: Actor,
    recording_id: UUID,
    session_id: UUID,
    tracks: Sequence[SealedTrack],
    *,
    content_digest: bytes,
) -> Recording:
    """Inserts the rows of stored tracks; the recording may be running or new. Its event starts the durable job."""
    kept = await conn.execute(
        "insert into recordings (tenant_id, id, session_id, status, duration_seconds, started_by, completed_at, "
        "content_digest) values (%s, %s, %s, 'processing', %s, %s, now(), %s) on conflict (tenant_id, id) do update "
        "set status = 'processing', duration_seconds = excluded.duration_seconds, completed_at = now(), "
        "content_digest = excluded.content_digest, version = recordings.version + 1 returning version",
        (
            actor.tenant_id, recording_id, session_id, max(track.duration_seconds for track in tracks),
            actor.user_id, content_digest,
        ),
    )  # fmt: skip
    version = int(one(await kept.fetchone())["version"])
    for position, track in enumerate(tracks):
        await conn.execute(
            "insert into recording_tracks (tenant_id, id, recording_id, position, participant_id, object_key, "
            "media_type, size_bytes, duration_seconds, wrapped_key, key_id, channels, sound) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                actor.tenant_id, track.object_ref.track_id, recording_id, position, track.participant_id,
                track.object_ref.object_key(), track.media_type, track.size_bytes, track.duration_seconds,
                track.key.wrapped, track.key.key_id, track.channels, track.sound.model_dump_json(),
            ),
        )  # fmt: skip
    await _emit_stopped(conn, actor, recording_id, session_id, version=version, tracks=len(tracks))
    await record_act(conn, actor, "recording.stored", ("recording", recording_id), {"tracks": len(tracks)})
    return await load_recording(conn, recording_id)


async def requeue(conn: Connection, actor: Actor, recording_id: UUID) -> Recording:
    """Puts a parked recording back to processing; raises a conflict (`recording-not-parked`)."""
    recording = await lock_recording(conn, recording_id)
    if recording.status != "parked":
        raise conflict(
            "recording-not-parked", f"The recording is {recording.status}: only a parked one can be requeued."
        )
    version = await _set_status(conn, recording_id, "processing")
    await _emit_stopped(conn, actor, recording_id, recording.session_id, version=version, tracks=len(recording.tracks))
    await record_act(conn, actor, "recording.requeued", ("recording", recording_id))
    return await load_recording(conn, recording_id)


async def park(conn: Connection, actor: Actor, recording_id: UUID, reason: str) -> None:
    """Stops the processing until a person corrects `reason` (a problem slug) and requests it again.

    A recording that is not in processing (deleted meanwhile, or ready) does not change.
    """
    recording = await lock_recording(conn, recording_id)
    if recording.status == "processing":
        await _set_status(conn, recording_id, "parked", reason)
        await record_act(conn, actor, "recording.parked", ("recording", recording_id), {"reason": reason})


async def mark_ready(conn: Connection, actor: Actor, recording_id: UUID) -> None:
    """Marks the recording ready, when its transcript and analysis are stored, and emits `recording.processed`.

    Raises a conflict if it is not in processing.
    """
    recording = await lock_recording(conn, recording_id)
    if recording.status != "processing":
        raise conflict("recording-not-processing", f"The recording is {recording.status}: its results are not stored.")
    version = await _set_status(conn, recording_id, "ready")
    await emit(
        conn, actor, "recording.processed", aggregate=("recording", recording_id), version=version,
        data={"recording_id": str(recording_id), "session_id": str(recording.session_id)},
    )  # fmt: skip
    await record_act(conn, actor, "recording.processed", ("recording", recording_id))


async def discard_running(conn: Connection, actor: Actor, session_id: UUID) -> Recording:
    """Ends the running recording of the session without tracks; raises a conflict (`not-recording`)."""
    recording_id = await running_recording(conn, session_id)
    version = await _set_status(conn, recording_id, "deleted")
    await _emit_stopped(conn, actor, recording_id, session_id, version=version, tracks=0)
    await record_act(conn, actor, "recording.deleted", ("recording", recording_id), {"tracks": 0})
    return await load_recording(conn, recording_id)


async def shred(conn: Connection, actor: Actor, recording_id: UUID, expected: int | None = None) -> tuple[str, ...]:
    """Marks the recording deleted and deletes the keys of its tracks, so that nobody can decrypt the stored objects.

    Returns the objects to delete after the commit. Raises a conflict (`enquiry-live`) while an alert that is not
    dismissed cites the recording, and if the version is stale. Deleting twice is no error.
    """
    recording = await lock_recording(conn, recording_id)
    if recording.status == "deleted":
        return await _objects_of(conn, recording_id)
    refuse_stale(recording.version, expected)
    alerts = await conn.execute(
        "select 1 from alerts where recording_id = %s and state <> 'dismissed' limit 1", (recording_id,)
    )
    if await alerts.fetchone() is not None:
        raise conflict(
            "enquiry-live",
            "A safeguarding alert cites this recording: it can be deleted only after the alert is dismissed.",
        )
    await _set_status(conn, recording_id, "deleted")
    await conn.execute("update recording_tracks set wrapped_key = null where recording_id = %s", (recording_id,))
    await conn.execute("update recordings set content_digest = null where id = %s", (recording_id,))
    await record_act(conn, actor, "recording.deleted", ("recording", recording_id))
    return await _objects_of(conn, recording_id)


async def kept_objects(conn: Connection, object_keys: Sequence[str]) -> frozenset[str]:
    """Returns those of the objects that a track row refers to."""
    found = await conn.execute(
        "select object_key from recording_tracks where object_key = any(%s)", (list(object_keys),)
    )
    return frozenset(row["object_key"] for row in await found.fetchall())


async def _objects_of(conn: Connection, recording_id: UUID) -> tuple[str, ...]:
    found = await conn.execute("select object_key from recording_tracks where recording_id = %s", (recording_id,))
    return tuple(row["object_key"] for row in await found.fetchall())


async def track_key(
    conn: Connection, actor: Actor, recording: Recording, track: Track
) -> tuple[TrackObjectRef, WrappedKey]:
    """Returns the storage reference and the wrapped key of a track; raises `missing` if the recording was deleted."""
    found = await conn.execute("select wrapped_key, key_id from recording_tracks where id = %s", (track.id,))
    row = one(await found.fetchone())
    if row["wrapped_key"] is None or recording.status == "deleted":
        raise deleted()
    return TrackObjectRef(actor.tenant_id, recording.id, track.id), WrappedKey(row["key_id"], bytes(row["wrapped_key"]))


def deleted() -> WriteCareError:
    """Returns the error for a request that needs a deleted recording."""
    return missing("recording (it has been deleted)")


async def _set_status(conn: Connection, recording_id: UUID, status: RecordingStatus, reason: str | None = None) -> int:
    moved = await conn.execute(
        "update recordings set status = %s, parked_reason = %s, stage = null, stage_since = null, "
        "version = version + 1 where id = %s returning version",
        (status, reason, recording_id),
    )
    return int(one(await moved.fetchone())["version"])


async def _emit_stopped(
    conn: Connection, actor: Actor, recording_id: UUID, session_id: UUID, *, version: int, tracks: int
) -> None:
    await emit(
        conn, actor, "session.recording.stopped", aggregate=("recording", recording_id), version=version,
        data={"recording_id": str(recording_id), "session_id": str(session_id), "tracks": tracks},
    )  # fmt: skip
