"""Message assessment on a real database: each version once, only with consent, one alert for connected messages."""

from typing import Any

import httpx
import psycopg
import pytest

from comms.web.context import AppContext
from instance.provisioning import Databases
from models.contract.errors import WriteCareError, unavailable
from pipelines.message_assessment import assess_messages
from tests import factories
from tests.comms.messaging_fixtures import MessagingClient
from tests.fakes import ScriptedModels
from tests.pipelines.message_fixtures import MessagingScenario

pytestmark = pytest.mark.anyio

SEEN = {"If-Match": '"1"'}  # for a decision on the first version of the alert


@pytest.fixture
async def scenario(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> MessagingScenario:
    made = MessagingScenario(MessagingClient(client, ctx), ctx, worker_ctx, databases)
    await made.set_up()
    return made


async def test_a_message_is_read_with_the_talk_before_it_and_raises_an_alert(scenario: MessagingScenario) -> None:
    await scenario.say(scenario.carer, "Morning all.")
    await scenario.read(ScriptedModels(finds=""))
    told = await scenario.say(scenario.resident, "He grabbed my arm.")
    models = await scenario.read(ScriptedModels(finds="grabbed"))
    [conversation] = models.read
    assert [turn.text for turn in conversation.turns] == ["Morning all.", "He grabbed my arm."]
    assert [person.role for person in conversation.participants] == ["care_worker", "resident"]
    [alert] = await scenario.query("select id, conversation_id, recording_id, severity, state, version from alerts")
    assert (str(alert["conversation_id"]), alert["recording_id"]) == (told["conversation_id"], None)
    assert (alert["severity"], alert["state"]) == ("high", "new")
    [evidence] = await scenario.query("select message_id, message_version, model_version from alert_evidence")
    assert (str(evidence["message_id"]), evidence["message_version"]) == (told["id"], 1)
    [event] = await scenario.events()
    assert event == {
        "alert_id": str(alert["id"]), "conversation_id": told["conversation_id"], "severity": "high",
        "message_ids": [told["id"]],
    }  # fmt: skip
    [reading] = await scenario.query("select * from message_readings where message_id = %s", told["id"])
    assert (reading["sentiment"], reading["models"]["safeguarding"]) == ("neutral", "test-1")
    assert (reading["turns_before"], reading["turns_after"]) == (1, 0)
    assert scenario.waiting() == []


async def test_each_version_is_read_once_also_one_that_was_edited_or_deleted_before_it_could_be(
    scenario: MessagingScenario,
) -> None:
    edited = await scenario.say(scenario.carer, "I hit her.")
    await scenario.edit(scenario.carer, edited, "I hit traffic.")
    deleted = await scenario.say(scenario.carer, "Nobody must know.")
    await scenario.talk.ask(scenario.carer, "DELETE", f"/api/messages/{deleted['id']}", headers={"If-Match": '"1"'})
    models = await scenario.read()
    await scenario.read()
    assert [turn.text for turn in models.read[0].turns] == ["I hit her.", "I hit traffic.", "Nobody must know."]
    assert await scenario.readings() == [(edited["id"], 1), (edited["id"], 2), (deleted["id"], 1)]
    assert len(models.read) == 1


async def test_an_edit_of_a_message_that_was_read_is_read_again(scenario: MessagingScenario) -> None:
    message = await scenario.say(scenario.carer, "All calm.")
    await scenario.read(ScriptedModels(finds=""))
    await scenario.edit(scenario.carer, message, "He grabbed her arm.")
    await scenario.read()
    assert await scenario.readings() == [(message["id"], 1), (message["id"], 2)]
    assert len(await scenario.query("select 1 from alerts")) == 1


async def test_what_follows_within_a_day_joins_the_open_alert_and_is_told_of_under_a_new_version(
    scenario: MessagingScenario,
) -> None:
    await scenario.say(scenario.carer, "He grabbed my arm.")
    await scenario.read(ScriptedModels(severity="low"))
    await scenario.say(scenario.resident, "And he hit me.")
    await scenario.read()
    [alert] = await scenario.query("select severity, version from alerts")
    assert (alert["severity"], alert["version"]) == ("high", 2)
    assert len(await scenario.query("select 1 from alert_evidence")) == 2
    assert [event["severity"] for event in await scenario.events()] == ["low", "high"]
    assert len(await scenario.events("safeguarding.alert.high_priority")) == 1
    await scenario.say(scenario.resident, "Again.")
    await scenario.read()
    assert len(await scenario.events()) == 3
    assert len(await scenario.events("safeguarding.alert.high_priority")) == 1  # the severity did not rise


async def test_after_a_decision_or_another_day_a_further_concern_is_an_alert_of_its_own(
    scenario: MessagingScenario, databases: Databases
) -> None:
    await scenario.say(scenario.carer, "He grabbed my arm.")
    await scenario.read()
    [first] = await scenario.query("select id from alerts")
    said = {"decision": "confirm", "reason": "It is so."}
    answer = await scenario.talk.ask(
        scenario.lead, "POST", f"/api/alerts/{first['id']}/review", json=said, headers=SEEN
    )
    assert answer.status_code == 201, answer.text
    await scenario.say(scenario.carer, "And again.")
    await scenario.read()
    assert len(await scenario.query("select 1 from alerts")) == 2
    with psycopg.connect(databases.administrator) as conn:  # as if two days had passed
        conn.execute(
            "update alert_evidence set id = app.first_id(now() - interval '2 days' + random() * interval '1 second') "
            "where tenant_id = %s", (scenario.tenant_id,),
        )  # fmt: skip
    await scenario.say(scenario.carer, "Once more.")
    await scenario.read()
    assert len(await scenario.query("select 1 from alerts")) == 3


async def test_without_permission_there_is_no_reading_before_it_comes(scenario: MessagingScenario) -> None:
    await scenario.withdraw(scenario.resident)
    barred = await scenario.say(scenario.resident, "He grabbed my arm.")
    read = await scenario.say(scenario.carer, "What did you say?")
    models = await scenario.read()
    assert [turn.text for turn in models.read[0].turns] == ["", "What did you say?"]
    assert await scenario.readings() == [(read["id"], 1)]
    assert scenario.waiting() == [(barred["id"], 1, "consent-withdrawn")]
    await scenario.grant(scenario.resident)
    await scenario.read()
    assert await scenario.readings() == [(barred["id"], 1), (read["id"], 1)]
    assert scenario.waiting() == []


async def test_without_a_ground_nothing_is_read_and_the_whole_is_once_there_is_one(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> None:
    made = MessagingScenario(MessagingClient(client, ctx), ctx, worker_ctx, databases)
    made.manager = await factories.make_actor(ctx, "care_manager")
    made.lead = await made.talk.person(made.manager, "safeguarding_lead")
    made.conversation = await made.talk.begin(made.manager, made.lead)
    message = await made.say(made.manager, "He grabbed my arm.")
    assert (await made.read()).read == []
    assert made.waiting() == [(message["id"], 1, "no-lawful-basis")]
    await factories.put_in_force(ctx, made.manager, "analyse", "public_task")
    await made.read()
    assert await made.readings() == [(message["id"], 1)]


@pytest.mark.parametrize("capability", ["safeguarding", "sentiment", "embedding"])
async def test_permission_taken_back_while_the_models_work_leaves_nothing_of_that_work(
    scenario: MessagingScenario, capability: str
) -> None:
    await scenario.say(scenario.resident, "He grabbed my arm.")
    await scenario.read(ScriptedModels(finds=""))
    answer = await scenario.say(scenario.carer, "Who did?")

    async def take_back() -> None:
        await scenario.withdraw(scenario.resident)

    await scenario.read(ScriptedModels(before={capability: take_back}))
    assert (answer["id"], 1) not in await scenario.readings()  # its assessment also used the resident's message
    assert await scenario.query("select 1 from alerts") == []
    scenario.expire_waits()
    models = await scenario.read()
    assert [turn.text for turn in models.read[0].turns] == ["", "Who did?"]
    assert (answer["id"], 1) in await scenario.readings()


async def test_what_a_worker_leaves_that_dies_is_read_by_the_next(scenario: MessagingScenario) -> None:
    message = await scenario.say(scenario.carer, "He grabbed my arm.")

    async def die() -> None:
        raise unavailable("worker-stopping", "Killed after the models ran and before the result was stored.")

    with pytest.raises(WriteCareError):
        await scenario.read(ScriptedModels(before={"sentiment": die}))
    assert await scenario.query("select 1 from message_readings") == await scenario.query("select 1 from alerts") == []
    assert (await scenario.read()).read == []  # still claimed by the other worker, for a while
    scenario.expire_waits()
    await scenario.read()
    assert await scenario.readings() == [(message["id"], 1)]
    assert len(await scenario.query("select 1 from alerts")) == 1


async def test_two_workers_that_read_the_same_keep_it_once(scenario: MessagingScenario) -> None:
    message = await scenario.say(scenario.carer, "He grabbed my arm.")

    async def be_overtaken() -> None:
        scenario.expire_waits()
        await scenario.read()

    await scenario.read(ScriptedModels(before={"safeguarding": be_overtaken}))
    assert await scenario.readings() == [(message["id"], 1)]
    assert len(await scenario.query("select 1 from alert_evidence")) == 1
    assert len(await scenario.events()) == 1


async def test_a_message_that_the_models_fail_of_does_not_keep_the_others_unread_for_ever(
    scenario: MessagingScenario,
) -> None:
    await scenario.say(scenario.carer, "poison")
    other = await scenario.talk.begin(scenario.carer, scenario.manager)
    read = await scenario.talk.say(scenario.carer, other, "He grabbed my arm.")

    class Failing(ScriptedModels):
        async def score(self, conversations: Any) -> Any:
            if any(turn.text == "poison" for talk in conversations for turn in talk.turns):
                raise unavailable("models-unavailable", "The model cannot answer just now.")
            return await super().score(conversations)

    for _ in range(3):
        scenario.expire_waits()
        with pytest.raises(WriteCareError):
            await scenario.read(Failing())
    scenario.expire_waits()
    with pytest.raises(WriteCareError):
        await scenario.read(Failing())
    assert (read["id"], 1) in await scenario.readings()


async def test_another_tenants_messages_are_not_read(scenario: MessagingScenario, ctx: AppContext) -> None:
    await scenario.say(scenario.carer, "He grabbed my arm.")
    stranger = await factories.make_actor(ctx, "care_manager")
    models = ScriptedModels()
    await assess_messages(scenario.worker_ctx, lambda: models, stranger.tenant_id)
    assert models.read == []
    assert len(scenario.waiting()) == 1


async def test_a_message_in_a_language_that_the_readers_do_not_know_is_brought_to_a_person(
    scenario: MessagingScenario,
) -> None:
    await scenario.say(scenario.carer, "Morning all.")
    told = await scenario.say(scenario.resident, "On mnie bije każdej nocy, boję się")
    await scenario.read(ScriptedModels(finds=""))
    found = await scenario.query(
        "select message_id, unread_language from message_readings where unread_language is not null"
    )
    assert [(str(row["message_id"]), row["unread_language"]) for row in found] == [(told["id"], "pl")]
    signs = await scenario.talk.ask(scenario.lead, "GET", "/api/ai/risk-indicators")
    assert signs.json()["not_read"] == {"recordings": [], "conversations": [told["conversation_id"]]}
