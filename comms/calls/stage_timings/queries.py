"""Stores how long each stage of processing a recording took."""

from collections.abc import Sequence
from uuid import UUID

from comms.kernel.database import Actor, Connection
from models.contract.records import StageTiming


async def save_timings(conn: Connection, actor: Actor, recording_id: UUID, timings: Sequence[StageTiming]) -> None:
    """Adds timings. A stage that ran twice (its worker was killed) has two rows."""
    async with conn.cursor() as cursor:
        await cursor.executemany(
            "insert into stage_timings (tenant_id, recording_id, stage, audio_seconds, wall_seconds) "
            "values (%s, %s, %s, %s, %s)",
            [(actor.tenant_id, recording_id, t.stage, t.audio_seconds, t.wall_seconds) for t in timings],
        )


async def list_timings(conn: Connection, recording_id: UUID) -> tuple[StageTiming, ...]:
    """Returns the timings of a recording, in the order in which the stages ended."""
    rows = await conn.execute(
        "select stage, audio_seconds, wall_seconds from stage_timings where recording_id = %s order by id",
        (recording_id,),
    )
    return tuple([StageTiming(**row) async for row in rows])
