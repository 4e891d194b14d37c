"""The worker on a real queue: a job is done once, tried again where that may help, and never lost."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from procrastinate import App

from comms.kernel.database import Actor
from comms.outbox.jobs import MESSAGES, PROCESS_RECORDING
from comms.web.context import House
from instance.provisioning import Databases
from models.contract.errors import refused
from serving.worker import give_on_stalled, open_queue, register_tasks, start_reading, start_unread
from tests import factories
from tests.comms.messaging_fixtures import Talk
from tests.fakes import ScriptedModels
from tests.serving.quiet_models import QuietModels, down

pytestmark = pytest.mark.anyio


class Shift:
    """A worker's queue of a test's own, with one recording waiting in it."""

    def __init__(self, queue: App, name: str, manager: Actor, recording_id: UUID, databases: Databases) -> None:
        self.queue = queue
        self.name = name
        self.manager = manager
        self.recording_id = recording_id
        self._administrator = databases.administrator

    async def work(self) -> None:
        """Does what is due now, and returns."""
        await self.queue.run_worker_async(queues=[self.name], wait=False, install_signal_handlers=False)

    async def recording(self, house: House) -> dict[str, Any]:
        [row] = await factories.rows(
            house, self.manager, "select status, parked_reason from recordings where id = %s", self.recording_id
        )
        return row

    def job(self) -> dict[str, Any]:
        statement = "select status, attempts from procrastinate.procrastinate_jobs where queue_name = %s"
        with psycopg.connect(self._administrator, row_factory=psycopg.rows.dict_row) as conn:
            [row] = conn.execute(statement, (self.name,)).fetchall()
        return row

    def change(self, statement: str) -> None:
        """Lets time pass: a change of the queue's rows by the administrator."""
        with psycopg.connect(self._administrator, options="-c search_path=procrastinate") as conn:
            conn.execute(statement.encode(), {"queue": self.name})

    def make_due(self) -> None:
        self.change("update procrastinate.procrastinate_jobs set scheduled_at = now() where queue_name = %(queue)s")


@pytest.fixture
async def shift(house: House, databases: Databases) -> AsyncIterator[Shift]:
    manager, _, session_id = await factories.make_call(house)
    recording = await factories.store_recording(house, manager, session_id)
    queue = open_queue(databases.worker)
    async with queue.open_async():
        found = Shift(queue, factories.new_slug("queue"), manager, recording.id, databases)
        deferrer = queue.configure_task(PROCESS_RECORDING, queue=found.name)
        await deferrer.defer_async(tenant_id=str(manager.tenant_id), recording_id=str(recording.id))
        yield found


async def test_a_recording_is_walked_once_however_often_its_job_is_done(
    shift: Shift, house: House, worker_house: House
) -> None:
    models = QuietModels()
    register_tasks(shift.queue, worker_house, lambda: models)
    await shift.work()
    assert await shift.recording(house) == {"status": "ready", "parked_reason": None}
    deferrer = shift.queue.configure_task(PROCESS_RECORDING, queue=shift.name)
    await deferrer.defer_async(tenant_id=str(shift.manager.tenant_id), recording_id=str(shift.recording_id))
    await shift.work()
    assert models.heard == 1


async def test_what_may_pass_is_tried_again_later(shift: Shift, house: House, worker_house: House) -> None:
    models = QuietModels(down())
    register_tasks(shift.queue, worker_house, lambda: models)
    await shift.work()
    assert shift.job() == {"status": "todo", "attempts": 1}
    assert (await shift.recording(house))["status"] == "processing"
    shift.make_due()
    await shift.work()
    assert (await shift.recording(house))["status"] == "ready"


@pytest.mark.parametrize(
    ("failure", "reason"),
    [(down(), "models-unavailable"), (ZeroDivisionError("quoting somebody"), "processing-failed")],
    ids=["unavailable", "our own mistake"],
)
async def test_what_does_not_pass_is_parked_with_the_reason(
    shift: Shift, house: House, worker_house: House, failure: Exception, reason: str
) -> None:
    models = QuietModels(*[failure] * worker_house.settings.job_attempts)
    register_tasks(shift.queue, worker_house, lambda: models)
    for _ in range(worker_house.settings.job_attempts):
        shift.make_due()
        await shift.work()
    assert await shift.recording(house) == {"status": "parked", "parked_reason": reason}
    assert shift.job()["status"] == "succeeded"


async def test_what_trying_cannot_mend_is_parked_at_once(shift: Shift, house: House, worker_house: House) -> None:
    register_tasks(shift.queue, worker_house, lambda: QuietModels(refused("not-this-one", "Not this one.")))
    await shift.work()
    assert await shift.recording(house) == {"status": "parked", "parked_reason": "not-this-one"}


async def test_a_silent_workers_job_is_given_on_and_finished_by_the_next(
    shift: Shift, house: House, worker_house: House
) -> None:
    models = QuietModels()
    register_tasks(shift.queue, worker_house, lambda: models)
    silent = await shift.queue.job_manager.register_worker()
    assert await shift.queue.job_manager.fetch_job([shift.name], silent) is not None
    await give_on_stalled(shift.queue, 30.0)
    assert shift.job()["status"] == "doing"  # its heart has only just beaten
    shift.change(
        "update procrastinate.procrastinate_workers set last_heartbeat = now() - interval '1 hour' where id = "
        "(select worker_id from procrastinate.procrastinate_jobs where queue_name = %(queue)s)"
    )
    await give_on_stalled(shift.queue, 30.0)
    await shift.work()
    assert (await shift.recording(house))["status"] == "ready"
    assert models.heard == 1


async def test_a_job_that_its_workers_die_of_is_parked(shift: Shift, house: House, worker_house: House) -> None:
    register_tasks(shift.queue, worker_house, QuietModels)
    most = worker_house.settings.job_attempts
    shift.change(f"update procrastinate.procrastinate_jobs set attempts = {most} where queue_name = %(queue)s")
    await shift.work()
    assert await shift.recording(house) == {"status": "parked", "parked_reason": "tried-too-often"}


async def test_what_nobody_told_of_is_found_by_the_sweep_and_read_once(
    client: httpx.AsyncClient, house: House, worker_house: House, databases: Databases
) -> None:
    talk = Talk(client, house)
    manager = await factories.make_actor(house, "care_manager")
    reviewer = await talk.person(manager, "reviewer")
    await factories.put_in_force(house, manager, "analyse", "public_task")
    conversation = await talk.begin(manager, await talk.person(manager))
    words = f"He grabbed my arm. {factories.new_slug('once')}"  # the sweep reads what other tests left, too
    message = await talk.say(manager, conversation, words)
    models = ScriptedModels()
    queue = open_queue(databases.worker)
    async with queue.open_async():
        register_tasks(queue, worker_house, lambda: models)
        for _ in range(2):
            await start_unread(queue, worker_house)  # no relay ran: nobody has told of the message
            await start_unread(queue, worker_house)
            await queue.run_worker_async(queues=[MESSAGES], wait=False, install_signal_handlers=False)
    read = await factories.rows(house, reviewer, "select message_id from message_readings")
    assert [str(row["message_id"]) for row in read] == [message["id"]]
    assert len(await factories.rows(house, reviewer, "select 1 from alerts")) == 1
    assert [turn.text for talk in models.read for turn in talk.turns].count(words) == 1


async def test_a_job_whose_models_are_down_is_over_and_the_messages_come_due_again(
    client: httpx.AsyncClient, house: House, worker_house: House, databases: Databases
) -> None:
    talk = Talk(client, house)
    manager = await factories.make_actor(house, "care_manager")
    reviewer = await talk.person(manager, "reviewer")
    await factories.put_in_force(house, manager, "analyse", "public_task")
    await talk.say(manager, await talk.begin(manager, reviewer), "He grabbed my arm.")

    async def fail() -> None:
        raise down()

    models = [ScriptedModels(before={"safeguarding": fail}), ScriptedModels()]
    queue = open_queue(databases.worker)
    async with queue.open_async():
        register_tasks(queue, worker_house, lambda: models[0])
        await start_reading(queue, manager.tenant_id)
        await queue.run_worker_async(queues=[MESSAGES], wait=False, install_signal_handlers=False)
        statement = "select status from procrastinate.procrastinate_jobs where args ->> 'tenant_id' = %s"
        with psycopg.connect(databases.administrator) as conn:
            assert conn.execute(statement + " and task_name = 'read_messages' and status <> 'succeeded'",
                                (str(manager.tenant_id),)).fetchall() == []  # fmt: skip
            conn.execute("update message_readings_due set due_at = now() where tenant_id = %s", (manager.tenant_id,))
        models.pop(0)
        await start_unread(queue, worker_house)
        await queue.run_worker_async(queues=[MESSAGES], wait=False, install_signal_handlers=False)
    assert len(await factories.rows(house, reviewer, "select 1 from message_readings")) == 1
