"""The outbox and its relay: committed events are sent in order, and each starts its job once, whatever process dies."""

import signal
import uuid
from functools import partial
from typing import Any

import psycopg
import pytest

from comms.kernel.database import Actor
from comms.outbox.envelope import SentEvent, envelope
from comms.outbox.queries import emit
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories
from tests.comms import outbox_helpers

pytestmark = pytest.mark.anyio


def stopped(recording_id: uuid.UUID, version: int = 1) -> tuple[Any, ...]:
    return ("session.recording.stopped", recording_id, version, {"recording_id": str(recording_id)})


async def everything_sent(databases: Databases) -> None:
    async def none_waits() -> bool:
        return await outbox_helpers.unsent(databases) == 0

    await outbox_helpers.until(none_waits)


async def test_what_is_undone_was_never_told(ctx: AppContext, databases: Databases) -> None:
    actor = await factories.make_actor(ctx)
    kept, undone = uuid.uuid4(), uuid.uuid4()

    async def write_and_fail() -> None:
        async with ctx.database.acting_as(actor) as conn:
            await emit(conn, actor, "recording.processed", aggregate=("recording", undone), version=1, data={})
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        await write_and_fail()
    await outbox_helpers.write(ctx, actor, ("recording.processed", kept, 1, {}))
    async with outbox_helpers.relaying(databases):
        await everything_sent(databases)
    assert [event["aggregate_id"] for event in await outbox_helpers.sent(databases, actor.tenant_id)] == [kept]


async def test_within_an_aggregate_versions_are_the_order_even_where_the_later_change_began_first(
    ctx: AppContext, databases: Databases
) -> None:
    actor = await factories.make_actor(ctx)
    aggregates = [uuid.uuid4() for _ in range(4)]
    async with ctx.database.acting_as(actor) as early:  # `occurred_at` is when this transaction began
        for version in (1, 2, 3):
            await outbox_helpers.write(ctx, actor, *(("recording.processed", each, version, {}) for each in aggregates))
        for each in reversed(aggregates):
            await emit(early, actor, "recording.processed", aggregate=("recording", each), version=4, data={})
    async with outbox_helpers.relaying(databases):
        await everything_sent(databases)
    events = await outbox_helpers.sent(databases, actor.tenant_id)
    assert len({event["position"] for event in events}) == 16
    for each in aggregates:
        assert [event["version"] for event in events if event["aggregate_id"] == each] == [1, 2, 3, 4]


async def test_order_is_kept_where_an_aggregate_has_more_events_than_a_batch(
    ctx: AppContext, databases: Databases
) -> None:
    actor = await factories.make_actor(ctx)
    chatty, quiet = uuid.uuid4(), uuid.uuid4()
    await outbox_helpers.write(
        ctx, actor, *(("recording.processed", chatty, version, {}) for version in range(450, 0, -1))
    )
    await outbox_helpers.write(ctx, actor, ("recording.processed", quiet, 1, {}))
    async with outbox_helpers.relaying(databases):
        await everything_sent(databases)
    events = await outbox_helpers.sent(databases, actor.tenant_id)
    assert [event["version"] for event in events if event["aggregate_id"] == chatty] == list(range(1, 451))
    assert len(events) == 451


async def test_with_many_waiting_a_sessions_end_is_told_after_what_happened_in_it(
    ctx: AppContext, databases: Databases
) -> None:
    actor = await factories.make_actor(ctx)
    session, recording = uuid.uuid4(), uuid.uuid4()
    await outbox_helpers.write(ctx, actor, *(("recording.processed", uuid.uuid4(), 1, {}) for _ in range(199)))
    await outbox_helpers.write(ctx, actor, ("session.started", session, 1, {}))  # the last of the first batch
    await outbox_helpers.write(ctx, actor, ("session.recording.started", recording, 1, {}))
    await outbox_helpers.write(ctx, actor, ("session.ended", session, 2, {}))
    async with outbox_helpers.relaying(databases):
        await everything_sent(databases)
    told = [event["type"] for event in await outbox_helpers.sent(databases, actor.tenant_id)][-3:]
    assert [type.removeprefix("writecareconnect.") for type in told] == [
        "session.started", "session.recording.started", "session.ended",
    ]  # fmt: skip


async def test_a_stopped_recording_starts_one_job_that_carries_ids_alone(ctx: AppContext, databases: Databases) -> None:
    actor = await factories.make_actor(ctx)
    recording = uuid.uuid4()
    await outbox_helpers.write(ctx, actor, stopped(recording), ("recording.processed", recording, 2, {}))
    async with outbox_helpers.relaying(databases):
        await everything_sent(databases)
        await outbox_helpers.write(ctx, actor, stopped(recording, 3))  # stopped again while the first job still waits
        await everything_sent(databases)
    assert await outbox_helpers.jobs_of(databases, actor.tenant_id) == [
        {
            "task_name": "process_recording", "lock": str(recording),
            "args": {"tenant_id": str(actor.tenant_id), "recording_id": str(recording)},
        }
    ]  # fmt: skip
    assert len(await outbox_helpers.sent(databases, actor.tenant_id)) == 3


async def test_a_burst_of_messages_and_a_change_of_consent_are_one_job_of_the_tenant_in_a_lane_of_its_own(
    ctx: AppContext, databases: Databases
) -> None:
    actor, other = await factories.make_actor(ctx), await factories.make_actor(ctx)
    for number in range(5):
        await outbox_helpers.write(ctx, actor, ("message.sent", uuid.uuid4(), number, {}))
    await outbox_helpers.write(
        ctx, actor, ("message.edited", uuid.uuid4(), 1, {}), ("consent.changed", uuid.uuid4(), 1, {})
    )
    await outbox_helpers.write(ctx, other, ("message.sent", uuid.uuid4(), 1, {}))
    async with outbox_helpers.relaying(databases):
        await everything_sent(databases)
    for person in (actor, other):
        [job] = await outbox_helpers.jobs_of(databases, person.tenant_id)
        assert job == {
            "task_name": "read_messages", "lock": f"read_messages:{person.tenant_id}",
            "args": {"tenant_id": str(person.tenant_id)},
        }  # fmt: skip
    lanes = await outbox_helpers.query_as_admin(
        databases,
        "select distinct queue_name from procrastinate.procrastinate_jobs where args ->> 'tenant_id' = %s",
        str(actor.tenant_id),
    )
    assert lanes == [{"queue_name": "messages"}]


async def test_an_event_that_lacks_its_recording_holds_up_nobody(ctx: AppContext, databases: Databases) -> None:
    actor = await factories.make_actor(ctx)
    await outbox_helpers.write(ctx, actor, ("session.recording.stopped", uuid.uuid4(), 1, {}))
    async with outbox_helpers.relaying(databases):
        await everything_sent(databases)
    assert await outbox_helpers.jobs_of(databases, actor.tenant_id) == []
    assert len(await outbox_helpers.sent(databases, actor.tenant_id)) == 1


async def test_a_relay_killed_in_the_middle_of_a_batch_loses_nothing_and_starts_no_job_twice(
    ctx: AppContext, databases: Databases
) -> None:
    actor = await factories.make_actor(ctx)
    recordings = [uuid.uuid4() for _ in range(20)]
    await outbox_helpers.write(ctx, actor, *(stopped(each) for each in recordings))
    in_queue = "-c search_path=procrastinate"
    async with await psycopg.AsyncConnection.connect(databases.administrator, options=in_queue) as obstacle:
        # An open transaction holds the queueing lock of the tenth job: the relay has deferred nine jobs in its own
        # transaction and waits.
        await obstacle.execute(
            "insert into procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, "
            "status) values ('default', 'obstacle', 0, 'x', %s, '{}', 'todo')",
            (f"process_recording:{recordings[9]}",),
        )
        victim = outbox_helpers.start_relay(databases)

        async def waits() -> bool:
            assert victim.poll() is None
            found = await outbox_helpers.query_as_admin(
                databases,
                "select 1 from pg_stat_activity "
                "where application_name = 'writecare-relay' and wait_event_type = 'Lock'",
            )
            return len(found) == 1

        await outbox_helpers.until(waits)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        await obstacle.rollback()
    assert await outbox_helpers.sent(databases, actor.tenant_id) == []
    assert await outbox_helpers.jobs_of(databases, actor.tenant_id) == []

    successor = outbox_helpers.start_relay(databases)
    await everything_sent(databases)
    successor.send_signal(signal.SIGTERM)
    assert successor.wait() == 0
    events = await outbox_helpers.sent(databases, actor.tenant_id)
    assert {event["aggregate_id"] for event in events} == set(recordings)
    assert len({event["position"] for event in events}) == len(recordings)
    jobs = await outbox_helpers.jobs_of(databases, actor.tenant_id)
    assert sorted(job["lock"] for job in jobs) == sorted(map(str, recordings))


async def test_of_two_relays_one_sends_and_the_other_takes_over(ctx: AppContext, databases: Databases) -> None:
    actor = await factories.make_actor(ctx)
    first, second = outbox_helpers.start_relay(databases), outbox_helpers.start_relay(databases)
    rounds = [[uuid.uuid4() for _ in range(30)] for _ in range(2)]
    try:
        await outbox_helpers.until(
            partial(outbox_helpers.leaders_running, databases, 2)
        )  # a process that is still importing ignores signals
        await outbox_helpers.write(ctx, actor, *(stopped(each) for each in rounds[0]))
        await everything_sent(databases)
        first.send_signal(signal.SIGINT)
        assert first.wait() == 0
        await outbox_helpers.write(ctx, actor, *(stopped(each) for each in rounds[1]))
        await everything_sent(databases)
    finally:
        for process in (first, second):
            process.terminate()
            process.wait()
    events = await outbox_helpers.sent(databases, actor.tenant_id)
    assert {event["aggregate_id"] for event in events} == set(rounds[0] + rounds[1])
    assert len({event["position"] for event in events}) == 60
    assert len(await outbox_helpers.jobs_of(databases, actor.tenant_id)) == 60


async def test_a_relay_whose_connection_is_cut_comes_back(ctx: AppContext, databases: Databases) -> None:
    actor = await factories.make_actor(ctx)
    async with outbox_helpers.relaying(databases):
        for version in (1, 2, 3):
            await outbox_helpers.query_as_admin(
                databases,
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'writecare-relay'",
            )
            await outbox_helpers.write(ctx, actor, ("recording.processed", uuid.uuid4(), version, {}))
            await everything_sent(databases)
    assert len(await outbox_helpers.sent(databases, actor.tenant_id)) == 3


async def test_a_batch_is_notified_once_with_its_tenants_alone_and_writers_notify_nobody(
    ctx: AppContext, databases: Databases
) -> None:
    actor = await factories.make_actor(ctx)
    async with await psycopg.AsyncConnection.connect(databases.administrator, autocommit=True) as ear:
        await ear.execute("listen events")
        await outbox_helpers.write(ctx, actor, *(("recording.processed", uuid.uuid4(), 1, {}) for _ in range(50)))
        assert [heard async for heard in ear.notifies(timeout=0.2)] == []
        async with outbox_helpers.relaying(databases):
            await everything_sent(databases)
        heard = [heard.payload async for heard in ear.notifies(timeout=0.5)]
    assert heard == [str(actor.tenant_id)]


async def test_the_relays_role_sees_the_outbox_and_nothing_else(databases: Databases) -> None:
    async with await psycopg.AsyncConnection.connect(databases.relay, autocommit=True) as conn:
        for table in ("users", "utterances", "alerts", "audit_log", "ws_tickets", "consent_records"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await conn.execute(f"select 1 from {table}".encode())
        for statement in ("delete from events", "update events set data = '{}'"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await conn.execute(statement.encode())


async def test_as_a_member_of_another_tenant_sees_no_event(ctx: AppContext) -> None:
    here, elsewhere = await factories.make_actor(ctx), await factories.make_actor(ctx)
    await outbox_helpers.write(ctx, here, ("recording.processed", uuid.uuid4(), 1, {}))
    assert await factories.rows(ctx, elsewhere, "select 1 from events") == []
    forged = Actor(elsewhere.tenant_id, elsewhere.user_id, "platform_admin")
    assert await factories.rows(ctx, forged, "select 1 from events") == []


async def test_an_envelope_is_a_cloud_event_that_keeps_its_id(ctx: AppContext, databases: Databases) -> None:
    actor = await factories.make_actor(ctx)
    recording = uuid.uuid4()
    await outbox_helpers.write(ctx, actor, ("recording.processed", recording, 7, {"recording_id": str(recording)}))
    async with outbox_helpers.relaying(databases):
        await everything_sent(databases)
    row = (
        await factories.rows(
            ctx, actor,
            "select tenant_id, id, type, aggregate_type, aggregate_id, aggregate_version, data, occurred_at, position "
            "from events",
        )
    )[0]  # fmt: skip
    shown = envelope(SentEvent(**row)).model_dump(mode="json")
    assert (shown["specversion"], shown["id"], shown["source"]) == (
        "1.0",
        str(row["id"]),
        f"/tenants/{actor.tenant_id}",
    )
    assert shown["type"] == "communication.writecarenotes.com.recording.processed"
    assert (shown["subject"], shown["version"]) == (f"recording/{recording}", 7)
    assert shown["data"] == {"recording_id": str(recording)}
