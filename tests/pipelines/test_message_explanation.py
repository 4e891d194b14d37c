"""Alerts go up before anybody knows which words moved the model, and say so until it was looked for."""

from collections.abc import Mapping
from typing import Any

import httpx
import psycopg
import pytest

from comms.web.context import House
from instance.provisioning import Databases
from models.contract.errors import WriteCareError, unavailable
from pipelines.message_explanation import explain_messages
from tests.comms.messaging_fixtures import Talk
from tests.fakes import ScriptedModels
from tests.pipelines.message_fixtures import Room

pytestmark = pytest.mark.anyio

GRABBED = "He grabbed my arm."


@pytest.fixture
async def room(client: httpx.AsyncClient, house: House, worker_house: House, databases: Databases) -> Room:
    made = Room(Talk(client, house), house, worker_house, databases)
    await made.furnish()
    return made


async def alert(room: Room, **headers: str) -> httpx.Response:
    """The tenant's one alert, as the lead opens it."""
    [row] = await room.see("select id from alerts")
    return await room.talk.ask(room.lead, "GET", f"/api/alerts/{row['id']}", headers=headers)


async def test_an_alert_is_up_with_its_message_before_the_words_that_moved_the_model_are_found(room: Room) -> None:
    told = await room.say(room.carer, GRABBED)
    await room.read()
    before = await alert(room)
    [evidence] = before.json()["message_evidence"]
    assert (evidence["text"], evidence["spans"], evidence["explained"]) == (GRABBED, [], False)
    models = await room.explain()
    assert [[turn.text for turn in talk.turns] for talk in models.explained] == [[GRABBED]]
    after = await alert(room, **{"If-None-Match": before.headers["etag"]})
    [evidence] = after.json()["message_evidence"]
    assert evidence["explained"]
    assert evidence["spans"] == [{"message_id": told["id"], "version": 1, "start": 0, "end": 2, "weight": 0.5}]
    assert (await alert(room, **{"If-None-Match": after.headers["etag"]})).status_code == 304
    assert len(await room.events()) == 1


async def test_the_words_that_come_later_do_not_put_off_who_is_deciding(room: Room) -> None:
    await room.say(room.carer, GRABBED)
    await room.read()
    seen = await alert(room)
    await room.explain()
    said = {"decision": "confirm", "reason": "It is so."}
    path = f"/api/alerts/{seen.json()['id']}/review"
    decided = await room.talk.ask(room.lead, "POST", path, json=said, headers={"If-Match": seen.headers["etag"]})
    assert decided.status_code == 201, decided.text


async def test_what_one_version_raised_another_does_not_explain(room: Room) -> None:
    class Promoted(ScriptedModels):
        @property
        def versions(self) -> Mapping[str, str]:
            return dict.fromkeys(self.calls, "test-2")

    await room.say(room.carer, GRABBED)
    await room.read()
    await room.explain(Promoted())
    [evidence] = (await alert(room)).json()["message_evidence"]
    assert (evidence["explained"], evidence["spans"], evidence["model_version"]) == (True, [], "test-1")


async def test_the_two_turns_before_are_shown_and_of_files_the_words_inside(room: Room) -> None:
    for line in ("One.", "Two.", "Three."):
        await room.say(room.resident, line)
    uploaded = await room.talk.ask(
        room.carer, "POST", "/api/messages/attachments",
        params={"conversation_id": room.conversation.rpartition("/")[2]},
        files={"file": ("note.txt", b"At nine he grabbed her.")},
    )  # fmt: skip
    assert uploaded.status_code == 201, uploaded.text
    with_file = {"message_type": "file", "attachments": [uploaded.json()["id"]]}
    await room.talk.say(room.carer, room.conversation, "See this.", **with_file)
    await room.read(ScriptedModels(finds="grabbed"))
    models = await room.explain()
    assert [[turn.text for turn in talk.turns] for talk in models.explained] == [
        ["Two.", "Three.", "See this.\n\nAt nine he grabbed her."]
    ]


async def test_without_the_senders_permission_nothing_is_shown_to_the_models(room: Room) -> None:
    await room.say(room.resident, GRABBED)
    await room.read()
    await room.withdraw(room.resident)
    assert (await room.explain()).explained == []
    await room.grant(room.resident)
    room.let_time_pass()
    assert len((await room.explain()).explained) == 1


async def test_permission_taken_back_while_the_models_work_leaves_nothing_of_that_work(room: Room) -> None:
    await room.say(room.resident, "Listen.")
    await room.say(room.carer, GRABBED)
    await room.read(ScriptedModels(finds="grabbed"))

    async def take_back() -> None:
        await room.withdraw(room.resident)

    await room.explain(ScriptedModels(before={"evidence": take_back}))
    assert not (await alert(room)).json()["message_evidence"][0]["explained"]
    room.let_time_pass()
    models = await room.explain()
    assert [turn.text for turn in models.explained[0].turns] == ["", GRABBED]
    assert (await alert(room)).json()["message_evidence"][0]["explained"]


async def test_what_a_worker_leaves_that_dies_is_explained_by_the_next_and_once(room: Room) -> None:
    await room.say(room.carer, GRABBED)
    await room.read()

    async def die() -> None:
        raise unavailable("worker-stopping", "Killed between the models and the keeping.")

    with pytest.raises(WriteCareError):
        await room.explain(ScriptedModels(before={"evidence": die}))
    assert (await room.explain()).explained == []  # it is still the other's, for a while

    async def be_overtaken() -> None:
        room.let_time_pass()
        await room.explain()

    room.let_time_pass()
    await room.explain(ScriptedModels(before={"evidence": be_overtaken}))
    assert (await alert(room)).json()["message_evidence"][0]["spans"][0]["end"] == 2
    room.let_time_pass()
    assert len((await room.explain()).explained) == 1


async def test_a_message_of_which_the_models_fail_keeps_no_others_unexplained_for_ever(room: Room) -> None:
    await room.say(room.carer, "poison, grabbed")
    other = await room.talk.begin(room.carer, room.manager)
    read = await room.talk.say(room.carer, other, GRABBED)
    await room.read()

    class Failing(ScriptedModels):
        async def explain(self, conversations: Any, assessments: Any) -> Any:
            if any("poison" in turn.text for talk in conversations for turn in talk.turns):
                raise unavailable("models-unavailable", "The model cannot answer just now.")
            return await super().explain(conversations, assessments)

    for _ in range(4):
        room.let_time_pass()
        with pytest.raises(WriteCareError):
            await room.explain(Failing())
    explained = await room.see("select message_id from alert_evidence where spans_due_at is null")
    assert [str(row["message_id"]) for row in explained] == [read["id"]]


async def test_while_messages_wait_to_be_read_one_piece_alone_is_explained_and_the_rest_later(room: Room) -> None:
    for line in (GRABBED, "And hit me.", "Twice."):
        await room.say(room.carer, line)
    await room.read()
    waits = await room.say(room.resident, "Who did?")
    models = ScriptedModels()
    assert await explain_messages(room.worker_house, models, room.tenant_id)
    assert [talk.turns[-1].text for talk in models.explained] == ["Twice."]
    await room.read(ScriptedModels(finds=""))
    assert (waits["id"], 1) in await room.readings()
    assert len((await room.explain()).explained) == 2


async def test_another_tenants_evidence_is_not_explained(room: Room, databases: Databases) -> None:
    await room.say(room.carer, GRABBED)
    await room.read()
    other = Room(room.talk, room._house, room.worker_house, databases)
    await other.furnish()
    assert (await other.explain()).explained == []
    with psycopg.connect(databases.worker) as conn:
        waiting = conn.execute("select app.tenants_with_unexplained_evidence()").fetchall()
    assert (room.tenant_id,) in waiting
    assert (other.tenant_id,) not in waiting
