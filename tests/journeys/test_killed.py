"""However the processes die, what was acknowledged is there, once, and was told of in order."""

import pytest

from comms.web.context import House
from instance.provisioning import Databases
from tests.journeys.killed import killed_while_at_work, lost_or_doubled

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

KILLS = 6  # of each; `python -m tests.journeys.killed 50` does more


async def test_api_relay_and_worker_killed_at_work_lose_and_double_nothing(house: House, databases: Databases) -> None:
    manager, work = await killed_while_at_work(house, databases, KILLS, seed=11)
    assert len(work.sessions) > KILLS
    assert work.recordings  # how many depends on the machine
    assert work.unanswered > 0
    wrong = lost_or_doubled(databases, manager.tenant_id, work)
    assert {what: found for what, found in wrong.items() if found} == {}
