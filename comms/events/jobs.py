"""Which events start a durable job, and how it is put in the queue: in the transaction that marks the event sent.

Jobs carry ids alone. Jobs of one recording run one after the other (`lock`); a job that still waits is not put in
the queue a second time (`queueing_lock`).
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import structlog
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued

from comms.database import Connection
from comms.events.queries import EventType

PROCESS_RECORDING: Final = "process_recording"

# event -> the task that the worker knows by this name
STARTED_BY: Final[Mapping[EventType, str]] = {"session.recording.stopped": PROCESS_RECORDING}

_log = structlog.get_logger(__name__)


def job_queue() -> App:
    """The queue as the relay uses it: it only ever defers, always on a connection that it is given."""
    return App(connector=PsycopgConnector())


async def start_jobs(conn: Connection, queue: App, type: EventType, tenant_id: UUID, data: Mapping[str, Any]) -> None:
    """Defers what an event of this type starts, in the caller's transaction; nothing where it starts nothing."""
    task = STARTED_BY.get(type)
    if task is None:
        return
    recording_id = data.get("recording_id")
    if recording_id is None:
        # One wrong event must not hold up every tenant's: it is told of here and sent without its job.
        _log.error("event without recording_id starts no job", event_type=type)
        return
    deferrer = queue.configure_task(
        name=task, lock=str(recording_id), queueing_lock=f"{task}:{recording_id}", connection=conn
    )
    try:
        async with conn.transaction():  # a savepoint: 'is waiting already' must not undo the batch
            await deferrer.defer_async(tenant_id=str(tenant_id), recording_id=str(recording_id))
    except AlreadyEnqueued:
        _log.info("job is waiting already", task=task, recording_id=str(recording_id))
