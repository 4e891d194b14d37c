"""An alert about what was written: what it shows to whom, and that nobody else is led to the messages by it."""

from typing import Any
from uuid import UUID

import httpx
import pytest

from comms.ai.lawful_use import check_ground
from comms.kernel.database import Actor
from comms.safeguarding.alerts.records import NewMessageEvidence
from comms.safeguarding.message_assessments.queries import keep_readings, load_turns
from comms.safeguarding.message_assessments.queue import take_due
from comms.safeguarding.message_assessments.records import MessageReading
from comms.web.context import House
from models.contract.endpoints import Ground
from models.contract.errors import Kind, WriteCareError
from tests import factories
from tests.comms.messaging_fixtures import Talk, told

pytestmark = pytest.mark.anyio

TEAM = ("safeguarding_lead", "reviewer", "data_protection_officer")
LINES = ("One.", "Two.", "Three.", "Four.", "He grabbed her arm.", "Six.", "Seven.", "Eight.", "Nine.")
CITED = LINES.index("He grabbed her arm.")


class Matter:
    """A conversation in which one message raised an alert, its people, and a safeguarding team that is not in it."""

    def __init__(self, talk: Talk, house: House, worker_house: House) -> None:
        self.talk = talk
        self.house = house
        self._worker_house = worker_house

    async def arise(self) -> None:
        self.manager = await factories.make_actor(self.house, "care_manager")
        self.carer = await self.talk.person(self.manager)
        self.team = {role: await self.talk.person(self.manager, role) for role in TEAM}
        await factories.put_all_in_force(self.house, self.manager, "public_task")
        self.conversation = await self.talk.begin(self.manager, self.carer)
        self.messages = [await self.talk.say(self.carer, self.conversation, line) for line in LINES]
        self.cited = self.messages[CITED]["id"]
        await self.read()
        [row] = await factories.rows(self.house, self.team["reviewer"], "select id from alerts")
        self.alert: UUID = row["id"]

    async def read(self) -> None:
        """What the worker does, with a concern found wherever somebody was grabbed."""
        worker = Actor(self.manager.tenant_id, UUID(int=0), "service")
        async with self._worker_house.database.acting_as(worker) as conn:
            due = await take_due(conn)
            turns = await load_turns(conn, due)
            readings = [reading_of(turn.conversation_id, turn.message_id, turn.version, "grabbed" in turn.text)
                        for turn in turns if turn.due]  # fmt: skip
            await keep_readings(conn, worker, due, readings, turns)

    async def view(self, actor: Actor) -> dict[str, Any]:
        answer = await self.talk.ask(actor, "GET", f"/api/alerts/{self.alert}")
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    async def status(self, actor: Actor, path: str) -> int:
        return (await self.talk.ask(actor, "GET", path)).status_code


def reading_of(conversation_id: UUID, message_id: UUID, version: int, concerning: bool) -> MessageReading:
    concern = NewMessageEvidence(
        message_id=message_id, version=version, category="physical_abuse", severity="high", probability=0.9,
        threshold=0.4, model="safeguarding", model_version="safeguarding@1",
    )  # fmt: skip
    return MessageReading(
        conversation_id=conversation_id, message_id=message_id, version=version, turns_before=0, turns_after=0,
        probability=0.9, concerns=(concern,) if concerning else (), sentiment="neutral",
        models={"safeguarding": "safeguarding@1", "embedding": "embedding@1"},
    )  # fmt: skip


@pytest.fixture
async def matter(client: httpx.AsyncClient, house: House, worker_house: House) -> Matter:
    made = Matter(Talk(client, house), house, worker_house)
    await made.arise()
    return made


@pytest.mark.parametrize("role", TEAM)
async def test_who_may_see_the_alert_sees_the_words_it_cites_and_the_few_around_them(matter: Matter, role: str) -> None:
    shown = await matter.view(matter.team[role])
    assert shown["conversation_id"] == matter.conversation.rpartition("/")[2]
    assert shown["recording_id"] is None
    [evidence] = shown["message_evidence"]
    assert (evidence["message_id"], evidence["text"]) == (matter.cited, LINES[CITED])
    assert (evidence["sender_id"], evidence["version"]) == (str(matter.carer.user_id), 1)
    assert (evidence["spans"], evidence["explained"]) == ([], False)  # the message whole, until its spans are found
    assert [message["content"] for message in shown["message_context"]] == list(LINES[CITED - 3 : CITED + 4])


async def test_the_words_inside_a_file_are_read_and_shown_as_the_models_were_given_them(matter: Matter) -> None:
    uploaded = await matter.talk.ask(
        matter.carer, "POST", "/api/messages/attachments",
        params={"conversation_id": matter.conversation.rpartition("/")[2]},
        files={"file": ("note.txt", b"At nine he grabbed her.")},
    )  # fmt: skip
    assert uploaded.status_code == 201, uploaded.text
    with_file = {"message_type": "file", "attachments": [uploaded.json()["id"]]}
    message = await matter.talk.say(matter.carer, matter.conversation, "See this.", **with_file)
    await matter.read()
    evidence = (await matter.view(matter.team["reviewer"]))["message_evidence"]
    assert [(piece["message_id"], piece["text"]) for piece in evidence[1:]] == [
        (message["id"], "See this.\n\nAt nine he grabbed her.")
    ]


async def test_opening_it_is_logged(matter: Matter) -> None:
    await matter.view(matter.team["reviewer"])
    acts = await factories.rows(
        matter.house, matter.team["safeguarding_lead"],
        "select actor_id from audit_log where action = 'alert.viewed' and object_id = %s", matter.alert,
    )  # fmt: skip
    assert [act["actor_id"] for act in acts] == [matter.team["reviewer"].user_id]


@pytest.mark.parametrize("role", TEAM)
async def test_without_opening_the_alert_nobody_of_the_team_reads_the_messages(matter: Matter, role: str) -> None:
    person = matter.team[role]
    await matter.view(person)
    assert await matter.status(person, f"/api/messages/{matter.cited}") == 404
    assert await matter.status(person, f"/api/messages/{matter.cited}/versions") == 404
    assert await matter.status(person, f"/api/messages/conversations/{matter.conversation.rpartition('/')[2]}") == 404
    assert await matter.talk.find(person, "grabbed") == []
    assert await factories.rows(matter.house, person, "select 1 from messages") == []


async def test_who_may_not_see_the_alert_is_led_nowhere_by_naming_it(matter: Matter) -> None:
    for person in (await matter.talk.person(matter.manager), await factories.make_actor(matter.house, "reviewer")):
        async with matter.house.database.acting_as(person) as conn:
            await conn.execute("select set_config('app.alert_id', %s, true)", (str(matter.alert),))
            found = await conn.execute("select 1 from messages")
            assert await found.fetchall() == []


@pytest.mark.parametrize("role", TEAM)
@pytest.mark.parametrize("act", ["edited", "deleted"])
async def test_an_edit_or_a_deletion_after_the_fact_hides_nothing_of_what_was_said(
    matter: Matter, role: str, act: str
) -> None:
    options: dict[str, Any] = {"json": {"content": "It was nothing."}} if act == "edited" else {}
    verb = "PUT" if act == "edited" else "DELETE"
    headers = {"If-Match": '"1"'}
    answer = await matter.talk.ask(matter.carer, verb, f"/api/messages/{matter.cited}", headers=headers, **options)
    assert answer.status_code in (200, 204), answer.text
    shown = await matter.view(matter.team[role])
    assert shown["message_evidence"][0]["text"] == LINES[CITED]
    now = {message["message_id"]: message["content"] for message in shown["message_context"]}
    assert now[matter.cited] == ("It was nothing." if act == "edited" else None)


async def test_through_broken_glass_a_carer_sees_it_and_by_no_other_way(matter: Matter) -> None:
    outsider = await matter.talk.person(matter.manager)
    assert await matter.status(outsider, f"/api/alerts/{matter.alert}") == 403
    need = {"object_kind": "alert", "object_id": str(matter.alert), "reason": "Danger.", "minutes": 5}
    broken = await matter.talk.ask(outsider, "POST", "/api/break-glass", json=need)
    assert broken.status_code == 201, broken.text
    assert (await matter.view(outsider))["message_evidence"][0]["text"] == LINES[CITED]
    assert await matter.status(outsider, f"/api/messages/{matter.cited}") == 404


async def test_the_sender_is_presumed_to_be_meant_and_sees_the_message_but_neither_alert_nor_reading(
    client: httpx.AsyncClient, house: House, worker_house: House
) -> None:
    matter = Matter(Talk(client, house), house, worker_house)
    await matter.arise()
    lead, reviewer = matter.team["safeguarding_lead"], matter.team["reviewer"]
    conversation = await matter.talk.begin(lead, matter.carer)
    own = await matter.talk.say(lead, conversation, "I grabbed her arm.")
    await matter.read()
    seen_by = {}
    for person in (lead, reviewer):
        found = await factories.rows(house, person, "select id from alerts order by id")
        read = await factories.rows(house, person, "select 1 from message_readings where message_id = %s", own["id"])
        subjects = await factories.rows(house, person, "select standing from alert_subjects order by alert_id")
        seen_by[person.role] = (len(found), len(read), [row["standing"] for row in subjects])
    assert seen_by == {"safeguarding_lead": (1, 0, ["presumed"]), "reviewer": (2, 1, ["presumed", "presumed"])}
    assert await matter.talk.read(lead, conversation) == ["I grabbed her arm."]
    [alert] = await factories.rows(
        house, reviewer, "select id from alerts where conversation_id = %s", conversation.rpartition("/")[2]
    )
    assert await matter.status(lead, f"/api/alerts/{alert['id']}") == 404
    # recordings stay to be seen: an alert that rests on none withholds none
    withheld = await factories.rows(house, lead, "select app.recordings_withheld() as of")
    assert withheld == [{"of": []}]


async def test_it_is_claimed_and_decided_as_any_other_and_not_on_what_was_not_seen(matter: Matter) -> None:
    reviewer = matter.team["reviewer"]
    claimed = await matter.talk.ask(reviewer, "POST", f"/api/alerts/{matter.alert}/claim", headers={"If-Match": '"1"'})
    assert (claimed.status_code, claimed.json()["state"]) == (200, "claimed")
    await matter.talk.say(matter.carer, matter.conversation, "Then he grabbed the other.")
    await matter.read()
    said = {"decision": "dismiss", "reason": "A game."}
    path = f"/api/alerts/{matter.alert}/review"
    headers = {"If-Match": claimed.headers["etag"]}
    stale = await matter.talk.ask(reviewer, "POST", path, json=said, headers=headers)
    assert told(stale) == (412, "version-stale")
    assert len((await matter.view(reviewer))["message_evidence"]) == 2
    seen = await matter.talk.ask(reviewer, "GET", f"/api/alerts/{matter.alert}")
    again = {"If-Match": seen.headers["etag"]}
    decided = await matter.talk.ask(reviewer, "POST", path, json=said, headers=again)
    assert decided.status_code == 201
    queue = (await matter.talk.ask(reviewer, "GET", "/api/alerts")).json()["items"]
    assert [(item["id"], item["state"]) for item in queue] == [(str(matter.alert), "dismissed")]


async def test_a_conversation_is_a_ground_for_the_models_to_those_in_it_who_all_permit(
    client: httpx.AsyncClient, house: House
) -> None:
    talk = Talk(client, house)
    manager = await factories.make_actor(house, "care_manager")
    resident, outsider = await talk.person(manager, "resident"), await talk.person(manager, "safeguarding_lead")
    await factories.put_all_in_force(house, manager)
    conversation_id = UUID((await talk.begin(manager, resident)).rpartition("/")[2])

    async def refusal(actor: Actor) -> tuple[Kind, str] | None:
        try:
            async with house.database.acting_as(actor) as conn:
                await check_ground(conn, actor, Ground(conversation_id=conversation_id), "detect-safeguarding")
        except WriteCareError as error:
            return error.kind, error.slug
        return None

    assert await refusal(manager) == (Kind.REFUSED, "consent-missing")
    for person in (manager, resident):
        await factories.grant(house, manager, person)
    assert await refusal(manager) is None
    assert await refusal(outsider) == (Kind.MISSING, "not-found")
    acts = await factories.rows(
        house, outsider, "select action from audit_log where object_type = 'conversation' and object_id = %s "
        "and action like 'ai.%%'", conversation_id,
    )  # fmt: skip
    assert [act["action"] for act in acts] == ["ai.detect-safeguarding"]
