"""The route that shows how long each stage of a recording took."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter

from comms.calls.recordings.queries import load_recording
from comms.calls.stage_timings.queries import list_timings
from comms.web.dependencies import AuthorisedRequest, authorised_for
from models.contract.records import Record, StageTiming

router = APIRouter(prefix="/api/recordings", tags=["recordings"])


class Timings(Record):
    """The timings of a recording. The list is never paged: a recording has only a few stages."""

    items: tuple[StageTiming, ...]
    next: None = None


@router.get("/{recording_id}/timings")
async def read_timings(
    recording_id: UUID, authorised: Annotated[AuthorisedRequest, authorised_for("recordings.read")]
) -> Timings:
    """Lists the seconds of audio and the seconds on the clock of each stage, in the order in which the stages ended."""
    await load_recording(authorised.conn, recording_id)  # raises `missing`
    return Timings(items=await list_timings(authorised.conn, recording_id))
