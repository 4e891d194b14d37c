"""The walk of one recording, as the worker calls it: transcribed, read, decided. Idempotent at every step.

Two transactions leave something behind (docs/decisions/0007): the transcript, then everything that was read from it
with the recording's state. Consent is asked before each stage's work and again, locked, in the transaction that
stores. A worker killed anywhere leaves a state from which the next one goes on; one that finds the work done, or
the recording deleted meanwhile, changes nothing.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from comms.calls.recordings.playback import open_track
from comms.calls.recordings.progress import note_stage
from comms.calls.recordings.queries import Recording, load_recording, lock_recording, mark_ready, park
from comms.calls.sessions.attendance import Attendee, list_attendees
from comms.calls.stage_timings.queries import save_timings
from comms.calls.transcripts.queries import (
    SpeakerProposal,
    StoredTranscript,
    find_analysis,
    find_transcript,
    load_transcript,
    save_analysis,
    save_embeddings,
    save_transcript,
)
from comms.governance.consent.lawful_grounds import Purpose
from comms.governance.consent.permissions import Permission, lock_permissions, permits
from comms.kernel.database import Actor, Connection
from comms.safeguarding.alerts.recording_alerts import raise_alert
from comms.web.context import House
from models.audio.decoder import DecodedAudio, decode
from models.contract.audio_tracks import Channels
from models.contract.errors import Kind, WriteCareError, refused, unavailable
from models.contract.records import Analysis, Conversation, Participant, StageTiming, Transcript, Turn
from models.speech.speaker_names import METHOD, propose_names
from pipelines.alerting import alert_for
from pipelines.analysis import analyse
from pipelines.model_protocols import Models
from pipelines.track_transcription import Transcribed, transcribe_call, transcribe_tracks

WORKER = UUID(int=0)  # the worker is nobody: it acts as the tenant's own service

_ROLE_IN_TALK = {
    "care_manager": "manager", "care_worker": "care_worker", "resident": "resident",
    "family": "family", "professional": "other", "guest": "visitor",
}  # fmt: skip


@dataclass(frozen=True)
class _Heard:
    """A recording with who can be heard on it: per track where each has one, else everybody."""

    recording: Recording
    attendees: tuple[Attendee, ...]

    @property
    def mixed(self) -> bool:
        return any(track.participant_id is None for track in self.recording.tracks)

    def attendee(self, participant_id: UUID | None) -> Attendee:
        return next(one for one in self.attendees if one.participant_id == participant_id)

    def people(self) -> tuple[UUID, ...]:
        """Whose words are on it."""
        if self.mixed:
            return tuple(one.user_id for one in self.attendees)
        return tuple(self.attendee(track.participant_id).user_id for track in self.recording.tracks)

    def labels(self) -> dict[str, UUID]:
        """What each participant is called in the transcript; people of the same name are numbered."""
        labels: dict[str, UUID] = {}
        for one in self.attendees:
            label, count = one.display_name, 2
            while label in labels:
                label, count = f"{one.display_name} ({count})", count + 1
            labels[label] = one.participant_id
        return labels


async def process_recording(house: House, models: Models, tenant_id: UUID, recording_id: UUID) -> None:
    """Walks the recording from sound to alert; does nothing where that has been done.

    What cannot be mended by trying again parks the recording with the reason, for a person; `unavailable` is
    raised, for the job queue to try again.
    """
    actor = Actor(tenant_id, WORKER, "service")
    try:
        heard = await _load(house, actor, recording_id)
        if heard.recording.status != "processing":
            return
        transcript = await _transcribed(house, models, actor, heard)
        await _read(house, models, actor, heard, transcript)
    except WriteCareError as error:
        if error.kind is Kind.UNAVAILABLE:
            raise
        await park_recording(house, tenant_id, recording_id, error.slug)


async def park_recording(house: House, tenant_id: UUID, recording_id: UUID, reason: str) -> None:
    """Leaves the recording for a person, who sees `reason` (a problem's slug); a deleted one stays deleted."""
    actor = Actor(tenant_id, WORKER, "service")
    async with house.database.acting_as(actor) as conn:
        await park(conn, actor, recording_id, reason)


async def _load(house: House, actor: Actor, recording_id: UUID) -> _Heard:
    async with house.database.acting_as(actor) as conn:
        recording = await load_recording(conn, recording_id)
        return _Heard(recording, await list_attendees(conn, recording.session_id))


# --- transcribed ---------------------------------------------------------------------------------------------------


async def _transcribed(house: House, models: Models, actor: Actor, heard: _Heard) -> StoredTranscript:
    """The recording's transcript: the one that is there, else a new one."""
    recording_id = heard.recording.id
    async with house.database.acting_as(actor) as conn:
        if (stored := await find_transcript(conn, recording_id)) is not None:
            return stored
        allowed = await _allowed(conn, heard, "transcribe")
    await note_stage(house.database, actor, recording_id, "decoding")
    started = time.perf_counter()
    positions = [track.position for track in heard.recording.tracks if _may_use(heard, track.participant_id, allowed)]
    tracks = [await _decoded(house, actor, heard.recording, position) for position in positions]
    seconds = sum(track.duration_seconds for track in tracks)
    decoding = StageTiming(stage="decoding", audio_seconds=seconds, wall_seconds=time.perf_counter() - started)
    await note_stage(house.database, actor, recording_id, "transcribing")
    done = await _hear(models, heard, positions, tracks)
    async with house.database.acting_as(actor) as conn:
        await _refuse_changed(await _allowed(conn, heard, "transcribe", locked=True), allowed)
        await _refuse_gone(conn, recording_id)
        await save_transcript(
            conn, actor, recording_id, done.transcript,
            participants={} if heard.mixed else heard.labels(), provider="local",
            proposals=_proposals(heard, done.transcript),
        )  # fmt: skip
        await save_timings(conn, actor, recording_id, (decoding, *done.timings))
        return await load_transcript(conn, recording_id)


async def _decoded(house: House, actor: Actor, recording: Recording, position: int) -> DecodedAudio:
    """A file's tracks: one where it is a person's own, else as whoever sent it said, or as its channels show."""
    [track] = [one for one in recording.tracks if one.position == position]
    channels: Channels = track.channels if track.participant_id is None else "mix"
    settings = house.settings
    with await open_track(house, actor, recording.id, position) as file:
        return await asyncio.to_thread(
            decode, file, max_seconds=settings.max_recording_seconds, channels=channels,
            allow_unconfined=settings.allow_unconfined_decoding,
        )  # fmt: skip


async def _hear(models: Models, heard: _Heard, positions: Sequence[int], tracks: Sequence[DecodedAudio]) -> Transcribed:
    names = tuple(one.display_name for one in heard.attendees)
    if heard.mixed:
        # One person alone in the list of a mixed recording is whoever brought it, not a count of voices.
        most = len(heard.attendees) if len(heard.attendees) > 1 else None
        return await transcribe_call(tracks[0].tracks, models, most_speakers=most, names=names)
    owner = {participant: label for label, participant in heard.labels().items()}
    by_position = {track.position: track for track in heard.recording.tracks}
    labels = [owner[by_position[position].participant_id or WORKER] for position in positions]
    return await transcribe_tracks([track.samples for track in tracks], labels, models, names=names)


def _proposals(heard: _Heard, transcript: Transcript) -> list[SpeakerProposal]:
    """Who the voices of a mixed recording may be; on tracks it is certain."""
    if not heard.mixed:
        return []
    turns = [Turn(speaker=said.speaker, text=said.text) for said in transcript.utterances]
    return [
        SpeakerProposal(
            speaker=found.speaker,
            participant_id=heard.attendees[found.participant].participant_id,
            probability=found.probability,
            utterances=found.utterances,
            model=METHOD,
        )
        for found in propose_names(turns, [one.display_name for one in heard.attendees])
    ]


# --- read and decided ------------------------------------------------------------------------------------------------


async def _read(house: House, models: Models, actor: Actor, heard: _Heard, stored: StoredTranscript) -> None:
    """Reads the transcript and keeps what was found, with the alert it calls for, in one transaction."""
    recording_id = heard.recording.id
    async with house.database.acting_as(actor) as conn:
        if await find_analysis(conn, recording_id) is not None:
            return await _finish(conn, actor, recording_id)
        allowed = await _allowed(conn, heard, "analyse")
    await note_stage(house.database, actor, recording_id, "reading")
    conversation = _conversation(heard, stored, allowed)
    seconds = stored.transcript.duration_seconds
    started = time.perf_counter()
    texts = [turn.text for turn in conversation.turns]
    heard_as = stored.transcript.language
    whole = bool(stored.transcript.words) or not stored.transcript.not_understood
    analysis, vectors = await asyncio.gather(
        analyse(conversation, models, heard=heard_as, whole=whole and not _foreign(stored)), models.embed(texts)
    )
    analysis = analysis.model_copy(update={"models": dict(models.versions) | stored.transcript.models})
    timing = StageTiming(stage="reading", audio_seconds=seconds, wall_seconds=time.perf_counter() - started)
    async with house.database.acting_as(actor) as conn:
        await _refuse_changed(await _allowed(conn, heard, "analyse", locked=True), allowed)
        await _refuse_gone(conn, recording_id)
        await _keep(conn, actor, recording_id, stored, analysis)
        await save_embeddings(conn, stored.id, vectors.tolist(), analysis.models["embedding"])
        await save_timings(conn, actor, recording_id, (timing,))
        await _finish(conn, actor, recording_id)


async def _keep(
    conn: Connection, actor: Actor, recording_id: UUID, stored: StoredTranscript, analysis: Analysis
) -> None:
    analysis_id = await save_analysis(
        conn, actor, recording_id, transcription_id=stored.id, analysis=analysis,
        # The seed's `confidence_level`: how well the words were heard that everything else rests on.
        confidence_level=stored.confidence_score if stored.confidence_score is not None else 1.0,
    )  # fmt: skip
    alert = alert_for(analysis, recording_id=recording_id, transcription_id=stored.id, analysis_id=analysis_id)
    if alert is not None:
        await raise_alert(conn, actor, alert)


async def _finish(conn: Connection, actor: Actor, recording_id: UUID) -> None:
    if (await lock_recording(conn, recording_id)).status == "processing":
        await mark_ready(conn, actor, recording_id)


def _foreign(stored: StoredTranscript) -> bool:
    """Whether some of the call was in a language that could not be written down."""
    return any(stretch.reason.startswith("language_") for stretch in stored.transcript.not_understood)


def _conversation(heard: _Heard, stored: StoredTranscript, allowed: frozenset[UUID]) -> Conversation:
    """What the models may read: words of people who do not permit it stand empty in their place."""
    user_of = {one.participant_id: one.user_id for one in heard.attendees}
    turns = [
        Turn(speaker=said.speaker, text=said.text if owner is None or user_of.get(owner) in allowed else "")
        for said, owner in zip(stored.transcript.utterances, stored.participant_ids, strict=True)
    ]
    known = [] if heard.mixed else [
        Participant(speaker=label, role=_role_in_talk(heard.attendee(participant)), name=label)
        for label, participant in heard.labels().items()
    ]  # fmt: skip
    return Conversation(id=str(heard.recording.id), participants=tuple(known), turns=tuple(turns))


def _role_in_talk(one: Attendee) -> str:
    return _ROLE_IN_TALK.get(one.role) or _ROLE_IN_TALK.get(one.participant_type, "other")


# --- what may be done ------------------------------------------------------------------------------------------------


async def _allowed(conn: Connection, heard: _Heard, purpose: Purpose, *, locked: bool = False) -> frozenset[UUID]:
    """Who permits the purpose now; raises `refused` where that leaves nothing to work on.

    On a mixed track nobody's words can be told apart beforehand, so that one person's no stops it for all.
    """
    people = heard.people()
    answers: Sequence[Permission] = (
        await lock_permissions(conn, people, purpose)
        if locked
        else [await permits(conn, user_id, purpose) for user_id in people]
    )
    allowed = frozenset(answer.user_id for answer in answers if answer.permitted)
    if not allowed or (heard.mixed and len(allowed) < len(set(people))):
        slug = "no-lawful-basis" if any(one.reason == "no-lawful-basis" for one in answers) else "consent-missing"
        raise refused(slug, f"Not everybody who is heard permits to {purpose}: GET the recording's consent-status.")
    return allowed


def _may_use(heard: _Heard, participant_id: UUID | None, allowed: frozenset[UUID]) -> bool:
    return participant_id is None or heard.attendee(participant_id).user_id in allowed


async def _refuse_changed(now: frozenset[UUID], before: frozenset[UUID]) -> None:
    """Somebody took their word back while the models worked: what was made of it is dropped, the rest done again."""
    if not before <= now:
        raise unavailable("consent-changed", "Somebody withdrew while the recording was processed: it starts again.")


async def _refuse_gone(conn: Connection, recording_id: UUID) -> None:
    """The recording was deleted (or parked) while the models worked: nothing of it may appear any more."""
    status = (await lock_recording(conn, recording_id)).status
    if status != "processing":
        raise refused("recording-not-processing", f"The recording is {status} by now: nothing was kept.")
