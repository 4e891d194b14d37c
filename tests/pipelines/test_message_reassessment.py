"""The last messages before a new one are read again with it: a later reading may raise, and takes nothing back."""

from typing import Any

import httpx
import pytest

from comms.web.context import House
from instance.provisioning import Databases
from tests import factories
from tests.comms.messaging_fixtures import Talk
from tests.fakes import ScriptedModels
from tests.pipelines.message_fixtures import Room

pytestmark = pytest.mark.anyio

SEEN = {"If-Match": '"1"'}  # a decision on the alert as it was raised

CALM = ScriptedModels(finds="")


@pytest.fixture
async def room(client: httpx.AsyncClient, house: House, worker_house: House, databases: Databases) -> Room:
    made = Room(Talk(client, house), house, worker_house, databases)
    await made.furnish()
    return made


async def looks(room: Room, message: dict[str, Any]) -> list[tuple[bool, int, int]]:
    """The readings of a message in order: whether again, how many turns before and after."""
    found = await room.see(
        "select again, turns_before, turns_after from message_readings where message_id = %s order by id", message["id"]
    )
    return [(row["again"], row["turns_before"], row["turns_after"]) for row in found]


async def cited(room: Room) -> list[str]:
    """The messages that alerts cite, in order of citing."""
    return [str(row["message_id"]) for row in await room.see("select message_id from alert_evidence order by id")]


async def test_the_last_two_are_read_again_with_what_came_after_and_both_readings_are_kept(room: Room) -> None:
    said = []
    for line in ("One.", "Two.", "Three.", "Four."):
        said.append(await room.say(room.carer, line))
        await room.read(CALM)
    assert await looks(room, said[0]) == [(False, 0, 0), (True, 0, 1), (True, 0, 2)]
    assert await looks(room, said[1]) == [(False, 1, 0), (True, 1, 1), (True, 1, 2)]
    assert await looks(room, said[3]) == [(False, 3, 0)]


async def test_what_came_after_may_raise_a_concern_that_the_first_reading_did_not(room: Room) -> None:
    first = await room.say(room.resident, "He grabbed me.")
    await room.read(CALM)
    assert await cited(room) == []
    await room.say(room.carer, "Who did?")
    await room.read(ScriptedModels(finds="grabbed"))
    assert await cited(room) == [first["id"]]
    [event] = await room.events()
    assert event["message_ids"] == [first["id"]]


async def test_a_later_reading_without_the_concern_takes_nothing_back(room: Room) -> None:
    first = await room.say(room.resident, "He grabbed me.")
    await room.read(ScriptedModels(finds="grabbed"))
    await room.say(room.resident, "In the play, that is.")
    await room.read(CALM)
    [alert] = await room.see("select state, version from alerts")
    assert (alert["state"], alert["version"]) == ("new", 1)
    assert await cited(room) == [first["id"]]


async def test_what_is_found_again_is_told_of_once_even_after_a_decision(room: Room) -> None:
    await room.say(room.resident, "He grabbed me.")
    await room.read(ScriptedModels(finds="grabbed"))
    [alert] = await room.see("select id from alerts")
    said = {"decision": "dismiss", "reason": "A play."}
    answer = await room.talk.ask(room.lead, "POST", f"/api/alerts/{alert['id']}/review", json=said, headers=SEEN)
    assert answer.status_code == 201, answer.text
    await room.say(room.carer, "Thank you.")
    await room.read(ScriptedModels(finds="grabbed"))
    assert len(await room.see("select 1 from alerts")) == 1
    assert len(await room.events()) == 1


async def test_what_is_read_late_is_read_with_what_came_after_it(room: Room) -> None:
    await room.withdraw(room.resident)
    late = await room.say(room.resident, "He grabbed me.")
    for line in ("One.", "Two.", "Three."):
        await room.say(room.carer, line)
    await room.read(CALM)
    await room.grant(room.resident)
    models = await room.read(ScriptedModels(finds=""))
    assert [turn.text for turn in models.read[0].turns] == ["He grabbed me.", "One.", "Two."]
    assert await looks(room, late) == [(False, 0, 2)]


async def test_words_that_their_sender_does_not_permit_are_not_read_again(room: Room) -> None:
    first = await room.say(room.resident, "He grabbed me.")
    await room.read(CALM)
    await room.withdraw(room.resident)
    await room.say(room.carer, "Who did?")
    models = await room.read(ScriptedModels())
    assert [turn.text for turn in models.read[0].turns] == ["", "Who did?"]
    assert await looks(room, first) == [(False, 0, 0)]


async def test_a_file_without_words_has_a_reading_and_no_vector(room: Room) -> None:
    conversation_id = room.conversation.rpartition("/")[2]
    uploaded = await room.talk.ask(
        room.carer, "POST", "/api/messages/attachments", params={"conversation_id": conversation_id},
        files={"file": ("empty.txt", b" ")},
    )  # fmt: skip
    assert uploaded.status_code == 201, uploaded.text
    with_file = {
        "conversation_id": conversation_id, "message_type": "file", "attachments": [uploaded.json()["id"]],
    }  # fmt: skip
    sent = await room.talk.ask(room.carer, "POST", "/api/messages", json=with_file)
    assert sent.status_code == 201, sent.text
    silent = sent.json()
    said = await room.say(room.carer, "A picture of her room.")
    await room.read(CALM)
    assert await room.readings() == [(silent["id"], 1), (said["id"], 1)]
    assert room.with_vectors() == [said["id"]]


async def test_the_operators_measurements_say_how_far_the_reading_lags_and_not_whose(
    room: Room, client: httpx.AsyncClient, house: House
) -> None:
    before = await unread(client, house)
    await room.say(room.carer, "One.")
    await room.say(room.carer, "Two.")
    assert await unread(client, house) == before + 2
    await room.read(CALM)
    assert await unread(client, house) == before


async def unread(client: httpx.AsyncClient, house: House) -> float:
    """What `/metrics` says of all tenants."""
    lines = (await client.get("/metrics", headers=factories.operator(house))).text.splitlines()
    told = dict(line.rsplit(" ", 1) for line in lines if line.startswith("writecare_message"))
    assert float(told["writecare_message_reading_lag_seconds"]) >= 0
    return float(told["writecare_messages_unread"])
