"""Background tasks end when they are cancelled, even if a cancellation is lost."""

import asyncio

import pytest

from comms.kernel.processes.background_tasks import end
from comms.live.fan_out import open_fan_out
from comms.web.context import AppContext

pytestmark = pytest.mark.anyio


async def test_a_task_that_lost_a_cancellation_is_told_again() -> None:
    lost = 0

    async def hard_of_hearing() -> None:
        nonlocal lost
        while lost < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
        await asyncio.sleep(60)

    task = asyncio.create_task(hard_of_hearing())
    await asyncio.sleep(0)
    await end({task})
    assert (lost, task.cancelled()) == (2, True)


async def test_what_a_task_raised_stays_with_it() -> None:
    async def broken() -> None:
        raise ValueError

    task = asyncio.create_task(broken())
    await asyncio.sleep(0)
    await end({task})
    assert isinstance(task.exception(), ValueError)


@pytest.mark.timeout(60)
async def test_a_feed_that_is_woken_in_the_moment_of_its_end_ends(ctx: AppContext) -> None:
    async with open_fan_out(ctx) as fan_out:
        await asyncio.sleep(0.1)  # its watch task is waiting now
        fan_out.request_revocation_check()
