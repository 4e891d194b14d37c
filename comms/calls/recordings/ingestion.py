"""Ingests a recording: checks consent and audio, stores encrypted objects, then inserts all rows at once.

The order matters. Consent is checked before anything is stored, and again under lock in the transaction that inserts
the rows. Objects are written before that transaction, so that a row never refers to a missing object. A failure deletes
them again. If the process dies in between, ciphertext remains whose key was never stored;
`comms/calls/recordings/sweep.py` deletes it.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO, Final
from uuid import UUID

import structlog
import uuid_utils.compat as uuid_utils

from comms.calls.recordings import queries
from comms.calls.recordings.duplicates import content_digest_of, refuse_duplicate
from comms.calls.recordings.queries import Recording, SealedTrack
from comms.calls.recordings.upload_form import Upload
from comms.calls.sessions.queries import Session, SessionParticipant, read_session
from comms.governance.consent.permissions import refuse_unless_permitted
from comms.kernel.database import Actor, Connection
from comms.kernel.storage.key_service import KEY_BYTES
from comms.kernel.storage.segment_encryption import SEGMENT_BYTES, TrackObjectRef, seal
from comms.web.context import AppContext
from comms.web.idempotency.uploads import UNKEYED_UPLOAD, KeyedUpload
from models.audio import decoder
from models.audio.decoder import AudioInfo
from models.contract.audio_tracks import Channels
from models.contract.errors import WriteCareError, conflict, invalid

_log = structlog.get_logger(__name__)
_MEDIA_TYPES: Final = {
    "wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg", "ogg": "audio/ogg", "aac": "audio/aac",
    "mov": "audio/mp4", "matroska": "audio/webm",
    "aiff": "audio/aiff", "caf": "audio/x-caf", "amr": "audio/amr",  # the first name of each container family
}  # fmt: skip


@dataclass(frozen=True)
class _InspectedFile:
    """A file that contains audio, its participant (None if it has all voices), and how to read its channels."""

    file: BinaryIO = field(repr=False)
    info: AudioInfo
    channels: Channels
    participant: SessionParticipant | None


async def start(conn: Connection, actor: Actor, session_id: UUID) -> Recording:
    """Starts a recording of the session; everyone who is in it must permit that.

    Raises `missing`, `refused` (`consent-missing`), a conflict (`session-status`, `already-recording`).
    """
    session = await _session(conn, actor, session_id)
    if session.status not in ("scheduled", "active"):
        raise conflict("session-status", f"The session is {session.status}: upload its recording instead.")
    current_participants = [participant for participant in session.participants if participant.left_at is None]
    if not current_participants:
        raise _no_participants(session_id)
    await refuse_unless_permitted(conn, _user_ids(current_participants), "record")
    return await queries.insert_running(conn, actor, session_id)


async def stop(
    ctx: AppContext,
    actor: Actor,
    session_id: UUID,
    upload: Upload,
    keyed_upload: KeyedUpload[Recording] = UNKEYED_UPLOAD,
) -> Recording:
    """Ends the running recording with these tracks. Raises as `store_upload`, and a conflict (`not-recording`)."""
    async with ctx.database.acting_as(actor) as conn:
        await keyed_upload.claim(conn, actor)
        await _session(conn, actor, session_id)
        recording_id = await queries.running_recording(conn, session_id)
    return await _store_upload(
        ctx, actor, session_id, upload, recording_id=recording_id, already_started=True, keyed_upload=keyed_upload
    )


async def discard(
    ctx: AppContext, actor: Actor, session_id: UUID, keyed_upload: KeyedUpload[Recording] = UNKEYED_UPLOAD
) -> Recording:
    """Ends the running recording without tracks; raises `missing`, a conflict (`not-recording`)."""
    async with ctx.database.acting_as(actor) as conn:
        await keyed_upload.claim(conn, actor)
        await read_session(conn, actor, session_id)
        recording = await queries.discard_running(conn, actor, session_id)
        await keyed_upload.keep(recording)
        return recording


async def store_upload(
    ctx: AppContext,
    actor: Actor,
    session_id: UUID,
    upload: Upload,
    keyed_upload: KeyedUpload[Recording] = UNKEYED_UPLOAD,
) -> Recording:
    """Stores an uploaded recording of the session; the worker processes it soon after.

    Raises `missing`, `invalid` and `too_large` (the form, the audio), `refused` (`consent-missing`, `no-lawful-basis`),
    `DuplicateRecording` and other conflicts, `unavailable` (storage). After an error, database and storage are
    unchanged.
    """
    return await _store_upload(
        ctx,
        actor,
        session_id,
        upload,
        recording_id=uuid_utils.uuid7(),
        already_started=False,
        keyed_upload=keyed_upload,
    )


async def _store_upload(
    ctx: AppContext,
    actor: Actor,
    session_id: UUID,
    upload: Upload,
    *,
    recording_id: UUID,
    already_started: bool,
    keyed_upload: KeyedUpload[Recording],
) -> Recording:
    async with ctx.database.acting_as(actor) as conn:
        await keyed_upload.claim(conn, actor)
        session = await _session(conn, actor, session_id)
        owners = owners_of(upload, session)
        await refuse_unless_permitted(conn, _audible_people(owners, session), "record")
        content_digest = content_digest_of(session_id, upload, owners)
        if not (already_started or upload.keep_duplicate):  # before decoding, and again below
            await refuse_duplicate(conn, actor, session_id, content_digest)
    sounds = await _inspected(ctx, actor, upload, owners)
    object_refs = [TrackObjectRef(actor.tenant_id, recording_id, uuid_utils.uuid7()) for _ in sounds]
    try:
        tracks = [await _store(ctx, object_ref, sound) for object_ref, sound in zip(object_refs, sounds, strict=True)]
        async with ctx.database.acting_as(actor) as conn:
            await keyed_upload.claim(conn, actor)
            session = await _session(conn, actor, session_id)
            await refuse_unless_permitted(conn, _audible_people(owners, session), "record")
            if not (already_started or upload.keep_duplicate):
                await refuse_duplicate(conn, actor, session_id, content_digest)
            if already_started and await queries.running_recording(conn, session_id) != recording_id:
                raise conflict(
                    "not-recording",
                    "Another recording has started: send this one with POST /api/recordings.",
                )
            recording = await queries.keep(conn, actor, recording_id, session_id, tracks, content_digest=content_digest)
            await keyed_upload.keep(recording)
    except BaseException:
        # shielded: also a cancelled request must delete ciphertext that has no row
        await asyncio.shield(_remove_unless_kept(ctx, actor, object_refs))
        raise
    ctx.metrics.recordings_taken.inc()
    ctx.metrics.audio_seconds.inc(sum(sound.info.duration_seconds for sound in sounds))
    return recording


async def _session(conn: Connection, actor: Actor, session_id: UUID) -> Session:
    session = await read_session(conn, actor, session_id)
    if session.status == "cancelled":
        raise conflict("session-status", "The session was cancelled and takes no recording: name another session.")
    if not session.participants:
        raise _no_participants(session_id)
    return session


def _no_participants(session_id: UUID) -> WriteCareError:
    return conflict(
        "session-without-participants",
        f"Add the participants of the session first: POST /api/sessions/{session_id}/participants.",
    )


def owners_of(upload: Upload, session: Session) -> tuple[SessionParticipant | None, ...]:
    """Returns the participant of each file; None for a single file without a named participant. Raises `invalid`."""
    if not upload.files:
        raise invalid("upload-empty", "The form has no `file`: send each track as a `file` field.")
    if not upload.participants and len(upload.files) == 1:
        return (None,)
    if upload.channels == "separate" and upload.participants:
        raise invalid(
            "channels-with-participants",
            "The file of a named participant is one track: name no participant if each channel of a file is a track.",
        )
    if len(upload.participants) != len(upload.files):
        raise invalid(
            "tracks-without-participants",
            f"There are {len(upload.files)} files and {len(upload.participants)} participants: name one for each "
            "file, in the same order, or send one mixed file and name none.",
        )
    known = {key: participant for participant in session.participants for key in (participant.id, participant.user_id)}
    owners = [known.get(named) for named in upload.participants]
    if any(owner is None for owner in owners):
        raise invalid("participant-unknown", "A named participant is not in this session: add them first.")
    if len({owner.id for owner in owners if owner is not None}) != len(owners):
        raise invalid(
            "participant-twice", "Each participant can have only one track: merge the files of one person into one."
        )
    return tuple(owners)


def _user_ids(participants: Sequence[SessionParticipant]) -> tuple[UUID, ...]:
    return tuple(participant.user_id for participant in participants)


def _audible_people(owners: Sequence[SessionParticipant | None], session: Session) -> tuple[UUID, ...]:
    """Returns who can be heard: the owners of the tracks, or all who ever took part if a track is mixed."""
    named = [owner for owner in owners if owner is not None]
    return _user_ids(named if len(named) == len(owners) else session.participants)


async def _inspected(
    ctx: AppContext, actor: Actor, upload: Upload, owners: Sequence[SessionParticipant | None]
) -> Sequence[_InspectedFile]:
    """Decodes each file once, in a confined child process, and stores nothing. The file of a named participant is one
    track.
    """
    settings = ctx.settings
    sounds: list[_InspectedFile] = []
    for file, owner in zip(upload.files, owners, strict=True):
        channels: Channels = upload.channels if owner is None else "mix"
        inspect = partial(
            decoder.inspect, file, max_seconds=settings.max_recording_seconds, channels=channels,
            allow_unconfined=settings.allow_unconfined_decoding,
        )  # fmt: skip
        info = await ctx.recording_decoders.run(actor.tenant_id, inspect)
        sounds.append(_InspectedFile(file, info, channels, owner))
        decoder.refuse_too_long([sound.info for sound in sounds], settings.max_recording_seconds)
    return sounds


async def _store(ctx: AppContext, object_ref: TrackObjectRef, sound: _InspectedFile) -> SealedTrack:
    key = secrets.token_bytes(KEY_BYTES)
    wrapped = await ctx.keys.wrap(key, object_ref.context())
    size = sound.file.seek(0, 2)
    sound.file.seek(0)
    await ctx.objects.put(object_ref.object_key(), seal(_pieces(sound.file), key, object_ref))
    return SealedTrack(
        object_ref=object_ref, participant_id=sound.participant.id if sound.participant is not None else None,
        media_type=_MEDIA_TYPES.get(sound.info.container, "application/octet-stream"), size_bytes=size,
        duration_seconds=sound.info.duration_seconds, channels=sound.channels, sound=sound.info.sound, key=wrapped,
    )  # fmt: skip


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, SEGMENT_BYTES):
        yield piece


async def _remove_unless_kept(ctx: AppContext, actor: Actor, object_refs: Sequence[TrackObjectRef]) -> None:
    """Deletes the objects that have no row: a commit may have succeeded although its result was lost.

    If this fails, the sweep deletes them later.
    """
    written = [object_ref.object_key() for object_ref in object_refs]
    try:
        async with ctx.database.acting_as(actor) as conn:
            kept = await queries.kept_objects(conn, written)
        for object_key in written:
            if object_key not in kept:
                await ctx.objects.delete(object_key)
    except WriteCareError as error:
        _log.warning("objects without a row remain until the next sweep", problem=error.slug)
