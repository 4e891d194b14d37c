"""Queues the durable job of an event, in the transaction that marks the event as sent.

Jobs carry only ids. Jobs of one recording run one after the other (`lock`), and so do jobs that assess a tenant's
messages. A job that still waits is not queued a second time (`queueing_lock`), so that a burst of messages is one job.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import structlog
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import JobDeferrer

from comms.kernel.database import Connection
from comms.outbox.queries import EventType

PROCESS_RECORDING: Final = "process_recording"
READ_MESSAGES: Final = "read_messages"
EXPLAIN_MESSAGES: Final = "explain_messages"
# Each queue is processed separately: a recording that takes minutes must not delay a message, and the search for
# evidence must not delay the next message.
RECORDINGS_QUEUE: Final = "default"
MESSAGES_QUEUE: Final = "messages"
EVIDENCE_QUEUE: Final = "evidence"

# event type -> name of the worker's task
TASK_OF_EVENT: Final[Mapping[EventType, str]] = {
    "session.recording.stopped": PROCESS_RECORDING,
    "message.sent": READ_MESSAGES,
    "message.edited": READ_MESSAGES,
    "consent.changed": READ_MESSAGES,  # it may permit messages that were postponed
    "safeguarding.alert": EXPLAIN_MESSAGES,  # for an alert about a recording, the job does nothing
}

_log = structlog.get_logger(__name__)


def job_queue() -> App:
    """The queue as the relay uses it: it only defers jobs, always on a connection that the caller passes."""
    return App(connector=PsycopgConnector())


async def start_jobs(conn: Connection, queue: App, type: EventType, tenant_id: UUID, data: Mapping[str, Any]) -> None:
    """Defers the job of an event of this type, in the caller's transaction; does nothing if the type has no job."""
    task = TASK_OF_EVENT.get(type)
    if task is None:
        return
    try:
        async with conn.transaction():  # a savepoint: `AlreadyEnqueued` must not roll back the batch
            if task == READ_MESSAGES:
                await read_messages_job(queue, tenant_id, conn).defer_async()
            elif task == EXPLAIN_MESSAGES:
                await explain_messages_job(queue, tenant_id, conn).defer_async()
            else:
                await _defer_recording(conn, queue, type, tenant_id, data)
    except AlreadyEnqueued:
        _log.debug("job is already in the queue", task=task)


def read_messages_job(queue: App, tenant_id: UUID, conn: Connection | None = None) -> JobDeferrer:
    """The job that assesses the tenant's messages, on the given connection or one of the queue's own.

    Deferring it raises `AlreadyEnqueued` if one waits already.
    """
    return _tenant_job(queue, READ_MESSAGES, MESSAGES_QUEUE, tenant_id, connection=conn)


def explain_messages_job(
    queue: App, tenant_id: UUID, conn: Connection | None = None, pause_seconds: int = 0
) -> JobDeferrer:
    """As `read_messages_job`, for the job that finds the evidence words of the tenant's alerts about messages."""
    pause = {"seconds": pause_seconds} if pause_seconds else None
    return _tenant_job(queue, EXPLAIN_MESSAGES, EVIDENCE_QUEUE, tenant_id, connection=conn, schedule_in=pause)


def _tenant_job(queue: App, task: str, queue_name: str, tenant_id: UUID, **options: Any) -> JobDeferrer:
    name = f"{task}:{tenant_id}"
    return queue.configure_task(
        name=task, queue=queue_name, lock=name, queueing_lock=name, task_kwargs={"tenant_id": str(tenant_id)}, **options
    )


async def _defer_recording(
    conn: Connection, queue: App, type: EventType, tenant_id: UUID, data: Mapping[str, Any]
) -> None:
    recording_id = data.get("recording_id")
    if recording_id is None:
        # One wrong event must not block the events of all tenants: it is logged and sent without its job.
        _log.error("event without recording_id starts no job", event_type=type)
        return
    deferrer = queue.configure_task(
        name=PROCESS_RECORDING, queue=RECORDINGS_QUEUE, lock=str(recording_id),
        queueing_lock=f"{PROCESS_RECORDING}:{recording_id}", connection=conn,
    )  # fmt: skip
    await deferrer.defer_async(tenant_id=str(tenant_id), recording_id=str(recording_id))
