"""How far the worker has come with a recording: said to whoever asks for what it has not made yet."""

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
    """Where a recording stands. `stage`: what the worker does now; null while it waits for its turn, and at the end.

    `done` of `stages` are over; `since` is when this one began.
    """

    recording_status: RecordingStatus
    stage: Stage | None
    since: datetime | None
    done: int = Field(ge=0)
    stages: int = len(STAGES)
    parked_reason: str | None = Field(description="A problem's slug: what a person has to mend first.")


async def set_stage(database: Database, actor: Actor, recording_id: UUID, stage: Stage) -> None:
    """For the worker: it begins this stage now. Its own transaction, so that whoever asks meanwhile sees it."""
    async with database.acting_as(actor) as conn:
        await conn.execute(
            "update recordings set stage = %s, stage_since = now() where id = %s and status = 'processing'",
            (stage, recording_id),
        )


async def read_progress(conn: Connection, recording_id: UUID) -> Progress:
    """Raises `missing`, also for whom the words of the recording are withheld from: they learn of no progress."""
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
    """Why there is no transcript or analysis of the recording, and what to do."""
    match progress.recording_status:
        case "recording":
            return conflict("recording-running", f"It is still being recorded: there is no {what} before that ends.")
        case "processing":
            now = f"it is at {progress.stage}" if progress.stage is not None else "it waits for its turn"
            error = conflict(
                f"{what}-in-progress",
                f"The {what} is being made: {now}, {progress.done} of {progress.stages} stages are over. Ask again.",
            )
            error.retry_after_seconds = _ASK_AGAIN_SECONDS
            return error
        case "parked":
            return conflict(
                "recording-parked",
                f"There is no {what}: reading stopped ({progress.parked_reason}). Mend that, then "
                "POST /api/recordings/{id}/transcribe.",
            )
        case _:
            return missing(what)
