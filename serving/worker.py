"""The worker: claims recordings from the durable queue and processes them (`python -m serving.worker`).

Each job is executed at least once. If a worker sends no heartbeat, its job is requeued; the pipeline is idempotent, so
results are stored once. A temporary error is retried with growing pauses. After a permanent error, or too many retries,
the recording is parked with the reason, and a person decides.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import structlog
from procrastinate import App, BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from procrastinate.jobs import DeleteJobCondition, Job, JobDeferrer, Status

from comms.kernel.json_logging import write_json_logs
from comms.kernel.metrics import Metrics
from comms.kernel.processes.background_tasks import end
from comms.kernel.settings import Settings
from comms.outbox.jobs import (
    EVIDENCE_QUEUE,
    EXPLAIN_MESSAGES,
    MESSAGES_QUEUE,
    PROCESS_RECORDING,
    READ_MESSAGES,
    RECORDINGS_QUEUE,
    explain_messages_job,
    read_messages_job,
)
from comms.safeguarding.message_assessments.evidence import tenants_with_unexplained
from comms.safeguarding.message_assessments.queue import tenants_with_unassessed
from comms.web.context import AppContext, open_app_context
from comms.web.problems import is_retried
from models.contract.errors import WriteCareError, unavailable
from pipelines.message_assessment import assess_messages
from pipelines.message_explanation import explain_messages
from pipelines.model_protocols import Models
from pipelines.recording_processing import park_recording, process_recording

_MAX_CONCURRENT: Final = 2  # one recording is transcribed while another is analysed; and as many tenants' messages
_CONNECTIONS: Final = 6
_GRACE_SECONDS: Final = 3.0
_FIRST_PAUSE_SECONDS: Final = 2
_LONGEST_PAUSE_SECONDS: Final = 300
# between two jobs of a tenant: under load explanations get only a small share of the time
_EXPLANATION_PAUSE_SECONDS: Final = 1
# An unavailable service usually comes back. An error caused by this recording will most likely occur again.
_UNLIKELY_TO_PASS: Final = frozenset({"processing-failed", "model-failed"})
_MOST_TRIES_UNLIKELY: Final = 3


@dataclass(frozen=True)
class _QueueConfig:
    """A queue with workers of its own. `delete_condition`: which finished jobs are deleted."""

    name: str
    poll_seconds: float
    delete_condition: DeleteJobCondition
    max_concurrent: int = _MAX_CONCURRENT


# A job waits for the previous job of its tenant, and nothing notifies the queue when that one ends, so the queue polls.
# There is one message job per burst of messages; finished ones are deleted, since the stored assessment is the record.
_QUEUES: Final = (
    _QueueConfig(RECORDINGS_QUEUE, 1.0, DeleteJobCondition.NEVER),
    _QueueConfig(MESSAGES_QUEUE, 0.25, DeleteJobCondition.SUCCESSFUL),
    _QueueConfig(EVIDENCE_QUEUE, 1.0, DeleteJobCondition.SUCCESSFUL, max_concurrent=1),
)

_log: Final = structlog.get_logger(__name__)


class RetryTransientErrors(BaseRetryStrategy):
    """Retries a job with growing pauses if its error may be temporary. The task itself limits the number of retries."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if not (isinstance(exception, WriteCareError) and is_retried(exception)):
            return None
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(job.attempts, 10))
        return RetryDecision(retry_in={"seconds": pause})


def open_queue(url: str) -> App:
    """The durable queue, in procrastinate's own schema. Opens no connection yet."""
    return App(connector=PsycopgConnector(conninfo=url, kwargs={"options": "-c search_path=procrastinate"}, max_size=8))


def register_tasks(queue: App, ctx: AppContext, models: Callable[[], Models]) -> None:
    """Registers the queue's tasks. `models` returns a new view of the models for each job."""

    @queue.task(name=PROCESS_RECORDING, pass_context=True, retry=RetryTransientErrors())
    async def process(context: JobContext, tenant_id: str, recording_id: str) -> None:
        tenant, recording = UUID(tenant_id), UUID(recording_id)
        attempts = context.job.attempts
        if attempts >= ctx.settings.job_attempts:  # its workers crashed on it, or were stopped too often
            return await park_recording(ctx, tenant, recording, "tried-too-often")
        try:
            await _with_error_translation(lambda: process_recording(ctx, models(), tenant, recording))
        except WriteCareError as error:
            most = _MOST_TRIES_UNLIKELY if error.slug in _UNLIKELY_TO_PASS else ctx.settings.job_attempts
            if is_retried(error) and attempts + 1 < most:
                raise
            await park_recording(ctx, tenant, recording, error.slug)
            _log.warning("recording parked", recording_id=recording_id, reason=error.slug)

    @queue.task(name=READ_MESSAGES)
    async def read(tenant_id: str) -> None:
        tenant = UUID(tenant_id)
        try:
            await _with_error_translation(lambda: _assess_and_requeue(queue, ctx, models, tenant))
        except WriteCareError as error:
            # The queue does not retry it: messages that were not stored become due again, and the sweep starts the job.
            _log.warning("messages are not assessed yet", tenant_id=tenant_id, reason=error.slug)

    @queue.task(name=EXPLAIN_MESSAGES)
    async def explain(tenant_id: str) -> None:
        tenant = UUID(tenant_id)
        try:
            await _with_error_translation(lambda: _explain_and_requeue(queue, ctx, models, tenant))
        except WriteCareError as error:
            # becomes due again, too
            _log.warning("evidence is not explained yet", tenant_id=tenant_id, reason=error.slug)


async def _assess_and_requeue(queue: App, ctx: AppContext, models: Callable[[], Models], tenant_id: UUID) -> None:
    if await assess_messages(ctx, models, tenant_id):
        await enqueue_assessment(
            queue, tenant_id
        )  # queued behind waiting jobs of other tenants, so that a busy tenant does not delay the others


async def _explain_and_requeue(queue: App, ctx: AppContext, models: Callable[[], Models], tenant_id: UUID) -> None:
    if await explain_messages(ctx, models(), tenant_id):
        await enqueue_explanation(queue, tenant_id, pause_seconds=_EXPLANATION_PAUSE_SECONDS)


async def enqueue_assessment(queue: App, tenant_id: UUID) -> None:
    """Queues the job that assesses the tenant's due messages. Does nothing if such a job is waiting already."""
    await _enqueue(read_messages_job(queue, tenant_id))


async def enqueue_explanation(queue: App, tenant_id: UUID, pause_seconds: int = 0) -> None:
    """As `enqueue_assessment`, for the job that finds evidence spans. The job starts after the pause."""
    await _enqueue(explain_messages_job(queue, tenant_id, pause_seconds=pause_seconds))


async def _enqueue(job: JobDeferrer) -> None:
    try:
        await job.defer_async()
    except AlreadyEnqueued:
        return


async def _with_error_translation(work: Callable[[], Awaitable[None]]) -> None:
    """Runs `work` and turns other errors into ours, with only type and code location: their text may quote speech."""
    try:
        await work()
    except WriteCareError:
        raise
    except asyncio.CancelledError:
        # The worker is being stopped: the job returns to the queue instead of counting as done or failed.
        raise unavailable("worker-stopping", "The worker was stopped; another worker continues.") from None
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        _log.error("processing failed", error=type(error).__name__, at=[f"{f.name}:{f.lineno}" for f in frames])
        raise unavailable("processing-failed", f"Processing failed ({type(error).__name__}); it is logged.") from None


async def requeue_stalled_jobs(queue: App, heartbeat_timeout: float) -> int:
    """Requeues the jobs of workers that have sent no heartbeat for this time. Returns the number of jobs."""
    given = 0
    for job in await queue.job_manager.get_stalled_jobs(seconds_since_heartbeat=heartbeat_timeout):
        assert job.id is not None, "a claimed job has an id"
        try:
            await queue.job_manager.retry_job(job)
        except ConnectorException:
            # The queue already has a waiting job for the same recording: that job does the work, this one ends.
            await queue.job_manager.finish_job_by_id_async(job_id=job.id, status=Status.FAILED, delete_job=False)
        given += 1
        _log.warning("job of a worker without heartbeat requeued", job_id=job.id, attempts=job.attempts)
    return given


async def enqueue_due_assessments(queue: App, ctx: AppContext) -> None:
    """Queues the assessment of all due messages in all tenants: left by a killed worker, or due again."""
    async with ctx.database.without_tenant() as conn:
        tenants = await tenants_with_unassessed(conn)
    for tenant_id in tenants:
        await enqueue_assessment(queue, tenant_id)


async def enqueue_due_explanations(queue: App, ctx: AppContext) -> None:
    """Queues the explanation of all evidence that waits for its spans, in all tenants."""
    async with ctx.database.without_tenant() as conn:
        tenants = await tenants_with_unexplained(conn)
    for tenant_id in tenants:
        await enqueue_explanation(queue, tenant_id)


async def _sweep(queue: App, ctx: AppContext, heartbeat_timeout: float) -> None:
    while True:
        try:
            await requeue_stalled_jobs(queue, heartbeat_timeout)
            await enqueue_due_assessments(queue, ctx)
            await enqueue_due_explanations(queue, ctx)
        except (ConnectorException, WriteCareError) as error:
            _log.warning("sweep failed", error=type(error).__name__)
        await asyncio.sleep(heartbeat_timeout / 3)


async def work(settings: Settings, models: Callable[[], Models], ready: Callable[[], None]) -> None:
    """Works until SIGTERM or SIGINT. Calls `ready` once it can take jobs."""
    assert settings.role_database_url is not None, "WRITECARE_ROLE_DATABASE_URL must be set for the worker"
    queue = open_queue(settings.role_database_url.get_secret_value())
    heartbeat_timeout_setting = settings.stalled_after_seconds
    async with open_app_context(settings, Metrics(), connections=_CONNECTIONS) as ctx, queue.open_async():
        register_tasks(queue, ctx, models)
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        stop_requested = asyncio.create_task(stopping.wait())
        queue_tasks = {
            asyncio.create_task(_run_queue(queue, queue_config, heartbeat_timeout_setting)) for queue_config in _QUEUES
        }
        sweeper = asyncio.create_task(_sweep(queue, ctx, heartbeat_timeout_setting))
        ready()
        try:
            done, _ = await asyncio.wait({stop_requested, *queue_tasks}, return_when=asyncio.FIRST_COMPLETED)
            for queue_config in done & queue_tasks:
                # a queue's task ends by itself only after an error: the launcher starts another worker
                queue_config.result()
        finally:
            for queue_config in queue_tasks:
                queue_config.cancel()  # once: each then waits its grace period for its current job
            await asyncio.wait(queue_tasks, timeout=_GRACE_SECONDS + 1)
            await end({sweeper, stop_requested, *queue_tasks})


async def _run_queue(queue: App, queue_config: _QueueConfig, heartbeat_timeout: float) -> None:
    await queue.run_worker_async(
        queues=[queue_config.name], concurrency=queue_config.max_concurrent, shutdown_graceful_timeout=_GRACE_SECONDS,
        install_signal_handlers=False, fetch_job_polling_interval=queue_config.poll_seconds,
        update_heartbeat_interval=heartbeat_timeout / 3, stalled_worker_timeout=heartbeat_timeout,
        delete_jobs=queue_config.delete_condition,
    )  # fmt: skip


def _connect_to_ray(models_ready: Path) -> Callable[[], Models]:
    """Joins the cluster of the models process. Returns a function that gives each job its own view of the models.

    Imports Ray first, which takes seconds, and then waits until the models are ready.
    """
    import ray  # noqa: PLC0415 - the environment must be complete before the import

    from serving.placement import DEPLOYMENTS  # noqa: PLC0415
    from serving.served_models import ServedModels, deployment_handles  # noqa: PLC0415

    while not models_ready.exists():
        time.sleep(0.05)
    address = json.loads(models_ready.read_text())["ray_address"]
    ray.init(address=address, namespace="writecare", log_to_driver=False, configure_logging=False)
    handles = deployment_handles(DEPLOYMENTS)
    return lambda: ServedModels(handles)


def main() -> int:
    """Exit code 0 after a clean stop."""
    parser = argparse.ArgumentParser(prog="serving.worker")
    parser.add_argument(
        "--models", type=Path, required=True, help="file in which the models process writes how to join it"
    )
    parser.add_argument("--ready", type=Path, required=True, help="written when jobs can be taken")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # until the queue's own handlers are installed
    write_json_logs()
    logging.getLogger("procrastinate.blueprints").setLevel(logging.ERROR)  # tasks are registered by name, not by module
    ready: Path = options.ready
    models = _connect_to_ray(options.models)
    try:
        asyncio.run(work(Settings(), models, ready.touch))
    finally:
        ready.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
