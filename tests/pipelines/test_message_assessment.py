"""Messages read for safeguarding on a real database: each version once, under consent, with one alert a matter."""

from typing import Any

import httpx
import psycopg
import pytest

from comms.web.context import House
from instance.provisioning import Databases
from models.contract.errors import WriteCareError, unavailable
from pipelines.message_assessment import read_messages
from tests import factories
from tests.comms.messaging_fixtures import Talk
from tests.fakes import ScriptedModels
from tests.pipelines.message_fixtures import Room

pytestmark = pytest.mark.anyio

SEEN = {"If-Match": '"1"'}  # a decision on the alert as it was raised


@pytest.fixture
async def room(client: httpx.AsyncClient, house: House, worker_house: House, databases: Databases) -> Room:
    made = Room(Talk(client, house), house, worker_house, databases)
    await made.furnish()
    return made


async def test_a_message_is_read_with_the_talk_before_it_and_raises_an_alert(room: Room) -> None:
    await room.say(room.carer, "Morning all.")
    await room.read(ScriptedModels(finds=""))
    told = await room.say(room.resident, "He grabbed my arm.")
    models = await room.read(ScriptedModels(finds="grabbed"))
    [conversation] = models.read
    assert [turn.text for turn in conversation.turns] == ["Morning all.", "He grabbed my arm."]
    assert [person.role for person in conversation.participants] == ["care_worker", "resident"]
    [alert] = await room.see("select id, conversation_id, recording_id, severity, state, version from alerts")
    assert (str(alert["conversation_id"]), alert["recording_id"]) == (told["conversation_id"], None)
    assert (alert["severity"], alert["state"]) == ("high", "new")
    [evidence] = await room.see("select message_id, message_version, model_version from alert_evidence")
    assert (str(evidence["message_id"]), evidence["message_version"]) == (told["id"], 1)
    [event] = await room.events()
    assert event == {
        "alert_id": str(alert["id"]), "conversation_id": told["conversation_id"], "severity": "high",
        "message_ids": [told["id"]],
    }  # fmt: skip
    [reading] = await room.see("select * from message_readings where message_id = %s", told["id"])
    assert (reading["sentiment"], reading["models"]["safeguarding"]) == ("neutral", "test-1")
    assert (reading["turns_before"], reading["turns_after"]) == (1, 0)
    assert room.waiting() == []


async def test_each_version_is_read_once_also_one_that_was_edited_or_deleted_before_it_could_be(room: Room) -> None:
    edited = await room.say(room.carer, "I hit her.")
    await room.edit(room.carer, edited, "I hit traffic.")
    deleted = await room.say(room.carer, "Nobody must know.")
    await room.talk.ask(room.carer, "DELETE", f"/api/messages/{deleted['id']}", headers={"If-Match": '"1"'})
    models = await room.read()
    await room.read()
    assert [turn.text for turn in models.read[0].turns] == ["I hit her.", "I hit traffic.", "Nobody must know."]
    assert await room.readings() == [(edited["id"], 1), (edited["id"], 2), (deleted["id"], 1)]
    assert len(models.read) == 1


async def test_an_edit_of_a_message_that_was_read_is_read_again(room: Room) -> None:
    message = await room.say(room.carer, "All calm.")
    await room.read(ScriptedModels(finds=""))
    await room.edit(room.carer, message, "He grabbed her arm.")
    await room.read()
    assert await room.readings() == [(message["id"], 1), (message["id"], 2)]
    assert len(await room.see("select 1 from alerts")) == 1


async def test_what_follows_within_a_day_joins_the_open_alert_and_is_told_of_under_a_new_version(room: Room) -> None:
    await room.say(room.carer, "He grabbed my arm.")
    await room.read(ScriptedModels(severity="low"))
    await room.say(room.resident, "And he hit me.")
    await room.read()
    [alert] = await room.see("select severity, version from alerts")
    assert (alert["severity"], alert["version"]) == ("high", 2)
    assert len(await room.see("select 1 from alert_evidence")) == 2
    assert [event["severity"] for event in await room.events()] == ["low", "high"]
    assert len(await room.events("safeguarding.alert.high_priority")) == 1
    await room.say(room.resident, "Again.")
    await room.read()
    assert len(await room.events()) == 3
    assert len(await room.events("safeguarding.alert.high_priority")) == 1  # it is no graver than before


async def test_after_a_decision_or_another_day_a_further_concern_is_an_alert_of_its_own(
    room: Room, databases: Databases
) -> None:
    await room.say(room.carer, "He grabbed my arm.")
    await room.read()
    [first] = await room.see("select id from alerts")
    said = {"decision": "confirm", "reason": "It is so."}
    answer = await room.talk.ask(room.lead, "POST", f"/api/alerts/{first['id']}/review", json=said, headers=SEEN)
    assert answer.status_code == 201, answer.text
    await room.say(room.carer, "And again.")
    await room.read()
    assert len(await room.see("select 1 from alerts")) == 2
    with psycopg.connect(databases.administrator) as conn:  # two days pass
        conn.execute(
            "update alert_evidence set id = app.first_id(now() - interval '2 days' + random() * interval '1 second') "
            "where tenant_id = %s", (room.tenant_id,),
        )  # fmt: skip
    await room.say(room.carer, "Once more.")
    await room.read()
    assert len(await room.see("select 1 from alerts")) == 3


async def test_without_permission_there_is_no_reading_before_it_comes(room: Room) -> None:
    await room.withdraw(room.resident)
    barred = await room.say(room.resident, "He grabbed my arm.")
    read = await room.say(room.carer, "What did you say?")
    models = await room.read()
    assert [turn.text for turn in models.read[0].turns] == ["", "What did you say?"]
    assert await room.readings() == [(read["id"], 1)]
    assert room.waiting() == [(barred["id"], 1, "consent-withdrawn")]
    await room.grant(room.resident)
    await room.read()
    assert await room.readings() == [(barred["id"], 1), (read["id"], 1)]
    assert room.waiting() == []


async def test_without_a_ground_nothing_is_read_and_the_whole_is_once_there_is_one(
    client: httpx.AsyncClient, house: House, worker_house: House, databases: Databases
) -> None:
    made = Room(Talk(client, house), house, worker_house, databases)
    made.manager = await factories.make_actor(house, "care_manager")
    made.lead = await made.talk.person(made.manager, "safeguarding_lead")
    made.conversation = await made.talk.begin(made.manager, made.lead)
    message = await made.say(made.manager, "He grabbed my arm.")
    assert (await made.read()).read == []
    assert made.waiting() == [(message["id"], 1, "no-lawful-basis")]
    await factories.put_in_force(house, made.manager, "analyse", "public_task")
    await made.read()
    assert await made.readings() == [(message["id"], 1)]


@pytest.mark.parametrize("capability", ["safeguarding", "sentiment", "embedding"])
async def test_permission_taken_back_while_the_models_work_leaves_nothing_of_that_work(
    room: Room, capability: str
) -> None:
    await room.say(room.resident, "He grabbed my arm.")
    await room.read(ScriptedModels(finds=""))
    answer = await room.say(room.carer, "Who did?")

    async def take_back() -> None:
        await room.withdraw(room.resident)

    await room.read(ScriptedModels(before={capability: take_back}))
    assert (answer["id"], 1) not in await room.readings()  # its reading rested on the resident's words
    assert await room.see("select 1 from alerts") == []
    room.let_time_pass()
    models = await room.read()
    assert [turn.text for turn in models.read[0].turns] == ["", "Who did?"]
    assert (answer["id"], 1) in await room.readings()


async def test_what_a_worker_leaves_that_dies_is_read_by_the_next(room: Room) -> None:
    message = await room.say(room.carer, "He grabbed my arm.")

    async def die() -> None:
        raise unavailable("worker-stopping", "Killed between the models and the keeping.")

    with pytest.raises(WriteCareError):
        await room.read(ScriptedModels(before={"sentiment": die}))
    assert await room.see("select 1 from message_readings") == await room.see("select 1 from alerts") == []
    assert (await room.read()).read == []  # it is still the other's, for a while
    room.let_time_pass()
    await room.read()
    assert await room.readings() == [(message["id"], 1)]
    assert len(await room.see("select 1 from alerts")) == 1


async def test_two_workers_that_read_the_same_keep_it_once(room: Room) -> None:
    message = await room.say(room.carer, "He grabbed my arm.")

    async def be_overtaken() -> None:
        room.let_time_pass()
        await room.read()

    await room.read(ScriptedModels(before={"safeguarding": be_overtaken}))
    assert await room.readings() == [(message["id"], 1)]
    assert len(await room.see("select 1 from alert_evidence")) == 1
    assert len(await room.events()) == 1


async def test_a_message_that_the_models_fail_of_does_not_keep_the_others_unread_for_ever(room: Room) -> None:
    await room.say(room.carer, "poison")
    other = await room.talk.begin(room.carer, room.manager)
    read = await room.talk.say(room.carer, other, "He grabbed my arm.")

    class Failing(ScriptedModels):
        async def judge(self, conversations: Any) -> Any:
            if any(turn.text == "poison" for talk in conversations for turn in talk.turns):
                raise unavailable("models-unavailable", "The model cannot answer just now.")
            return await super().judge(conversations)

    for _ in range(3):
        room.let_time_pass()
        with pytest.raises(WriteCareError):
            await room.read(Failing())
    room.let_time_pass()
    with pytest.raises(WriteCareError):
        await room.read(Failing())
    assert (read["id"], 1) in await room.readings()


async def test_another_tenants_messages_are_not_read(room: Room, house: House) -> None:
    await room.say(room.carer, "He grabbed my arm.")
    stranger = await factories.make_actor(house, "care_manager")
    models = ScriptedModels()
    await read_messages(room.worker_house, lambda: models, stranger.tenant_id)
    assert models.read == []
    assert len(room.waiting()) == 1


async def test_a_message_in_a_language_that_the_readers_do_not_know_is_brought_to_a_person(room: Room) -> None:
    await room.say(room.carer, "Morning all.")
    told = await room.say(room.resident, "On mnie bije każdej nocy, boję się")
    await room.read(ScriptedModels(finds=""))
    found = await room.see("select message_id, unread_language from message_readings where unread_language is not null")
    assert [(str(row["message_id"]), row["unread_language"]) for row in found] == [(told["id"], "pl")]
    signs = await room.talk.ask(room.lead, "GET", "/api/ai/risk-indicators")
    assert signs.json()["not_read"] == {"recordings": [], "conversations": [told["conversation_id"]]}
