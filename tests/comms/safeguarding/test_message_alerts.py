"""Alerts about messages: what they show, to whom, and that they give nobody else access to the messages."""

from typing import Any
from uuid import UUID

import httpx
import pytest

from comms.ai.lawful_use import check_lawful_basis
from comms.kernel.database import Actor
from comms.safeguarding.alerts.records import NewMessageEvidence
from comms.safeguarding.message_assessments.queries import load_turns, save_assessments
from comms.safeguarding.message_assessments.queue import lease_due_messages
from comms.safeguarding.message_assessments.records import MessageAssessment
from comms.web.context import AppContext
from models.contract.endpoints import LawfulBasisRef
from models.contract.errors import Kind, WriteCareError
from tests import factories
from tests.comms.messaging_fixtures import MessagingClient, status_and_slug

pytestmark = pytest.mark.anyio

TEAM = ("safeguarding_lead", "reviewer", "data_protection_officer")
LINES = ("One.", "Two.", "Three.", "Four.", "He grabbed her arm.", "Six.", "Seven.", "Eight.", "Nine.")
CITED = LINES.index("He grabbed her arm.")


class AlertScenario:
    """A conversation with an alert about one message, its members, and a safeguarding team that is not in it."""

    def __init__(self, talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext) -> None:
        self.talk = talk
        self.ctx = ctx
        self._worker_house = worker_ctx

    async def arise(self) -> None:
        self.manager = await factories.make_actor(self.ctx, "care_manager")
        self.carer = await self.talk.person(self.manager)
        self.team = {role: await self.talk.person(self.manager, role) for role in TEAM}
        await factories.put_all_in_force(self.ctx, self.manager, "public_task")
        self.conversation = await self.talk.begin(self.manager, self.carer)
        self.messages = [await self.talk.say(self.carer, self.conversation, line) for line in LINES]
        self.cited = self.messages[CITED]["id"]
        await self.read()
        [row] = await factories.rows(self.ctx, self.team["reviewer"], "select id from alerts")
        self.alert: UUID = row["id"]

    async def read(self) -> None:
        """Does the work of the worker, with a concern in each message that contains "grabbed"."""
        worker = Actor(self.manager.tenant_id, UUID(int=0), "service")
        async with self._worker_house.database.acting_as(worker) as conn:
            due = await lease_due_messages(conn)
            turns = await load_turns(conn, due)
            assessments = [assessment_of(turn.conversation_id, turn.message_id, turn.version, "grabbed" in turn.text)
                        for turn in turns if turn.due]  # fmt: skip
            await save_assessments(conn, worker, due, assessments, turns)

    async def view(self, actor: Actor) -> dict[str, Any]:
        answer = await self.talk.ask(actor, "GET", f"/api/alerts/{self.alert}")
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    async def status(self, actor: Actor, path: str) -> int:
        return (await self.talk.ask(actor, "GET", path)).status_code


def assessment_of(conversation_id: UUID, message_id: UUID, version: int, concerning: bool) -> MessageAssessment:
    concern = NewMessageEvidence(
        message_id=message_id, version=version, category="physical_abuse", severity="high", probability=0.9,
        threshold=0.4, model="safeguarding", model_version="safeguarding@1",
    )  # fmt: skip
    return MessageAssessment(
        conversation_id=conversation_id, message_id=message_id, version=version, turns_before=0, turns_after=0,
        probability=0.9, concerns=(concern,) if concerning else (), sentiment="neutral",
        models={"safeguarding": "safeguarding@1", "embedding": "embedding@1"},
    )  # fmt: skip


@pytest.fixture
async def alert_scenario(client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext) -> AlertScenario:
    made = AlertScenario(MessagingClient(client, ctx), ctx, worker_ctx)
    await made.arise()
    return made


@pytest.mark.parametrize("role", TEAM)
async def test_who_may_see_the_alert_sees_the_words_it_cites_and_the_few_around_them(
    alert_scenario: AlertScenario, role: str
) -> None:
    shown = await alert_scenario.view(alert_scenario.team[role])
    assert shown["conversation_id"] == alert_scenario.conversation.rpartition("/")[2]
    assert shown["recording_id"] is None
    [evidence] = shown["message_evidence"]
    assert (evidence["message_id"], evidence["text"]) == (alert_scenario.cited, LINES[CITED])
    assert (evidence["sender_id"], evidence["version"]) == (str(alert_scenario.carer.user_id), 1)
    assert (evidence["spans"], evidence["explained"]) == ([], False)  # the whole message, until its spans are found
    assert [message["content"] for message in shown["message_context"]] == list(LINES[CITED - 3 : CITED + 4])


async def test_the_words_inside_a_file_are_read_and_shown_as_the_models_were_given_them(
    alert_scenario: AlertScenario,
) -> None:
    uploaded = await alert_scenario.talk.ask(
        alert_scenario.carer, "POST", "/api/messages/attachments",
        params={"conversation_id": alert_scenario.conversation.rpartition("/")[2]},
        files={"file": ("note.txt", b"At nine he grabbed her.")},
    )  # fmt: skip
    assert uploaded.status_code == 201, uploaded.text
    with_file = {"message_type": "file", "attachments": [uploaded.json()["id"]]}
    message = await alert_scenario.talk.say(alert_scenario.carer, alert_scenario.conversation, "See this.", **with_file)
    await alert_scenario.read()
    evidence = (await alert_scenario.view(alert_scenario.team["reviewer"]))["message_evidence"]
    assert [(piece["message_id"], piece["text"]) for piece in evidence[1:]] == [
        (message["id"], "See this.\n\nAt nine he grabbed her.")
    ]


async def test_opening_it_is_logged(alert_scenario: AlertScenario) -> None:
    await alert_scenario.view(alert_scenario.team["reviewer"])
    acts = await factories.rows(
        alert_scenario.ctx, alert_scenario.team["safeguarding_lead"],
        "select actor_id from audit_log where action = 'alert.viewed' and object_id = %s", alert_scenario.alert,
    )  # fmt: skip
    assert [act["actor_id"] for act in acts] == [alert_scenario.team["reviewer"].user_id]


@pytest.mark.parametrize("role", TEAM)
async def test_without_opening_the_alert_nobody_of_the_team_reads_the_messages(
    alert_scenario: AlertScenario, role: str
) -> None:
    person = alert_scenario.team[role]
    await alert_scenario.view(person)
    assert await alert_scenario.status(person, f"/api/messages/{alert_scenario.cited}") == 404
    assert await alert_scenario.status(person, f"/api/messages/{alert_scenario.cited}/versions") == 404
    assert (
        await alert_scenario.status(
            person, f"/api/messages/conversations/{alert_scenario.conversation.rpartition('/')[2]}"
        )
        == 404
    )
    assert await alert_scenario.talk.find(person, "grabbed") == []
    assert await factories.rows(alert_scenario.ctx, person, "select 1 from messages") == []


async def test_who_may_not_see_the_alert_is_led_nowhere_by_naming_it(alert_scenario: AlertScenario) -> None:
    for person in (
        await alert_scenario.talk.person(alert_scenario.manager),
        await factories.make_actor(alert_scenario.ctx, "reviewer"),
    ):
        async with alert_scenario.ctx.database.acting_as(person) as conn:
            await conn.execute("select set_config('app.alert_id', %s, true)", (str(alert_scenario.alert),))
            found = await conn.execute("select 1 from messages")
            assert await found.fetchall() == []


@pytest.mark.parametrize("role", TEAM)
@pytest.mark.parametrize("act", ["edited", "deleted"])
async def test_an_edit_or_a_deletion_after_the_fact_hides_nothing_of_what_was_said(
    alert_scenario: AlertScenario, role: str, act: str
) -> None:
    options: dict[str, Any] = {"json": {"content": "It was nothing."}} if act == "edited" else {}
    verb = "PUT" if act == "edited" else "DELETE"
    headers = {"If-Match": '"1"'}
    answer = await alert_scenario.talk.ask(
        alert_scenario.carer, verb, f"/api/messages/{alert_scenario.cited}", headers=headers, **options
    )
    assert answer.status_code in (200, 204), answer.text
    shown = await alert_scenario.view(alert_scenario.team[role])
    assert shown["message_evidence"][0]["text"] == LINES[CITED]
    now = {message["message_id"]: message["content"] for message in shown["message_context"]}
    assert now[alert_scenario.cited] == ("It was nothing." if act == "edited" else None)


async def test_through_broken_glass_a_carer_sees_it_and_by_no_other_way(alert_scenario: AlertScenario) -> None:
    outsider = await alert_scenario.talk.person(alert_scenario.manager)
    assert await alert_scenario.status(outsider, f"/api/alerts/{alert_scenario.alert}") == 403
    need = {"object_kind": "alert", "object_id": str(alert_scenario.alert), "reason": "Danger.", "minutes": 5}
    broken = await alert_scenario.talk.ask(outsider, "POST", "/api/break-glass", json=need)
    assert broken.status_code == 201, broken.text
    assert (await alert_scenario.view(outsider))["message_evidence"][0]["text"] == LINES[CITED]
    assert await alert_scenario.status(outsider, f"/api/messages/{alert_scenario.cited}") == 404


async def test_the_sender_is_presumed_to_be_meant_and_sees_the_message_but_neither_alert_nor_reading(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    alert_scenario = AlertScenario(MessagingClient(client, ctx), ctx, worker_ctx)
    await alert_scenario.arise()
    lead, reviewer = alert_scenario.team["safeguarding_lead"], alert_scenario.team["reviewer"]
    conversation = await alert_scenario.talk.begin(lead, alert_scenario.carer)
    own = await alert_scenario.talk.say(lead, conversation, "I grabbed her arm.")
    await alert_scenario.read()
    seen_by = {}
    for person in (lead, reviewer):
        found = await factories.rows(ctx, person, "select id from alerts order by id")
        read = await factories.rows(ctx, person, "select 1 from message_readings where message_id = %s", own["id"])
        subjects = await factories.rows(ctx, person, "select standing from alert_subjects order by alert_id")
        seen_by[person.role] = (len(found), len(read), [row["standing"] for row in subjects])
    assert seen_by == {"safeguarding_lead": (1, 0, ["presumed"]), "reviewer": (2, 1, ["presumed", "presumed"])}
    assert await alert_scenario.talk.read(lead, conversation) == ["I grabbed her arm."]
    [alert] = await factories.rows(
        ctx, reviewer, "select id from alerts where conversation_id = %s", conversation.rpartition("/")[2]
    )
    assert await alert_scenario.status(lead, f"/api/alerts/{alert['id']}") == 404
    # recordings stay visible: an alert without a recording withholds none
    withheld = await factories.rows(ctx, lead, "select app.recordings_withheld() as of")
    assert withheld == [{"of": []}]


async def test_it_is_claimed_and_decided_as_any_other_and_not_on_what_was_not_seen(
    alert_scenario: AlertScenario,
) -> None:
    reviewer = alert_scenario.team["reviewer"]
    claimed = await alert_scenario.talk.ask(
        reviewer, "POST", f"/api/alerts/{alert_scenario.alert}/claim", headers={"If-Match": '"1"'}
    )
    assert (claimed.status_code, claimed.json()["state"]) == (200, "claimed")
    await alert_scenario.talk.say(alert_scenario.carer, alert_scenario.conversation, "Then he grabbed the other.")
    await alert_scenario.read()
    said = {"decision": "dismiss", "reason": "A game."}
    path = f"/api/alerts/{alert_scenario.alert}/review"
    headers = {"If-Match": claimed.headers["etag"]}
    stale = await alert_scenario.talk.ask(reviewer, "POST", path, json=said, headers=headers)
    assert status_and_slug(stale) == (412, "version-stale")
    assert len((await alert_scenario.view(reviewer))["message_evidence"]) == 2
    seen = await alert_scenario.talk.ask(reviewer, "GET", f"/api/alerts/{alert_scenario.alert}")
    again = {"If-Match": seen.headers["etag"]}
    decided = await alert_scenario.talk.ask(reviewer, "POST", path, json=said, headers=again)
    assert decided.status_code == 201
    queue = (await alert_scenario.talk.ask(reviewer, "GET", "/api/alerts")).json()["items"]
    assert [(item["id"], item["state"]) for item in queue] == [(str(alert_scenario.alert), "dismissed")]


async def test_a_conversation_is_a_ground_for_the_models_to_those_in_it_who_all_permit(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    talk = MessagingClient(client, ctx)
    manager = await factories.make_actor(ctx, "care_manager")
    resident, outsider = await talk.person(manager, "resident"), await talk.person(manager, "safeguarding_lead")
    await factories.put_all_in_force(ctx, manager)
    conversation_id = UUID((await talk.begin(manager, resident)).rpartition("/")[2])

    async def refusal(actor: Actor) -> tuple[Kind, str] | None:
        try:
            async with ctx.database.acting_as(actor) as conn:
                await check_lawful_basis(
                    conn, actor, LawfulBasisRef(conversation_id=conversation_id), "detect-safeguarding"
                )
        except WriteCareError as error:
            return error.kind, error.slug
        return None

    assert await refusal(manager) == (Kind.REFUSED, "consent-missing")
    for person in (manager, resident):
        await factories.grant(ctx, manager, person)
    assert await refusal(manager) is None
    assert await refusal(outsider) == (Kind.MISSING, "not-found")
    acts = await factories.rows(
        ctx, outsider, "select action from audit_log where object_type = 'conversation' and object_id = %s "
        "and action like 'ai.%%'", conversation_id,
    )  # fmt: skip
    assert [act["action"] for act in acts] == ["ai.detect-safeguarding"]
