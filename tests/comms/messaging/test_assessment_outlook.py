"""Tests of the forecast in the answer to a new message: whether it will be assessed, and if not, what is lacking."""

from typing import Any

import httpx
import pytest

from comms.kernel.database import Actor
from comms.web.context import AppContext
from tests import factories
from tests.comms.messaging_fixtures import MessagingClient

pytestmark = pytest.mark.anyio


async def said(talk: MessagingClient, actor: Actor, conversation: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The forecasts in the answers to sending a message and to editing it."""
    new = {"conversation_id": conversation.rpartition("/")[2], "content": "He grabbed my arm."}
    sent = await talk.ask(actor, "POST", "/api/messages", json=new)
    assert sent.status_code == 201
    path = sent.headers["location"]
    edited = await talk.ask(actor, "PUT", path, json={"content": "He took my arm."}, headers={"If-Match": '"1"'})
    assert edited.status_code == 200
    assert "reading" not in (await talk.ask(actor, "GET", path)).json()
    return sent.json()["reading"], edited.json()["reading"]


async def test_without_a_ground_it_is_the_organisation_s_that_lacks(client: httpx.AsyncClient, ctx: AppContext) -> None:
    talk = MessagingClient(client, ctx)
    carer = await factories.make_actor(ctx)
    conversation = await talk.begin(carer, await talk.person(carer))
    expected = {"will_be_read": False, "reason": "no-lawful-basis", "lacking": "ground", "user_id": None}
    assert await said(talk, carer, conversation) == (expected, expected)


@pytest.mark.parametrize("role", ["care_worker", "resident", "external"])
async def test_without_consent_it_is_the_sender_s_that_lacks_until_they_give_it(
    client: httpx.AsyncClient, ctx: AppContext, role: str
) -> None:
    talk = MessagingClient(client, ctx)
    manager = await factories.make_actor(ctx, "care_manager")
    sender = await talk.person(manager, role)
    conversation = await talk.begin(manager, sender)
    await factories.put_in_force(ctx, manager, "analyse")
    expected = {
        "will_be_read": False, "reason": "consent-missing", "lacking": "consent", "user_id": str(sender.user_id),
    }  # fmt: skip
    assert await said(talk, sender, conversation) == (expected, expected)
    await factories.grant(ctx, manager, sender, "analyse")
    granted = {"will_be_read": True, "reason": "consent-granted", "lacking": None, "user_id": None}
    assert await said(talk, sender, conversation) == (granted, granted)
    await factories.withdraw(ctx, manager, sender, "analyse")
    withdrawn = expected | {"reason": "consent-withdrawn"}
    assert await said(talk, sender, conversation) == (withdrawn, withdrawn)


async def test_another_member_s_lack_does_not_hold_up_one_s_own_message(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    talk = MessagingClient(client, ctx)
    manager = await factories.make_actor(ctx, "care_manager")
    colleague = await talk.person(manager)
    conversation = await talk.begin(manager, colleague)
    await factories.put_in_force(ctx, manager, "analyse", "public_task")
    await factories.withdraw(ctx, manager, colleague, "analyse")
    assert (await said(talk, manager, conversation))[0]["will_be_read"] is True
    assert (await said(talk, colleague, conversation))[0]["user_id"] == str(colleague.user_id)
