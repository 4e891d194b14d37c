"""The worker on a real queue: a job is done once, retried if that may help, and never lost."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from procrastinate import App

from comms.kernel.database import Actor
from comms.outbox.jobs import MESSAGES_QUEUE, PROCESS_RECORDING
from comms.web.context import AppContext
from instance.provisioning import Databases
from models.contract.errors import refused
from serving.worker import enqueue_assessment, enqueue_due_assessments, open_queue, register_tasks, requeue_stalled_jobs
from tests import factories
from tests.comms.messaging_fixtures import MessagingClient
from tests.fakes import ScriptedModels
from tests.serving.quiet_models import StubModels, down

pytestmark = pytest.mark.anyio


class WorkerFixture:
    """A worker with the test's own queue, in which one recording waits."""

    def __init__(self, queue: App, name: str, manager: Actor, recording_id: UUID, databases: Databases) -> None:
        self.queue = queue
        self.name = name
        self.manager = manager
        self.recording_id = recording_id
        self._administrator = databases.administrator

    async def work(self) -> None:
        """Processes the jobs that are due now, and returns."""
        await self.queue.run_worker_async(queues=[self.name], wait=False, install_signal_handlers=False)

    async def recording(self, ctx: AppContext) -> dict[str, Any]:
        [row] = await factories.rows(
            ctx, self.manager, "select status, parked_reason from recordings where id = %s", self.recording_id
        )
        return row

    def job(self) -> dict[str, Any]:
        statement = "select status, attempts from procrastinate.procrastinate_jobs where queue_name = %s"
        with psycopg.connect(self._administrator, row_factory=psycopg.rows.dict_row) as conn:
            [row] = conn.execute(statement, (self.name,)).fetchall()
        return row

    def change(self, statement: str) -> None:
        """Changes rows of the queue as administrator, for example to simulate that time has passed."""
        with psycopg.connect(self._administrator, options="-c search_path=procrastinate") as conn:
            conn.execute(statement.encode(), {"queue": self.name})

    def make_due(self) -> None:
        self.change("update procrastinate.procrastinate_jobs set scheduled_at = now() where queue_name = %(queue)s")


@pytest.fixture
async def worker_fixture(ctx: AppContext, databases: Databases) -> AsyncIterator[WorkerFixture]:
    manager, _, session_id = await factories.make_call(ctx)
    recording = await factories.store_recording(ctx, manager, session_id)
    queue = open_queue(databases.worker)
    async with queue.open_async():
        found = WorkerFixture(queue, factories.new_slug("queue"), manager, recording.id, databases)
        deferrer = queue.configure_task(PROCESS_RECORDING, queue=found.name)
        await deferrer.defer_async(tenant_id=str(manager.tenant_id), recording_id=str(recording.id))
        yield found


async def test_a_recording_is_walked_once_however_often_its_job_is_done(
    worker_fixture: WorkerFixture, ctx: AppContext, worker_ctx: AppContext
) -> None:
    models = StubModels()
    register_tasks(worker_fixture.queue, worker_ctx, lambda: models)
    await worker_fixture.work()
    assert await worker_fixture.recording(ctx) == {"status": "ready", "parked_reason": None}
    deferrer = worker_fixture.queue.configure_task(PROCESS_RECORDING, queue=worker_fixture.name)
    await deferrer.defer_async(
        tenant_id=str(worker_fixture.manager.tenant_id), recording_id=str(worker_fixture.recording_id)
    )
    await worker_fixture.work()
    assert models.heard == 1


async def test_what_may_pass_is_tried_again_later(
    worker_fixture: WorkerFixture, ctx: AppContext, worker_ctx: AppContext
) -> None:
    models = StubModels(down())
    register_tasks(worker_fixture.queue, worker_ctx, lambda: models)
    await worker_fixture.work()
    assert worker_fixture.job() == {"status": "todo", "attempts": 1}
    assert (await worker_fixture.recording(ctx))["status"] == "processing"
    worker_fixture.make_due()
    await worker_fixture.work()
    assert (await worker_fixture.recording(ctx))["status"] == "ready"


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(down(), "models-unavailable"), (ZeroDivisionError("quoting somebody"), "processing-failed")],
    ids=["unavailable", "our own mistake"],
)
async def test_what_does_not_pass_is_parked_with_the_reason(
    worker_fixture: WorkerFixture, ctx: AppContext, worker_ctx: AppContext, failure: Exception, reason: str
) -> None:
    models = StubModels(*[failure] * worker_ctx.settings.job_attempts)
    register_tasks(worker_fixture.queue, worker_ctx, lambda: models)
    for _ in range(worker_ctx.settings.job_attempts):
        worker_fixture.make_due()
        await worker_fixture.work()
    assert await worker_fixture.recording(ctx) == {"status": "parked", "parked_reason": reason}
    assert worker_fixture.job()["status"] == "succeeded"


async def test_what_trying_cannot_mend_is_parked_at_once(
    worker_fixture: WorkerFixture, ctx: AppContext, worker_ctx: AppContext
) -> None:
    register_tasks(worker_fixture.queue, worker_ctx, lambda: StubModels(refused("not-this-one", "Not this one.")))
    await worker_fixture.work()
    assert await worker_fixture.recording(ctx) == {"status": "parked", "parked_reason": "not-this-one"}


async def test_a_silent_workers_job_is_given_on_and_finished_by_the_next(
    worker_fixture: WorkerFixture, ctx: AppContext, worker_ctx: AppContext
) -> None:
    models = StubModels()
    register_tasks(worker_fixture.queue, worker_ctx, lambda: models)
    silent = await worker_fixture.queue.job_manager.register_worker()
    assert await worker_fixture.queue.job_manager.fetch_job([worker_fixture.name], silent) is not None
    await requeue_stalled_jobs(worker_fixture.queue, 30.0)
    assert worker_fixture.job()["status"] == "doing"  # its last heartbeat is recent
    worker_fixture.change(
        "update procrastinate.procrastinate_workers set last_heartbeat = now() - interval '1 hour' where id = "
        "(select worker_id from procrastinate.procrastinate_jobs where queue_name = %(queue)s)"
    )
    await requeue_stalled_jobs(worker_fixture.queue, 30.0)
    await worker_fixture.work()
    assert (await worker_fixture.recording(ctx))["status"] == "ready"
    assert models.heard == 1


async def test_a_job_that_its_workers_die_of_is_parked(
    worker_fixture: WorkerFixture, ctx: AppContext, worker_ctx: AppContext
) -> None:
    register_tasks(worker_fixture.queue, worker_ctx, StubModels)
    most = worker_ctx.settings.job_attempts
    worker_fixture.change(f"update procrastinate.procrastinate_jobs set attempts = {most} where queue_name = %(queue)s")
    await worker_fixture.work()
    assert await worker_fixture.recording(ctx) == {"status": "parked", "parked_reason": "tried-too-often"}


async def test_what_nobody_told_of_is_found_by_the_sweep_and_read_once(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> None:
    talk = MessagingClient(client, ctx)
    manager = await factories.make_actor(ctx, "care_manager")
    reviewer = await talk.person(manager, "reviewer")
    await factories.put_in_force(ctx, manager, "analyse", "public_task")
    conversation = await talk.begin(manager, await talk.person(manager))
    # unique, because the sweep also finds messages that other tests left
    words = f"He grabbed my arm. {factories.new_slug('once')}"
    message = await talk.say(manager, conversation, words)
    models = ScriptedModels()
    queue = open_queue(databases.worker)
    async with queue.open_async():
        register_tasks(queue, worker_ctx, lambda: models)
        for _ in range(2):
            await enqueue_due_assessments(queue, worker_ctx)  # no relay runs, so no event announces the message
            await enqueue_due_assessments(queue, worker_ctx)
            await queue.run_worker_async(queues=[MESSAGES_QUEUE], wait=False, install_signal_handlers=False)
    read = await factories.rows(ctx, reviewer, "select message_id from message_readings")
    assert [str(row["message_id"]) for row in read] == [message["id"]]
    assert len(await factories.rows(ctx, reviewer, "select 1 from alerts")) == 1
    assert [turn.text for talk in models.read for turn in talk.turns].count(words) == 1


async def test_a_job_whose_models_are_down_is_over_and_the_messages_come_due_again(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> None:
    talk = MessagingClient(client, ctx)
    manager = await factories.make_actor(ctx, "care_manager")
    reviewer = await talk.person(manager, "reviewer")
    await factories.put_in_force(ctx, manager, "analyse", "public_task")
    await talk.say(manager, await talk.begin(manager, reviewer), "He grabbed my arm.")

    async def fail() -> None:
        raise down()

    models = [ScriptedModels(before={"safeguarding": fail}), ScriptedModels()]
    queue = open_queue(databases.worker)
    async with queue.open_async():
        register_tasks(queue, worker_ctx, lambda: models[0])
        await enqueue_assessment(queue, manager.tenant_id)
        await queue.run_worker_async(queues=[MESSAGES_QUEUE], wait=False, install_signal_handlers=False)
        statement = "select status from procrastinate.procrastinate_jobs where args ->> 'tenant_id' = %s"
        with psycopg.connect(databases.administrator) as conn:
            assert conn.execute(statement + " and task_name = 'read_messages' and status <> 'succeeded'",
                                (str(manager.tenant_id),)).fetchall() == []  # fmt: skip
            conn.execute("update message_readings_due set due_at = now() where tenant_id = %s", (manager.tenant_id,))
        models.pop(0)
        await enqueue_due_assessments(queue, worker_ctx)
        await queue.run_worker_async(queues=[MESSAGES_QUEUE], wait=False, install_signal_handlers=False)
    assert len(await factories.rows(ctx, reviewer, "select 1 from message_readings")) == 1
