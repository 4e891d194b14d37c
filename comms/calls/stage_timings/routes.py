"""How long each stage of a recording took, for whoever may read the recording."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter

from comms.calls.recordings.queries import load_recording
from comms.calls.stage_timings.queries import list_timings
from comms.web.dependencies import AuthorisedRequest, authorised_for
from models.contract.records import Record, StageTiming

router = APIRouter(prefix="/api/recordings", tags=["recordings"])


class Timings(Record):
    """A list that is never paged: a recording has a handful of stages."""

    items: tuple[StageTiming, ...]
    next: None = None


@router.get("/{recording_id}/timings")
async def read_timings(
    recording_id: UUID, authorised: Annotated[AuthorisedRequest, authorised_for("recordings.read")]
) -> Timings:
    """What each stage cost: seconds of audio, seconds on the clock; in the order in which they ended."""
    await load_recording(authorised.conn, recording_id)  # missing, where it is
    return Timings(items=await list_timings(authorised.conn, recording_id))
