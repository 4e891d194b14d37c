"""Tests that acknowledged work exists once and its events are sent in order, whenever the processes are killed."""

import pytest

from comms.web.context import AppContext
from instance.provisioning import Databases
from tests.journeys.kill_processes import find_inconsistencies, run_with_kills

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

KILLS = 6  # of each process; `python -m tests.journeys.kill_processes 50` kills more


async def test_api_relay_and_worker_killed_at_work_lose_and_double_nothing(
    ctx: AppContext, databases: Databases
) -> None:
    manager, work = await run_with_kills(ctx, databases, KILLS, seed=11)
    assert len(work.sessions) > KILLS
    assert work.recordings  # the number depends on the machine
    assert work.unanswered > 0
    wrong = find_inconsistencies(databases, manager.tenant_id, work)
    assert {what: found for what, found in wrong.items() if found} == {}
