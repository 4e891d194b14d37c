"""Processes one recording for the worker: transcribe, analyse, raise an alert if needed. Every step is idempotent.

Two transactions write results (docs/decisions/0007): the first stores the transcript; the second stores the analysis,
the alert and the recording's state. Consent is checked before each stage, and again, with a lock, in the transaction
that stores. If a worker is killed, the next one continues from the stored state. If the work is already done, or the
recording was deleted meanwhile, nothing changes.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from comms.calls.recordings.playback import open_track
from comms.calls.recordings.progress import set_stage
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
from comms.web.context import AppContext
from models.audio.decoder import DecodedAudio, decode
from models.contract.audio_tracks import Channels
from models.contract.errors import Kind, WriteCareError, refused, unavailable
from models.contract.records import Analysis, Conversation, Participant, StageTiming, Transcript, Turn
from models.speech.speaker_names import NAMING_VERSION, propose_names
from pipelines.alerting import alert_for
from pipelines.analysis import analyse
from pipelines.model_protocols import Models
from pipelines.track_transcription import TranscribedCall, transcribe_call, transcribe_tracks

WORKER = UUID(int=0)  # the worker has no user account: it acts as a service of the tenant

_CONVERSATION_ROLES = {
    "care_manager": "manager", "care_worker": "care_worker", "resident": "resident",
    "family": "family", "professional": "other", "guest": "visitor",
}  # fmt: skip


@dataclass(frozen=True)
class _RecordedCall:
    """A recording and who can be heard on it: one user per track if each has a track, else all participants."""

    recording: Recording
    attendees: tuple[Attendee, ...]

    @property
    def is_mixed(self) -> bool:
        return any(track.participant_id is None for track in self.recording.tracks)

    def attendee(self, participant_id: UUID | None) -> Attendee:
        return next(one for one in self.attendees if one.participant_id == participant_id)

    def recorded_users(self) -> tuple[UUID, ...]:
        """The users whose speech is on the recording."""
        if self.is_mixed:
            return tuple(one.user_id for one in self.attendees)
        return tuple(self.attendee(track.participant_id).user_id for track in self.recording.tracks)

    def labels(self) -> dict[str, UUID]:
        """The name of each participant in the transcript. People with the same name are numbered."""
        labels: dict[str, UUID] = {}
        for one in self.attendees:
            label, count = one.display_name, 2
            while label in labels:
                label, count = f"{one.display_name} ({count})", count + 1
            labels[label] = one.participant_id
        return labels


async def process_recording(ctx: AppContext, models: Models, tenant_id: UUID, recording_id: UUID) -> None:
    """Processes the recording from audio to alert. Does nothing if that is already done.

    An error that a retry cannot fix parks the recording with the reason, for a person to decide. `unavailable` is
    raised, and the job queue retries.
    """
    actor = Actor(tenant_id, WORKER, "service")
    try:
        call = await _load(ctx, actor, recording_id)
        if call.recording.status != "processing":
            return
        transcript = await _load_or_transcribe(ctx, models, actor, call)
        await _analyse_and_store(ctx, models, actor, call, transcript)
    except WriteCareError as error:
        if error.kind is Kind.UNAVAILABLE:
            raise
        await park_recording(ctx, tenant_id, recording_id, error.slug)


async def park_recording(ctx: AppContext, tenant_id: UUID, recording_id: UUID, reason: str) -> None:
    """Parks the recording for a person, who sees `reason` (the slug of a problem). A deleted one stays deleted."""
    actor = Actor(tenant_id, WORKER, "service")
    async with ctx.database.acting_as(actor) as conn:
        await park(conn, actor, recording_id, reason)


async def _load(ctx: AppContext, actor: Actor, recording_id: UUID) -> _RecordedCall:
    async with ctx.database.acting_as(actor) as conn:
        recording = await load_recording(conn, recording_id)
        return _RecordedCall(recording, await list_attendees(conn, recording.session_id))


# --- transcription -------------------------------------------------------------------------------------------------


async def _load_or_transcribe(ctx: AppContext, models: Models, actor: Actor, call: _RecordedCall) -> StoredTranscript:
    """The recording's stored transcript; if there is none, transcribes and stores a new one."""
    recording_id = call.recording.id
    async with ctx.database.acting_as(actor) as conn:
        if (stored := await find_transcript(conn, recording_id)) is not None:
            return stored
        permitting = await _users_permitting(conn, call, "transcribe")
    await set_stage(ctx.database, actor, recording_id, "decoding")
    started = time.perf_counter()
    positions = [
        track.position for track in call.recording.tracks if _is_permitted(call, track.participant_id, permitting)
    ]
    tracks = [await _decode_track(ctx, actor, call.recording, position) for position in positions]
    seconds = sum(track.duration_seconds for track in tracks)
    decoding = StageTiming(stage="decoding", audio_seconds=seconds, wall_seconds=time.perf_counter() - started)
    await set_stage(ctx.database, actor, recording_id, "transcribing")
    done = await _transcribe_tracks(models, call, positions, tracks)
    async with ctx.database.acting_as(actor) as conn:
        await _refuse_withdrawn_consent(await _users_permitting(conn, call, "transcribe", locked=True), permitting)
        await _require_processing(conn, recording_id)
        await save_transcript(
            conn, actor, recording_id, done.transcript,
            participants={} if call.is_mixed else call.labels(), provider="local",
            proposals=_propose_speakers(call, done.transcript),
        )  # fmt: skip
        await save_timings(conn, actor, recording_id, (decoding, *done.timings))
        return await load_transcript(conn, recording_id)


async def _decode_track(ctx: AppContext, actor: Actor, recording: Recording, position: int) -> DecodedAudio:
    """The tracks of a file: one if the file is one person's track, else as the uploader stated or the channels show."""
    [track] = [one for one in recording.tracks if one.position == position]
    channels: Channels = track.channels if track.participant_id is None else "mix"
    settings = ctx.settings
    with await open_track(ctx, actor, recording.id, position) as file:
        return await asyncio.to_thread(
            decode, file, max_seconds=settings.max_recording_seconds, channels=channels,
            allow_unconfined=settings.allow_unconfined_decoding,
        )  # fmt: skip


async def _transcribe_tracks(
    models: Models, call: _RecordedCall, positions: Sequence[int], tracks: Sequence[DecodedAudio]
) -> TranscribedCall:
    names = tuple(one.display_name for one in call.attendees)
    if call.is_mixed:
        # One participant in the list of a mixed recording is the person who uploaded it, not a number of speakers.
        most = len(call.attendees) if len(call.attendees) > 1 else None
        return await transcribe_call(tracks[0].tracks, models, most_speakers=most, names=names)
    owner = {participant: label for label, participant in call.labels().items()}
    by_position = {track.position: track for track in call.recording.tracks}
    labels = [owner[by_position[position].participant_id or WORKER] for position in positions]
    return await transcribe_tracks([track.samples for track in tracks], labels, models, names=names)


def _propose_speakers(call: _RecordedCall, transcript: Transcript) -> list[SpeakerProposal]:
    """Proposes which participant each speaker of a mixed recording is. With one track per person this is certain."""
    if not call.is_mixed:
        return []
    turns = [Turn(speaker=utterance.speaker, text=utterance.text) for utterance in transcript.utterances]
    return [
        SpeakerProposal(
            speaker=found.speaker,
            participant_id=call.attendees[found.participant].participant_id,
            probability=found.probability,
            utterances=found.utterances,
            model=NAMING_VERSION,
        )
        for found in propose_names(turns, [one.display_name for one in call.attendees])
    ]


# --- analysis and alert ----------------------------------------------------------------------------------------------


async def _analyse_and_store(
    ctx: AppContext, models: Models, actor: Actor, call: _RecordedCall, stored: StoredTranscript
) -> None:
    """Analyses the transcript. Stores the analysis and its alert, if there is one, in one transaction."""
    recording_id = call.recording.id
    async with ctx.database.acting_as(actor) as conn:
        if await find_analysis(conn, recording_id) is not None:
            return await _mark_ready_if_processing(conn, actor, recording_id)
        permitting = await _users_permitting(conn, call, "analyse")
    await set_stage(ctx.database, actor, recording_id, "reading")
    conversation = _permitted_conversation(call, stored, permitting)
    seconds = stored.transcript.duration_seconds
    started = time.perf_counter()
    texts = [turn.text for turn in conversation.turns]
    spoken_language = stored.transcript.language
    complete = bool(stored.transcript.words) or not stored.transcript.not_understood
    analysis, vectors = await asyncio.gather(
        analyse(
            conversation,
            models,
            recognised_language=spoken_language,
            complete=complete and not _has_unwritten_language(stored),
        ),
        models.embed(texts),
    )
    analysis = analysis.model_copy(update={"models": dict(models.versions) | stored.transcript.models})
    timing = StageTiming(stage="reading", audio_seconds=seconds, wall_seconds=time.perf_counter() - started)
    async with ctx.database.acting_as(actor) as conn:
        await _refuse_withdrawn_consent(await _users_permitting(conn, call, "analyse", locked=True), permitting)
        await _require_processing(conn, recording_id)
        await _store_analysis(conn, actor, recording_id, stored, analysis)
        await save_embeddings(conn, stored.id, vectors.tolist(), analysis.models["embedding"])
        await save_timings(conn, actor, recording_id, (timing,))
        await _mark_ready_if_processing(conn, actor, recording_id)


async def _store_analysis(
    conn: Connection, actor: Actor, recording_id: UUID, stored: StoredTranscript, analysis: Analysis
) -> None:
    analysis_id = await save_analysis(
        conn, actor, recording_id, transcription_id=stored.id, analysis=analysis,
        # How reliably the words were recognised. The contract calls it `confidence_level`.
        confidence_level=stored.confidence_score if stored.confidence_score is not None else 1.0,
    )  # fmt: skip
    alert = alert_for(analysis, recording_id=recording_id, transcription_id=stored.id, analysis_id=analysis_id)
    if alert is not None:
        await raise_alert(conn, actor, alert)


async def _mark_ready_if_processing(conn: Connection, actor: Actor, recording_id: UUID) -> None:
    if (await lock_recording(conn, recording_id)).status == "processing":
        await mark_ready(conn, actor, recording_id)


def _has_unwritten_language(stored: StoredTranscript) -> bool:
    """Whether part of the call was in a language that could not be transcribed."""
    return any(stretch.reason.startswith("language_") for stretch in stored.transcript.not_understood)


def _permitted_conversation(call: _RecordedCall, stored: StoredTranscript, permitting: frozenset[UUID]) -> Conversation:
    """What the models may read: turns of people who do not permit analysis are empty, but keep their position."""
    user_of = {one.participant_id: one.user_id for one in call.attendees}
    turns = [
        Turn(
            speaker=utterance.speaker, text=utterance.text if owner is None or user_of.get(owner) in permitting else ""
        )
        for utterance, owner in zip(stored.transcript.utterances, stored.participant_ids, strict=True)
    ]
    known = [] if call.is_mixed else [
        Participant(speaker=label, role=_conversation_role(call.attendee(participant)), name=label)
        for label, participant in call.labels().items()
    ]  # fmt: skip
    return Conversation(id=str(call.recording.id), participants=tuple(known), turns=tuple(turns))


def _conversation_role(one: Attendee) -> str:
    return _CONVERSATION_ROLES.get(one.role) or _CONVERSATION_ROLES.get(one.participant_type, "other")


# --- consent ---------------------------------------------------------------------------------------------------------


async def _users_permitting(
    conn: Connection, call: _RecordedCall, purpose: Purpose, *, locked: bool = False
) -> frozenset[UUID]:
    """The users who permit the purpose now. Raises `refused` if no speech remains that may be processed.

    On a mixed track the speakers cannot be separated beforehand, so one person's refusal stops the processing for all.
    """
    recorded_users = call.recorded_users()
    answers: Sequence[Permission] = (
        await lock_permissions(conn, recorded_users, purpose)
        if locked
        else [await permits(conn, user_id, purpose) for user_id in recorded_users]
    )
    permitting = frozenset(answer.user_id for answer in answers if answer.permitted)
    if not permitting or (call.is_mixed and len(permitting) < len(set(recorded_users))):
        slug = "no-lawful-basis" if any(one.reason == "no-lawful-basis" for one in answers) else "consent-missing"
        raise refused(
            slug, f"Consent to {purpose} is missing for a recorded person: GET the recording's consent-status."
        )
    return permitting


def _is_permitted(call: _RecordedCall, participant_id: UUID | None, permitting: frozenset[UUID]) -> bool:
    return participant_id is None or call.attendee(participant_id).user_id in permitting


async def _refuse_withdrawn_consent(now: frozenset[UUID], before: frozenset[UUID]) -> None:
    """Raises `unavailable` if consent was withdrawn while the models ran: results are dropped, processing restarts."""
    if not before <= now:
        raise unavailable("consent-changed", "Consent was withdrawn during processing: it starts again.")


async def _require_processing(conn: Connection, recording_id: UUID) -> None:
    """Raises `refused` if the recording was deleted or parked while the models ran: no result may be stored."""
    status = (await lock_recording(conn, recording_id)).status
    if status != "processing":
        raise refused("recording-not-processing", f"The recording is now {status}: no result was stored.")
