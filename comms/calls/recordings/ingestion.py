"""A recording is taken in: may it be, is it sound, sealed into storage, and then all its rows at once.

Order matters. Consent is asked before anything is stored and again, locked, in the transaction that stores. Objects
are written before that transaction, so a row never points at nothing; whatever fails deletes them again, and a
process that dies in between leaves ciphertext whose key was never kept, which `comms/calls/recordings/sweep.py`
removes.
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
from comms.calls.recordings.duplicates import content_digest_of, refuse_same
from comms.calls.recordings.queries import Recording, SealedTrack
from comms.calls.recordings.upload_form import Upload
from comms.calls.sessions.queries import Session, SessionParticipant, read_session
from comms.governance.consent.permissions import refuse_unless_permitted
from comms.kernel.database import Actor, Connection
from comms.kernel.storage.key_service import KEY_BYTES
from comms.kernel.storage.segment_encryption import SEGMENT_BYTES, Belonging, seal
from comms.web.context import House
from comms.web.idempotency.uploads import UNKEYED, Once
from models.audio import decoder
from models.audio.decoder import AudioInfo
from models.contract.audio_tracks import Channels
from models.contract.errors import WriteCareError, conflict, invalid

_log = structlog.get_logger(__name__)
_MEDIA_TYPES: Final = {
    "wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg", "ogg": "audio/ogg", "aac": "audio/aac",
    "mov": "audio/mp4", "matroska": "audio/webm",
    "aiff": "audio/aiff", "caf": "audio/x-caf", "amr": "audio/amr",  # each the first name of its family
}  # fmt: skip


@dataclass(frozen=True)
class _Sound:
    """A file that has been found to hold sound, whom of (None where it is of everybody), and how it is to be read."""

    file: BinaryIO = field(repr=False)
    info: AudioInfo
    channels: Channels
    participant: SessionParticipant | None


async def start(conn: Connection, actor: Actor, session_id: UUID) -> Recording:
    """The session is being recorded from now on; everyone who is in it must permit that.

    Raises `missing`, `refused` (`consent-missing`), a conflict (`session-status`, `already-recording`).
    """
    session = await _session(conn, actor, session_id)
    if session.status not in ("scheduled", "active"):
        raise conflict("session-status", f"The session is {session.status}: upload its recording instead.")
    present = [participant for participant in session.participants if participant.left_at is None]
    if not present:
        raise _nobody(session_id)
    await refuse_unless_permitted(conn, _people(present), "record")
    return await queries.begin(conn, actor, session_id)


async def stop(
    house: House, actor: Actor, session_id: UUID, upload: Upload, once: Once[Recording] = UNKEYED
) -> Recording:
    """The running recording ends with these tracks; as `take_in`, and a conflict (`not-recording`)."""
    async with house.database.acting_as(actor) as conn:
        await once.claim(conn, actor)
        await _session(conn, actor, session_id)
        recording_id = await queries.running_recording(conn, session_id)
    return await _take_in(house, actor, session_id, upload, recording_id=recording_id, begun=True, once=once)


async def discard(house: House, actor: Actor, session_id: UUID, once: Once[Recording] = UNKEYED) -> Recording:
    """The running recording ends without tracks; raises `missing`, a conflict (`not-recording`)."""
    async with house.database.acting_as(actor) as conn:
        await once.claim(conn, actor)
        await read_session(conn, actor, session_id)
        recording = await queries.discard_running(conn, actor, session_id)
        await once.keep(recording)
        return recording


async def take_in(
    house: House, actor: Actor, session_id: UUID, upload: Upload, once: Once[Recording] = UNKEYED
) -> Recording:
    """Stores an uploaded recording of the session; it is read soon after.

    Raises `missing`, `invalid` and `too_large` (the form, the audio), `refused` (`consent-missing`,
    `no-lawful-basis`), `AlreadyThere` and other conflicts, `unavailable` (storage); then database and storage are as
    they were.
    """
    return await _take_in(house, actor, session_id, upload, recording_id=uuid_utils.uuid7(), begun=False, once=once)


async def _take_in(
    house: House,
    actor: Actor,
    session_id: UUID,
    upload: Upload,
    *,
    recording_id: UUID,
    begun: bool,
    once: Once[Recording],
) -> Recording:
    async with house.database.acting_as(actor) as conn:
        await once.claim(conn, actor)
        session = await _session(conn, actor, session_id)
        owners = owners_of(upload, session)
        await refuse_unless_permitted(conn, _heard(owners, session), "record")
        content_digest = content_digest_of(session_id, upload, owners)
        if not (begun or upload.keep_duplicate):  # before anything is decoded and stored, and again below
            await refuse_same(conn, actor, session_id, content_digest)
    sounds = await _inspected(house, actor, upload, owners)
    belongings = [Belonging(actor.tenant_id, recording_id, uuid_utils.uuid7()) for _ in sounds]
    try:
        tracks = [await _store(house, belonging, sound) for belonging, sound in zip(belongings, sounds, strict=True)]
        async with house.database.acting_as(actor) as conn:
            await once.claim(conn, actor)
            session = await _session(conn, actor, session_id)
            await refuse_unless_permitted(conn, _heard(owners, session), "record")
            if not (begun or upload.keep_duplicate):
                await refuse_same(conn, actor, session_id, content_digest)
            if begun and await queries.running_recording(conn, session_id) != recording_id:
                raise conflict("not-recording", "Another recording of this session runs by now: upload this one.")
            recording = await queries.keep(conn, actor, recording_id, session_id, tracks, content_digest=content_digest)
            await once.keep(recording)
    except BaseException:
        # even where the request was cancelled: ciphertext without a row is of no use to anybody
        await asyncio.shield(_remove_unless_kept(house, actor, belongings))
        raise
    house.metrics.recordings_taken.inc()
    house.metrics.audio_seconds.inc(sum(sound.info.duration_seconds for sound in sounds))
    return recording


async def _session(conn: Connection, actor: Actor, session_id: UUID) -> Session:
    session = await read_session(conn, actor, session_id)
    if session.status == "cancelled":
        raise conflict("session-status", "The session was cancelled: there is nothing to record.")
    if not session.participants:
        raise _nobody(session_id)
    return session


def _nobody(session_id: UUID) -> WriteCareError:
    return conflict(
        "session-without-participants", f"Say who takes part first: POST /api/sessions/{session_id}/participants."
    )


def owners_of(upload: Upload, session: Session) -> tuple[SessionParticipant | None, ...]:
    """Whose each file is: None for a single one that nobody was named for. Raises `invalid`."""
    if not upload.files:
        raise invalid("upload-empty", "The form has no `file`: send each track as one.")
    if not upload.participants and len(upload.files) == 1:
        return (None,)
    if upload.channels == "separate" and upload.participants:
        raise invalid(
            "channels-with-participants",
            "A named participant's file is one track: name nobody where each channel of a file is a track.",
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
        raise invalid("participant-unknown", "A named participant does not take part in this session: add them first.")
    if len({owner.id for owner in owners if owner is not None}) != len(owners):
        raise invalid("participant-twice", "Each participant has one track: join the files of one person.")
    return tuple(owners)


def _people(participants: Sequence[SessionParticipant]) -> tuple[UUID, ...]:
    return tuple(participant.user_id for participant in participants)


def _heard(owners: Sequence[SessionParticipant | None], session: Session) -> tuple[UUID, ...]:
    """Who can be heard: the tracks' owners, everybody who ever took part where a track is mixed."""
    named = [owner for owner in owners if owner is not None]
    return _people(named if len(named) == len(owners) else session.participants)


async def _inspected(
    house: House, actor: Actor, upload: Upload, owners: Sequence[SessionParticipant | None]
) -> Sequence[_Sound]:
    """Each file decoded once, in a confined child process, and nothing kept; a person's own file is one track."""
    settings = house.settings
    sounds: list[_Sound] = []
    for file, owner in zip(upload.files, owners, strict=True):
        channels: Channels = upload.channels if owner is None else "mix"
        inspect = partial(
            decoder.inspect, file, max_seconds=settings.max_recording_seconds, channels=channels,
            allow_unconfined=settings.allow_unconfined_decoding,
        )  # fmt: skip
        info = await house.recording_decoders.run(actor.tenant_id, inspect)
        sounds.append(_Sound(file, info, channels, owner))
        decoder.refuse_too_much([sound.info for sound in sounds], settings.max_recording_seconds)
    return sounds


async def _store(house: House, belonging: Belonging, sound: _Sound) -> SealedTrack:
    key = secrets.token_bytes(KEY_BYTES)
    wrapped = await house.keys.wrap(key, belonging.context())
    size = sound.file.seek(0, 2)
    sound.file.seek(0)
    await house.objects.put(belonging.object_key(), seal(_pieces(sound.file), key, belonging))
    return SealedTrack(
        belonging=belonging, participant_id=sound.participant.id if sound.participant is not None else None,
        media_type=_MEDIA_TYPES.get(sound.info.container, "application/octet-stream"), size_bytes=size,
        duration_seconds=sound.info.duration_seconds, channels=sound.channels, sound=sound.info.sound, key=wrapped,
    )  # fmt: skip


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, SEGMENT_BYTES):
        yield piece


async def _remove_unless_kept(house: House, actor: Actor, belongings: Sequence[Belonging]) -> None:
    """A commit whose answer was lost may have kept the rows: they are asked. What fails here, the sweep does later."""
    written = [belonging.object_key() for belonging in belongings]
    try:
        async with house.database.acting_as(actor) as conn:
            kept = await queries.kept_objects(conn, written)
        for object_key in written:
            if object_key not in kept:
                await house.objects.delete(object_key)
    except WriteCareError as error:
        _log.warning("objects without a row are left to the sweep", problem=error.slug)
