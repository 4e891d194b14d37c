"""Stores and reads how far the worker has come with a recording."""

from datetime import datetime
from typing import Final, Literal, get_args
from uuid import UUID

from pydantic import Field

from comms.calls.recordings.queries import RecordingStatus
from comms.kernel.database import Actor, Connection, Database
from models.contract.errors import WriteCareError, conflict, missing
from models.contract.records import Record

Stage = Literal["decoding", "transcribing", "reading"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
_ASK_AGAIN_SECONDS: Final = 5


class Progress(Record):
    """How far the recording is processed. `stage`: what the worker does now; null while it waits for a worker, and at
    the end.

    `done` of `stages` have ended; `since` is when this one began.
    """

    recording_status: RecordingStatus
    stage: Stage | None
    since: datetime | None
    done: int = Field(ge=0)
    stages: int = len(STAGES)
    parked_reason: str | None = Field(description="The slug of a problem that a person has to correct first.")


async def set_stage(database: Database, actor: Actor, recording_id: UUID, stage: Stage) -> None:
    """Stores that the worker begins this stage now, in a separate transaction, so that clients see it at once."""
    async with database.acting_as(actor) as conn:
        await conn.execute(
            "update recordings set stage = %s, stage_since = now() where id = %s and status = 'processing'",
            (stage, recording_id),
        )


async def read_progress(conn: Connection, recording_id: UUID) -> Progress:
    """Returns the progress of the recording.

    Raises `missing` if the recording does not exist, and also if its words are withheld from the actor.
    """
    found = await conn.execute(
        "select status, stage, stage_since, parked_reason, "
        "app.answers_for_safeguarding() or app.may_hear(r.id) as may_hear, "
        "exists (select from transcriptions t where t.tenant_id = r.tenant_id and t.recording_id = r.id) as heard "
        "from recordings r where id = %s",
        (recording_id,),
    )
    row = await found.fetchone()
    if row is None:
        raise missing("recording")
    if not row["may_hear"]:
        raise missing("transcript")
    over = STAGES.index(row["stage"]) if row["stage"] is not None else 0
    return Progress(
        recording_status=row["status"], stage=row["stage"], since=row["stage_since"],
        done=len(STAGES) if row["status"] == "ready" else max(over, STAGES.index("reading") if row["heard"] else 0),
        parked_reason=row["parked_reason"],
    )  # fmt: skip


def not_ready_problem(progress: Progress, what: Literal["transcript", "analysis"]) -> WriteCareError:
    """Returns the error that says why there is no transcript or analysis of the recording, and what to do."""
    match progress.recording_status:
        case "recording":
            return conflict(
                "recording-running", f"The recording is still running: the {what} is made after it is stopped."
            )
        case "processing":
            now = f"it is at {progress.stage}" if progress.stage is not None else "it waits for a worker"
            error = conflict(
                f"{what}-in-progress",
                f"The {what} is being made: {now}, {progress.done} of {progress.stages} stages are done. Ask again.",
            )
            error.retry_after_seconds = _ASK_AGAIN_SECONDS
            return error
        case "parked":
            return conflict(
                "recording-parked",
                f"There is no {what}: processing stopped ({progress.parked_reason}). Correct that, then "
                "POST /api/recordings/{id}/transcribe.",
            )
        case _:
            return missing(what)
