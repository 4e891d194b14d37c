"""Tests that every member of a conversation receives each message once and in order, while sockets drop and
processes are killed.
"""

import pytest

from comms.web.context import AppContext
from instance.provisioning import Databases
from tests.journeys.kill_during_messaging import CLIENTS, run_messaging_with_kills, wrong

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]

MESSAGES = 1000  # `python -m tests.journeys.kill_during_messaging 200000` runs longer


async def test_messages_are_heard_once_and_in_order_though_lines_drop_and_processes_die(
    ctx: AppContext, databases: Databases
) -> None:
    manager, clients, post = await run_messaging_with_kills(ctx, databases, MESSAGES, kills=3)
    assert len(post.acknowledged) == MESSAGES + len(post.ends)
    assert post.asked_again > 0
    assert sum(client.received.connections for client in clients) > CLIENTS
    found = wrong(databases, manager.tenant_id, clients, post)
    assert {what: which for what, which in found.items() if which} == {}
