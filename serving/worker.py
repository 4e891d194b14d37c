"""The worker: claims recordings from the durable queue and walks them (`python -m serving.worker`).

At least once: a job belongs to a worker whose heart beats; one whose worker has gone silent is given on, and the
pipeline, being idempotent, finishes it once. Never lost: what may pass is tried again with growing pauses, and what
does not, or too often, leaves its recording parked with the reason, for a person.
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

_MAX_CONCURRENT: Final = 2  # while one recording is heard, another can be read; and as many tenants' messages
_CONNECTIONS: Final = 6
_GRACE_SECONDS: Final = 3.0
_FIRST_PAUSE_SECONDS: Final = 2
_LONGEST_PAUSE_SECONDS: Final = 300
_EXPLANATION_PAUSE_SECONDS: Final = 1  # of a tenant's evidence, so that under load it has a small share and no more
# What is down comes back; what failed on this very recording will most likely fail on it again.
_UNLIKELY_TO_PASS: Final = frozenset({"processing-failed", "model-failed"})
_MOST_TRIES_UNLIKELY: Final = 3


@dataclass(frozen=True)
class _QueueConfig:
    """A queue that is worked apart from the others. `delete_condition`: which jobs leave it once they are over."""

    name: str
    poll_seconds: float
    delete_condition: DeleteJobCondition
    max_concurrent: int = _MAX_CONCURRENT


# A job waits for the one before it of its tenant, and nothing tells the queue when that is over: it looks. Of messages
# there are as many jobs as bursts, and a message's reading says itself that it was read.
_QUEUES: Final = (
    _QueueConfig(RECORDINGS_QUEUE, 1.0, DeleteJobCondition.NEVER),
    _QueueConfig(MESSAGES_QUEUE, 0.25, DeleteJobCondition.SUCCESSFUL),
    _QueueConfig(EVIDENCE_QUEUE, 1.0, DeleteJobCondition.SUCCESSFUL, max_concurrent=1),
)

_log: Final = structlog.get_logger(__name__)


class RetryTransientErrors(BaseRetryStrategy):
    """Gives a job back with growing pauses where its error may pass. How often, the task itself decides."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if not (isinstance(exception, WriteCareError) and is_retried(exception)):
            return None
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(job.attempts, 10))
        return RetryDecision(retry_in={"seconds": pause})


def open_queue(url: str) -> App:
    """The durable queue, in procrastinate's own schema; opens nothing yet."""
    return App(connector=PsycopgConnector(conninfo=url, kwargs={"options": "-c search_path=procrastinate"}, max_size=8))


def register_tasks(queue: App, ctx: AppContext, models: Callable[[], Models]) -> None:
    """Makes the queue's tasks known; `models` gives a fresh view of the models for each job."""

    @queue.task(name=PROCESS_RECORDING, pass_context=True, retry=RetryTransientErrors())
    async def process(context: JobContext, tenant_id: str, recording_id: str) -> None:
        tenant, recording = UUID(tenant_id), UUID(recording_id)
        attempts = context.job.attempts
        if attempts >= ctx.settings.job_attempts:  # its workers died of it, or were stopped too often
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
            # Not tried again by the queue: what was not kept comes due again, and the sweep starts the job for it.
            _log.warning("messages are not read yet", tenant_id=tenant_id, reason=error.slug)

    @queue.task(name=EXPLAIN_MESSAGES)
    async def explain(tenant_id: str) -> None:
        tenant = UUID(tenant_id)
        try:
            await _with_error_translation(lambda: _explain_and_requeue(queue, ctx, models, tenant))
        except WriteCareError as error:
            _log.warning("evidence is not explained yet", tenant_id=tenant_id, reason=error.slug)  # comes due again too


async def _assess_and_requeue(queue: App, ctx: AppContext, models: Callable[[], Models], tenant_id: UUID) -> None:
    if await assess_messages(ctx, models, tenant_id):
        await enqueue_assessment(
            queue, tenant_id
        )  # after others' that wait: a tenant's many do not hold up another's few


async def _explain_and_requeue(queue: App, ctx: AppContext, models: Callable[[], Models], tenant_id: UUID) -> None:
    if await explain_messages(ctx, models(), tenant_id):
        await enqueue_explanation(queue, tenant_id, pause_seconds=_EXPLANATION_PAUSE_SECONDS)


async def enqueue_assessment(queue: App, tenant_id: UUID) -> None:
    """Puts the job in the queue that reads what is due in the tenant; nothing where one waits there already."""
    await _enqueue(read_messages_job(queue, tenant_id))


async def enqueue_explanation(queue: App, tenant_id: UUID, pause_seconds: int = 0) -> None:
    """As `enqueue_assessment`, the job that finds the evidence's spans; it is begun after the pause."""
    await _enqueue(explain_messages_job(queue, tenant_id, pause_seconds=pause_seconds))


async def _enqueue(job: JobDeferrer) -> None:
    try:
        await job.defer_async()
    except AlreadyEnqueued:
        return


async def _with_error_translation(work: Callable[[], Awaitable[None]]) -> None:
    """Runs `work`; whatever is raised becomes an error of ours, told by type and place: its text may quote words."""
    try:
        await work()
    except WriteCareError:
        raise
    except asyncio.CancelledError:
        # The worker is being stopped: the job goes back to the queue instead of being taken for done or failed.
        raise unavailable("worker-stopping", "The worker was stopped; another goes on.") from None
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        _log.error("processing failed", error=type(error).__name__, at=[f"{f.name}:{f.lineno}" for f in frames])
        raise unavailable("processing-failed", f"Processing failed ({type(error).__name__}); it is logged.") from None


async def requeue_stalled_jobs(queue: App, heartbeat_timeout: float) -> int:
    """Puts jobs back whose worker has been silent for so long; returns how many."""
    given = 0
    for job in await queue.job_manager.get_stalled_jobs(seconds_since_heartbeat=heartbeat_timeout):
        assert job.id is not None, "a job that was taken has an id"
        try:
            await queue.job_manager.retry_job(job)
        except ConnectorException:
            # The same recording waits in the queue already: that job does the work, this one is over.
            await queue.job_manager.finish_job_by_id_async(job_id=job.id, status=Status.FAILED, delete_job=False)
        given += 1
        _log.warning("job of a silent worker given on", job_id=job.id, attempts=job.attempts)
    return given


async def enqueue_due_assessments(queue: App, ctx: AppContext) -> None:
    """Starts the reading of whatever waits in any tenant: what a killed worker left, what came due again."""
    async with ctx.database.without_tenant() as conn:
        tenants = await tenants_with_unassessed(conn)
    for tenant_id in tenants:
        await enqueue_assessment(queue, tenant_id)


async def enqueue_due_explanations(queue: App, ctx: AppContext) -> None:
    """Starts the looking for whatever evidence waits for its spans in any tenant."""
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
    """Works until SIGTERM or SIGINT; `ready` is called once jobs can be taken."""
    assert settings.role_database_url is not None, "the launcher names the worker's door to the database"
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
                queue_config.result()  # a lane ends by itself only where it failed: the launcher starts another worker
        finally:
            for queue_config in queue_tasks:
                queue_config.cancel()  # once: each then waits its grace for what it works on
            await asyncio.wait(queue_tasks, timeout=_GRACE_SECONDS + 1)
            await end({sweeper, stop_requested, *queue_tasks})


async def _run_queue(queue: App, queue_config: _QueueConfig, heartbeat_timeout: float) -> None:
    await queue.run_worker_async(
        queues=[queue_config.name], concurrency=queue_config.max_concurrent, shutdown_graceful_timeout=_GRACE_SECONDS,
        install_signal_handlers=False, fetch_job_polling_interval=queue_config.poll_seconds,
        update_heartbeat_interval=heartbeat_timeout / 3, stalled_worker_timeout=heartbeat_timeout, delete_jobs=queue_config.delete_condition,
    )  # fmt: skip


def _connect_to_ray(models_ready: Path) -> Callable[[], Models]:
    """Joins the cluster of the models' process; what it returns gives each job its own view of the models.

    Waits for the models: meanwhile the seconds of importing Ray have passed already.
    """
    import ray  # noqa: PLC0415 - its environment must be complete before

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
    parser.add_argument("--models", type=Path, required=True, help="where the models' process says how to join it")
    parser.add_argument("--ready", type=Path, required=True, help="written when jobs can be taken")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # until the queue's own handlers stand
    write_json_logs()
    logging.getLogger("procrastinate.blueprints").setLevel(logging.ERROR)  # tasks are known by name, not by module
    ready: Path = options.ready
    models = _connect_to_ray(options.models)
    try:
        asyncio.run(work(Settings(), models, ready.touch))
    finally:
        ready.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
