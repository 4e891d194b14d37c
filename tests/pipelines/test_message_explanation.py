"""Alerts are raised before their evidence spans are known, and say so until the spans were searched for."""

from collections.abc import Mapping
from typing import Any

import httpx
import psycopg
import pytest

from comms.web.context import AppContext
from instance.provisioning import Databases
from models.contract.errors import WriteCareError, unavailable
from pipelines.message_explanation import explain_messages
from tests.comms.messaging_fixtures import MessagingClient
from tests.fakes import ScriptedModels
from tests.pipelines.message_fixtures import MessagingScenario

pytestmark = pytest.mark.anyio

GRABBED = "He grabbed my arm."


@pytest.fixture
async def scenario(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> MessagingScenario:
    made = MessagingScenario(MessagingClient(client, ctx), ctx, worker_ctx, databases)
    await made.set_up()
    return made


async def alert(scenario: MessagingScenario, **headers: str) -> httpx.Response:
    """The tenant's only alert, opened by the lead."""
    [row] = await scenario.query("select id from alerts")
    return await scenario.talk.ask(scenario.lead, "GET", f"/api/alerts/{row['id']}", headers=headers)


async def test_an_alert_is_up_with_its_message_before_the_words_that_moved_the_model_are_found(
    scenario: MessagingScenario,
) -> None:
    told = await scenario.say(scenario.carer, GRABBED)
    await scenario.read()
    before = await alert(scenario)
    [evidence] = before.json()["message_evidence"]
    assert (evidence["text"], evidence["spans"], evidence["explained"]) == (GRABBED, [], False)
    models = await scenario.explain()
    assert [[turn.text for turn in talk.turns] for talk in models.explained] == [[GRABBED]]
    after = await alert(scenario, **{"If-None-Match": before.headers["etag"]})
    [evidence] = after.json()["message_evidence"]
    assert evidence["explained"]
    assert evidence["spans"] == [{"message_id": told["id"], "version": 1, "start": 0, "end": 2, "weight": 0.5}]
    assert (await alert(scenario, **{"If-None-Match": after.headers["etag"]})).status_code == 304
    assert len(await scenario.events()) == 1


async def test_the_words_that_come_later_do_not_put_off_who_is_deciding(scenario: MessagingScenario) -> None:
    await scenario.say(scenario.carer, GRABBED)
    await scenario.read()
    seen = await alert(scenario)
    await scenario.explain()
    said = {"decision": "confirm", "reason": "It is so."}
    path = f"/api/alerts/{seen.json()['id']}/review"
    decided = await scenario.talk.ask(
        scenario.lead, "POST", path, json=said, headers={"If-Match": seen.headers["etag"]}
    )
    assert decided.status_code == 201, decided.text


async def test_what_one_version_raised_another_does_not_explain(scenario: MessagingScenario) -> None:
    class Promoted(ScriptedModels):
        @property
        def versions(self) -> Mapping[str, str]:
            return dict.fromkeys(self.calls, "test-2")

    await scenario.say(scenario.carer, GRABBED)
    await scenario.read()
    await scenario.explain(Promoted())
    [evidence] = (await alert(scenario)).json()["message_evidence"]
    assert (evidence["explained"], evidence["spans"], evidence["model_version"]) == (True, [], "test-1")


async def test_the_two_turns_before_are_shown_and_of_files_the_words_inside(scenario: MessagingScenario) -> None:
    for line in ("One.", "Two.", "Three."):
        await scenario.say(scenario.resident, line)
    uploaded = await scenario.talk.ask(
        scenario.carer, "POST", "/api/messages/attachments",
        params={"conversation_id": scenario.conversation.rpartition("/")[2]},
        files={"file": ("note.txt", b"At nine he grabbed her.")},
    )  # fmt: skip
    assert uploaded.status_code == 201, uploaded.text
    with_file = {"message_type": "file", "attachments": [uploaded.json()["id"]]}
    await scenario.talk.say(scenario.carer, scenario.conversation, "See this.", **with_file)
    await scenario.read(ScriptedModels(finds="grabbed"))
    models = await scenario.explain()
    assert [[turn.text for turn in talk.turns] for talk in models.explained] == [
        ["Two.", "Three.", "See this.\n\nAt nine he grabbed her."]
    ]


async def test_without_the_senders_permission_nothing_is_shown_to_the_models(scenario: MessagingScenario) -> None:
    await scenario.say(scenario.resident, GRABBED)
    await scenario.read()
    await scenario.withdraw(scenario.resident)
    assert (await scenario.explain()).explained == []
    await scenario.grant(scenario.resident)
    scenario.expire_waits()
    assert len((await scenario.explain()).explained) == 1


async def test_permission_taken_back_while_the_models_work_leaves_nothing_of_that_work(
    scenario: MessagingScenario,
) -> None:
    await scenario.say(scenario.resident, "Listen.")
    await scenario.say(scenario.carer, GRABBED)
    await scenario.read(ScriptedModels(finds="grabbed"))

    async def take_back() -> None:
        await scenario.withdraw(scenario.resident)

    await scenario.explain(ScriptedModels(before={"evidence": take_back}))
    assert not (await alert(scenario)).json()["message_evidence"][0]["explained"]
    scenario.expire_waits()
    models = await scenario.explain()
    assert [turn.text for turn in models.explained[0].turns] == ["", GRABBED]
    assert (await alert(scenario)).json()["message_evidence"][0]["explained"]


async def test_what_a_worker_leaves_that_dies_is_explained_by_the_next_and_once(scenario: MessagingScenario) -> None:
    await scenario.say(scenario.carer, GRABBED)
    await scenario.read()

    async def die() -> None:
        raise unavailable("worker-stopping", "Killed after the models ran and before the result was stored.")

    with pytest.raises(WriteCareError):
        await scenario.explain(ScriptedModels(before={"evidence": die}))
    assert (await scenario.explain()).explained == []  # still claimed by the other worker, for a while

    async def be_overtaken() -> None:
        scenario.expire_waits()
        await scenario.explain()

    scenario.expire_waits()
    await scenario.explain(ScriptedModels(before={"evidence": be_overtaken}))
    assert (await alert(scenario)).json()["message_evidence"][0]["spans"][0]["end"] == 2
    scenario.expire_waits()
    assert len((await scenario.explain()).explained) == 1


async def test_a_message_of_which_the_models_fail_keeps_no_others_unexplained_for_ever(
    scenario: MessagingScenario,
) -> None:
    await scenario.say(scenario.carer, "poison, grabbed")
    other = await scenario.talk.begin(scenario.carer, scenario.manager)
    read = await scenario.talk.say(scenario.carer, other, GRABBED)
    await scenario.read()

    class Failing(ScriptedModels):
        async def explain(self, conversations: Any, assessments: Any) -> Any:
            if any("poison" in turn.text for talk in conversations for turn in talk.turns):
                raise unavailable("models-unavailable", "The model cannot answer just now.")
            return await super().explain(conversations, assessments)

    for _ in range(4):
        scenario.expire_waits()
        with pytest.raises(WriteCareError):
            await scenario.explain(Failing())
    explained = await scenario.query("select message_id from alert_evidence where spans_due_at is null")
    assert [str(row["message_id"]) for row in explained] == [read["id"]]


async def test_while_messages_wait_to_be_read_one_piece_alone_is_explained_and_the_rest_later(
    scenario: MessagingScenario,
) -> None:
    for line in (GRABBED, "And hit me.", "Twice."):
        await scenario.say(scenario.carer, line)
    await scenario.read()
    waits = await scenario.say(scenario.resident, "Who did?")
    models = ScriptedModels()
    assert await explain_messages(scenario.worker_ctx, models, scenario.tenant_id)
    assert [talk.turns[-1].text for talk in models.explained] == ["Twice."]
    await scenario.read(ScriptedModels(finds=""))
    assert (waits["id"], 1) in await scenario.readings()
    assert len((await scenario.explain()).explained) == 2


async def test_another_tenants_evidence_is_not_explained(scenario: MessagingScenario, databases: Databases) -> None:
    await scenario.say(scenario.carer, GRABBED)
    await scenario.read()
    other = MessagingScenario(scenario.talk, scenario._ctx, scenario.worker_ctx, databases)
    await other.set_up()
    assert (await other.explain()).explained == []
    with psycopg.connect(databases.worker) as conn:
        waiting = conn.execute("select app.tenants_with_unexplained_evidence()").fetchall()
    assert (scenario.tenant_id,) in waiting
    assert (other.tenant_id,) not in waiting
