"""A new message causes another assessment of the messages before it, which may raise concerns but removes none."""

from typing import Any

import httpx
import pytest

from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories
from tests.comms.messaging_fixtures import MessagingClient
from tests.fakes import ScriptedModels
from tests.pipelines.message_fixtures import MessagingScenario

pytestmark = pytest.mark.anyio

SEEN = {"If-Match": '"1"'}  # for a decision on the first version of the alert

CALM = ScriptedModels(finds="")


@pytest.fixture
async def scenario(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> MessagingScenario:
    made = MessagingScenario(MessagingClient(client, ctx), ctx, worker_ctx, databases)
    await made.set_up()
    return made


async def looks(scenario: MessagingScenario, message: dict[str, Any]) -> list[tuple[bool, int, int]]:
    """The assessments of a message in order: whether it is a reassessment, number of turns before and after."""
    found = await scenario.query(
        "select again, turns_before, turns_after from message_readings where message_id = %s order by id", message["id"]
    )
    return [(row["again"], row["turns_before"], row["turns_after"]) for row in found]


async def cited(scenario: MessagingScenario) -> list[str]:
    """The messages that alerts cite, in the order of the evidence."""
    return [str(row["message_id"]) for row in await scenario.query("select message_id from alert_evidence order by id")]


async def test_the_last_two_are_read_again_with_what_came_after_and_both_readings_are_kept(
    scenario: MessagingScenario,
) -> None:
    said = []
    for line in ("One.", "Two.", "Three.", "Four."):
        said.append(await scenario.say(scenario.carer, line))
        await scenario.read(CALM)
    assert await looks(scenario, said[0]) == [(False, 0, 0), (True, 0, 1), (True, 0, 2)]
    assert await looks(scenario, said[1]) == [(False, 1, 0), (True, 1, 1), (True, 1, 2)]
    assert await looks(scenario, said[3]) == [(False, 3, 0)]


async def test_what_came_after_may_raise_a_concern_that_the_first_reading_did_not(scenario: MessagingScenario) -> None:
    first = await scenario.say(scenario.resident, "He grabbed me.")
    await scenario.read(CALM)
    assert await cited(scenario) == []
    await scenario.say(scenario.carer, "Who did?")
    await scenario.read(ScriptedModels(finds="grabbed"))
    assert await cited(scenario) == [first["id"]]
    [event] = await scenario.events()
    assert event["message_ids"] == [first["id"]]


async def test_a_later_reading_without_the_concern_takes_nothing_back(scenario: MessagingScenario) -> None:
    first = await scenario.say(scenario.resident, "He grabbed me.")
    await scenario.read(ScriptedModels(finds="grabbed"))
    await scenario.say(scenario.resident, "In the play, that is.")
    await scenario.read(CALM)
    [alert] = await scenario.query("select state, version from alerts")
    assert (alert["state"], alert["version"]) == ("new", 1)
    assert await cited(scenario) == [first["id"]]


async def test_what_is_found_again_is_told_of_once_even_after_a_decision(scenario: MessagingScenario) -> None:
    await scenario.say(scenario.resident, "He grabbed me.")
    await scenario.read(ScriptedModels(finds="grabbed"))
    [alert] = await scenario.query("select id from alerts")
    said = {"decision": "dismiss", "reason": "A play."}
    answer = await scenario.talk.ask(
        scenario.lead, "POST", f"/api/alerts/{alert['id']}/review", json=said, headers=SEEN
    )
    assert answer.status_code == 201, answer.text
    await scenario.say(scenario.carer, "Thank you.")
    await scenario.read(ScriptedModels(finds="grabbed"))
    assert len(await scenario.query("select 1 from alerts")) == 1
    assert len(await scenario.events()) == 1


async def test_what_is_read_late_is_read_with_what_came_after_it(scenario: MessagingScenario) -> None:
    await scenario.withdraw(scenario.resident)
    late = await scenario.say(scenario.resident, "He grabbed me.")
    for line in ("One.", "Two.", "Three."):
        await scenario.say(scenario.carer, line)
    await scenario.read(CALM)
    await scenario.grant(scenario.resident)
    models = await scenario.read(ScriptedModels(finds=""))
    assert [turn.text for turn in models.read[0].turns] == ["He grabbed me.", "One.", "Two."]
    assert await looks(scenario, late) == [(False, 0, 2)]


async def test_words_that_their_sender_does_not_permit_are_not_read_again(scenario: MessagingScenario) -> None:
    first = await scenario.say(scenario.resident, "He grabbed me.")
    await scenario.read(CALM)
    await scenario.withdraw(scenario.resident)
    await scenario.say(scenario.carer, "Who did?")
    models = await scenario.read(ScriptedModels())
    assert [turn.text for turn in models.read[0].turns] == ["", "Who did?"]
    assert await looks(scenario, first) == [(False, 0, 0)]


async def test_a_file_without_words_has_a_reading_and_no_vector(scenario: MessagingScenario) -> None:
    conversation_id = scenario.conversation.rpartition("/")[2]
    uploaded = await scenario.talk.ask(
        scenario.carer, "POST", "/api/messages/attachments", params={"conversation_id": conversation_id},
        files={"file": ("empty.txt", b" ")},
    )  # fmt: skip
    assert uploaded.status_code == 201, uploaded.text
    with_file = {
        "conversation_id": conversation_id, "message_type": "file", "attachments": [uploaded.json()["id"]],
    }  # fmt: skip
    sent = await scenario.talk.ask(scenario.carer, "POST", "/api/messages", json=with_file)
    assert sent.status_code == 201, sent.text
    silent = sent.json()
    said = await scenario.say(scenario.carer, "A picture of her room.")
    await scenario.read(CALM)
    assert await scenario.readings() == [(silent["id"], 1), (said["id"], 1)]
    assert scenario.with_vectors() == [said["id"]]


async def test_the_operators_measurements_say_how_far_the_reading_lags_and_not_whose(
    scenario: MessagingScenario, client: httpx.AsyncClient, ctx: AppContext
) -> None:
    before = await unread(client, ctx)
    await scenario.say(scenario.carer, "One.")
    await scenario.say(scenario.carer, "Two.")
    assert await unread(client, ctx) == before + 2
    await scenario.read(CALM)
    assert await unread(client, ctx) == before


async def unread(client: httpx.AsyncClient, ctx: AppContext) -> float:
    """The value that `/metrics` reports for all tenants."""
    lines = (await client.get("/metrics", headers=factories.operator(ctx))).text.splitlines()
    told = dict(line.rsplit(" ", 1) for line in lines if line.startswith("writecare_message"))
    assert float(told["writecare_message_reading_lag_seconds"]) >= 0
    return float(told["writecare_messages_unread"])
