"""Routes of recordings: upload, start, stop, download, transcript, analysis, requeue, delete."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal, get_args
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from comms.calls.recordings import ingestion, queries
from comms.calls.recordings.captions import MEDIA_TYPES, CaptionFormat, render
from comms.calls.recordings.duplicates import DuplicateRecording
from comms.calls.recordings.playback import unlock_track
from comms.calls.recordings.progress import not_ready_problem, read_progress
from comms.calls.recordings.queries import Recording, RecordingStatus
from comms.calls.recordings.upload_form import MAX_TRACKS, keyed_upload_of, parse_upload, upload_of
from comms.calls.sessions.queries import read_session
from comms.calls.transcripts.queries import StoredAnalysis, StoredTranscript, find_analysis, find_transcript
from comms.governance.consent.lawful_grounds import PURPOSES
from comms.governance.consent.permissions import Permission, permits
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor
from comms.web.byte_ranges import RangeDep, StoredBytes, answer_range
from comms.web.context import AppContext
from comms.web.dependencies import AuthorisedRequest, ContextDep, IfMatch, actor_with, authorised_for, set_etag
from comms.web.multipart_forms import is_multipart
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page, page_of
from comms.web.problems import problem_of, problem_responses
from comms.web.route_class import UNCHANGED, PlatformRoute
from models.contract.audio_tracks import CHANNELS_HELP, Channels
from models.contract.errors import Kind, WriteCareError
from models.contract.records import Record

router = APIRouter(prefix="/api/recordings", tags=["recordings"], route_class=PlatformRoute)

RecordAccess = Annotated[Actor, actor_with("recordings.make")]
ReadAccess = Annotated[AuthorisedRequest, authorised_for("recordings.read")]

# The body is parsed as it streams (comms/web/multipart_forms.py), so FastAPI does not know its schema.
_FORM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "file": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "maxItems": MAX_TRACKS,
            "description": "One file for each track.",
        },
        "participant": {
            "type": "array",
            "items": {"type": "string", "format": "uuid"},
            "maxItems": MAX_TRACKS,
            "description": "The user id for each file, in the order of the files; none: one file with all voices.",
        },
        "channels": {
            "type": "string",
            "enum": list(get_args(Channels)),
            "default": "auto",
            "description": (
                "How to read the channels and streams of a file without a named participant. "
                + CHANNELS_HELP
                + " The file of a named participant is always one track."
            ),
        },
        "duplicate": {
            "type": "string",
            "enum": ["keep"],
            "description": "Store it although the session has a recording of the same files.",
        },
    },
}
_TAKES_FORM: Final = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}
_MAY_TAKE_FORM: Final = {"requestBody": {"required": False, "content": {"multipart/form-data": {"schema": _FORM}}}}


class ConsentStatus(Record):
    """Which purposes each participant of the recorded session permits now."""

    recording_id: UUID
    permissions: tuple[Permission, ...]


@router.post(
    "", status_code=201, response_model=Recording, openapi_extra=_TAKES_FORM, responses=problem_responses(413, 415)
)
async def upload_recording(session_id: UUID, request: Request, ctx: ContextDep, actor: RecordAccess) -> Response:
    """Stores a recording of a session: one file with all voices, or one for each participant. It is then transcribed
    and assessed.

    If the session already has a recording of the same files, the answer is 409 `recording-already-there` with its
    `Location`; `duplicate=keep` in the form stores it once more.
    """
    with _counted_refusals(ctx):
        async with parse_upload(request, ctx.settings.data_dir) as upload:
            keyed_upload = keyed_upload_of(request, upload, _created)
            try:
                recording = await ingestion.store_upload(ctx, actor, session_id, upload, keyed_upload)
            except DuplicateRecording as there:
                ctx.metrics.recordings_refused.labels(there.slug).inc()
                headers = {"Location": f"/api/recordings/{there.recording_id}"}
                return problem_of(there, request.state.request_id, headers)
    return _created(recording)


@router.post("/start/{session_id}", status_code=201)
async def start_recording(
    session_id: UUID, authorised: Annotated[AuthorisedRequest, authorised_for("recordings.make")], response: Response
) -> Recording:
    """Starts a recording of the session; refused unless everyone in it permits that."""
    recording = await ingestion.start(authorised.conn, authorised.actor, session_id)
    response.headers["Location"] = f"/api/recordings/{recording.id}"
    set_etag(response, recording.version)
    return recording


@router.post(
    "/stop/{session_id}", response_model=Recording, openapi_extra=_MAY_TAKE_FORM, responses=problem_responses(413)
)
async def stop_recording(session_id: UUID, request: Request, ctx: ContextDep, actor: RecordAccess) -> Response:
    """Ends the running recording with the tracks of the form; without a form, the recording is empty and deleted."""
    with _counted_refusals(ctx):
        if is_multipart(request):
            async with parse_upload(request, ctx.settings.data_dir) as upload:
                keyed_upload = keyed_upload_of(request, upload, _stopped)
                recording = await ingestion.stop(ctx, actor, session_id, upload, keyed_upload)
        else:
            keyed_upload = keyed_upload_of(request, await upload_of(()), _stopped)
            recording = await ingestion.discard(ctx, actor, session_id, keyed_upload)
    return _stopped(recording)


@router.get("")
async def list_recordings(
    authorised: ReadAccess,
    *,
    session_id: UUID | None = None,
    status: RecordingStatus | None = None,
    understood: bool | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Recording]:
    """Lists recordings, newest first; `understood=false`: only those in which a person must listen to a part that was
    not understood.
    """
    found = await queries.list_recordings(
        authorised.conn,
        session_id=session_id,
        status=status,
        understood=understood,
        before=cursor or MAX_UUID,
        limit=limit + 1,
    )
    return page_of(found, limit)


@router.get("/{recording_id}")
async def read_recording(recording_id: UUID, authorised: ReadAccess, response: Response) -> Recording:
    """Returns one recording with its tracks; also a deleted one."""
    recording = await queries.load_recording(authorised.conn, recording_id)
    set_etag(response, recording.version)
    return recording


@router.get(
    "/{recording_id}/download",
    response_class=Response,
    responses={
        200: {"content": {"audio/*": {}}, "description": "The whole track"},
        206: {"content": {"audio/*": {}}, "description": "The range"},
        **UNCHANGED,
        **problem_responses(416),
    },
)
async def download_track(
    recording_id: UUID,
    authorised: Annotated[AuthorisedRequest, authorised_for("recordings.listen")],
    asked: RangeDep,
    track: Annotated[int, Query(ge=0, description="The position of the track.")] = 0,
) -> Response:
    """Returns the audio of a track as it was uploaded, whole or in ranges. The access is recorded in the audit log."""
    recording = await queries.load_recording(authorised.conn, recording_id)
    opened = await unlock_track(authorised.ctx, authorised.conn, authorised.actor, recording, track)
    answer = await answer_range(
        asked,
        StoredBytes(
            opened.track.size_bytes, opened.track.media_type, f'"{opened.track.id}"',
            lambda span: opened.read(authorised.ctx, span),
        ),
        {"Content-Disposition": f'attachment; filename="{recording_id}-{track}"'},
    )  # fmt: skip
    if answer.status_code in (200, 206) and not asked.head:
        await record_act(
            authorised.conn, authorised.actor, "recording.heard", ("recording", recording_id), {"track": track}
        )
    return answer


@router.get(
    "/{recording_id}/transcript",
    response_model=StoredTranscript,
    responses={200: {"content": {name: {} for name in MEDIA_TYPES.values()}}, **UNCHANGED},
)
async def read_transcript(
    recording_id: UUID,
    request: Request,
    authorised: Annotated[AuthorisedRequest, authorised_for("transcripts.read")],
    format: Annotated[CaptionFormat | None, Query(description="Captions or text instead of JSON.")] = None,
) -> Response:
    """Returns who said what and when. The access is recorded in the audit log.

    While it is being made, the answer is 409 with the `progress`.
    """
    await _refuse_deleted(authorised, recording_id)
    transcript = await find_transcript(authorised.conn, recording_id)
    if transcript is None:
        return await _not_ready_response(request, authorised, recording_id, "transcript")
    await record_act(authorised.conn, authorised.actor, "transcript.read", ("recording", recording_id))
    if format is None:
        return _exported(transcript.model_dump_json(), "application/json")
    return _exported(render(transcript.transcript, format), f"{MEDIA_TYPES[format]}; charset=utf-8")


async def _not_ready_response(
    request: Request, authorised: AuthorisedRequest, recording_id: UUID, what: Literal["transcript", "analysis"]
) -> Response:
    """Returns the problem with the reason and the progress; raises `missing` if nothing is being made."""
    progress = await read_progress(authorised.conn, recording_id)
    error = not_ready_problem(progress, what)
    if error.kind is Kind.MISSING:
        raise error
    return problem_of(error, request.state.request_id, progress=progress.model_dump(mode="json"))


def _exported(text: str, media_type: str) -> Response:
    """Returns a document whose ETag is the digest of its bytes."""
    body = text.encode()
    return Response(body, headers={"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Content-Type": media_type})


@router.get("/{recording_id}/analysis", response_model=StoredAnalysis)
async def read_analysis(
    recording_id: UUID, request: Request, authorised: Annotated[AuthorisedRequest, authorised_for("analyses.read")]
) -> StoredAnalysis | Response:
    """Returns the results of the models (concerns, sentiment, risk, summary, actions) and the model versions. The
    access is recorded in the audit log.

    While it is being made, the answer is 409 with the `progress`.
    """
    await _refuse_deleted(authorised, recording_id)
    analysis = await find_analysis(authorised.conn, recording_id)
    if analysis is None:
        return await _not_ready_response(request, authorised, recording_id, "analysis")
    await record_act(authorised.conn, authorised.actor, "analysis.read", ("recording", recording_id))
    return analysis


@router.get("/{recording_id}/consent-status")
async def read_consent_status(recording_id: UUID, authorised: ReadAccess) -> ConsentStatus:
    """Lists, for each participant of the session, whether each purpose is permitted now, and on what lawful basis."""
    recording = await queries.load_recording(authorised.conn, recording_id)
    session = await read_session(authorised.conn, authorised.actor, recording.session_id)
    found = [
        await permits(authorised.conn, participant.user_id, purpose)
        for participant in session.participants
        for purpose in PURPOSES
    ]
    return ConsentStatus(recording_id=recording_id, permissions=tuple(found))


@router.post("/{recording_id}/transcribe", status_code=202)
async def requeue_recording(
    recording_id: UUID,
    authorised: Annotated[AuthorisedRequest, authorised_for("recordings.requeue")],
    response: Response,
) -> Recording:
    """Requests the processing of a parked recording again, after the problem that stopped it is corrected."""
    recording = await queries.requeue(authorised.conn, authorised.actor, recording_id)
    set_etag(response, recording.version)
    return recording


@router.delete("/{recording_id}", status_code=204, responses=problem_responses(412))
async def delete_recording(
    recording_id: UUID, ctx: ContextDep, actor: Annotated[Actor, actor_with("recordings.delete")], expected: IfMatch
) -> None:
    """Erases the audio for good: deletes its keys, then its objects. Transcript and analysis remain."""
    async with ctx.database.acting_as(actor) as conn:
        keys = await queries.shred(conn, actor, recording_id, expected)
    for key in keys:
        await ctx.objects.delete(key)


@contextmanager
def _counted_refusals(ctx: AppContext) -> Iterator[None]:
    try:
        yield
    except WriteCareError as error:
        ctx.metrics.recordings_refused.labels(error.slug).inc()
        raise


def _created(recording: Recording) -> Response:
    answer = _stopped(recording)
    answer.status_code = 201
    answer.headers["Location"] = f"/api/recordings/{recording.id}"
    return answer


def _stopped(recording: Recording) -> Response:
    answer = Response(recording.model_dump_json(), media_type="application/json")
    set_etag(answer, recording.version)
    return answer


async def _refuse_deleted(authorised: AuthorisedRequest, recording_id: UUID) -> None:
    recording = await queries.load_recording(authorised.conn, recording_id)
    if recording.status == "deleted":
        raise queries.deleted()
