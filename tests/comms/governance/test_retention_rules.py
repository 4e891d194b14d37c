"""Tests of retention rules and legal holds over HTTP."""

import uuid
from typing import Any

import httpx
import psycopg
import pytest

from comms.governance.retention.erasure import erase_batch
from comms.kernel.access.system_actor import NIL_UUID
from comms.kernel.database import Actor, Database
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories
from tests.comms.messaging_fixtures import MessagingClient

pytestmark = pytest.mark.anyio

RULES = "/api/retention/rules"
HOLDS = "/api/retention/holds"


@pytest.fixture
def talk(client: httpx.AsyncClient, ctx: AppContext) -> MessagingClient:
    return MessagingClient(client, ctx)


@pytest.fixture
async def officer(ctx: AppContext) -> Actor:
    return await factories.make_actor(ctx, "data_protection_officer")


async def asked(talk: MessagingClient, actor: Actor, method: str, path: str, status: int, **more: Any) -> Any:
    answer = await talk.ask(actor, method, path, **more)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


async def test_where_nobody_has_decided_the_houses_own_days_are_told(talk: MessagingClient, officer: Actor) -> None:
    told = (await asked(talk, officer, "GET", RULES, 200))["items"]
    assert {rule["category"]: (rule["days"], rule["version"], rule["decided_by"]) for rule in told} == {
        "messages": (2922, 0, None), "webhook_deliveries": (90, 0, None), "events": (90, 0, None),
        "sign_ins": (365, 0, None),
    }  # fmt: skip


async def test_an_officer_decides_and_who_and_what_was_before_is_logged(
    talk: MessagingClient, ctx: AppContext, officer: Actor
) -> None:
    first = await talk.ask(officer, "PUT", f"{RULES}/messages", json={"days": 3650}, headers={"If-Match": '"0"'})
    assert (first.status_code, first.headers["etag"]) == (200, '"1"')
    assert first.json()["decided_by"] == str(officer.user_id)
    second = await asked(talk, officer, "PUT", f"{RULES}/messages", 200, json={"days": 4000})
    assert (second["days"], second["version"]) == (4000, 2)
    acts = "select details from audit_log where action = 'retention.decided' order by id"
    assert [row["details"] for row in await factories.rows(ctx, officer, acts)] == [
        {"category": "messages", "days_before": 2922, "days": 3650},
        {"category": "messages", "days_before": 3650, "days": 4000},
    ]


async def test_of_two_officers_the_second_sees_what_the_first_decided_before_changing_it(
    talk: MessagingClient, officer: Actor
) -> None:
    await asked(talk, officer, "PUT", f"{RULES}/events", 200, json={"days": 100}, headers={"If-Match": '"0"'})
    stale = await asked(talk, officer, "PUT", f"{RULES}/events", 412, json={"days": 50}, headers={"If-Match": '"0"'})
    assert stale["type"].endswith("version-stale")
    assert (await asked(talk, officer, "GET", f"{RULES}/events", 200))["days"] == 100


async def test_a_rule_of_less_than_a_month_or_of_no_category_is_refused(talk: MessagingClient, officer: Actor) -> None:
    await asked(talk, officer, "PUT", f"{RULES}/messages", 422, json={"days": 29})
    await asked(talk, officer, "PUT", f"{RULES}/recordings", 422, json={"days": 90})


async def test_the_lead_holds_and_sees_but_does_not_decide_and_others_do_neither(
    talk: MessagingClient, officer: Actor
) -> None:
    lead, manager = await talk.person(officer, "safeguarding_lead"), await talk.person(officer, "care_manager")
    await asked(talk, lead, "GET", RULES, 200)
    await asked(talk, lead, "PUT", f"{RULES}/messages", 403, json={"days": 100})
    for path in (RULES, HOLDS):
        await asked(talk, manager, "GET", path, 403)


async def test_what_is_held_is_not_erased_before_it_is_released(
    talk: MessagingClient, ctx: AppContext, officer: Actor, databases: Databases
) -> None:
    manager = await talk.person(officer, "care_manager")
    path = await talk.begin(manager, await talk.person(officer))
    conversation = path.rpartition("/")[2]
    with psycopg.connect(databases.administrator, autocommit=True) as admin:
        admin.execute("select app.make_month('messages', '2020-05-01T00:00:00Z')")
        admin.execute("select set_config('app.tenant_id', %s, false)", (str(officer.tenant_id),))
        admin.execute(
            "insert into messages (tenant_id, id, conversation_id, sender_id, sender_type, content, changed_id) "
            "select %s, id, %s, %s, 'user', 'long ago', id from (select app.first_id('2020-05-17') as id)",
            (officer.tenant_id, conversation, manager.user_id),
        )
    await asked(talk, officer, "PUT", f"{RULES}/messages", 200, json={"days": 30})
    body = {"conversation_id": conversation, "reference": "case-17"}
    hold = await asked(talk, officer, "POST", HOLDS, 201, json=body)
    assert await erased(databases, officer) == 0
    await asked(talk, officer, "DELETE", f"{HOLDS}/{hold['id']}", 204)
    await asked(talk, officer, "DELETE", f"{HOLDS}/{hold['id']}", 204)  # a second release changes nothing
    assert await erased(databases, officer) == 1
    (seen,) = (await asked(talk, officer, "GET", HOLDS, 200, params={"standing": "false"}))["items"]
    assert (seen["reference"], seen["released_by"]) == ("case-17", str(officer.user_id))
    assert (await asked(talk, officer, "GET", HOLDS, 200, params={"standing": "true"}))["items"] == []
    acts = "select action from audit_log where object_type = 'hold' order by id"
    assert [row["action"] for row in await factories.rows(ctx, officer, acts)] == ["hold.placed", "hold.released"]


async def erased(databases: Databases, officer: Actor) -> int:
    """Returns how many messages one round of the retention process erases."""
    database = Database(databases.keeper, most=1)
    await database.open()
    keeper = Actor(officer.tenant_id, NIL_UUID, "service")
    try:
        async with database.acting_as(keeper) as conn:
            return await erase_batch(conn, keeper, "messages")
    finally:
        await database.close()


async def test_a_message_is_held_that_is_there_and_of_that_conversation(
    talk: MessagingClient, ctx: AppContext, officer: Actor
) -> None:
    manager = await talk.person(officer, "care_manager")
    path, elsewhere = [await talk.begin(manager, await talk.person(officer)) for _ in range(2)]
    message = (await talk.say(manager, path, "Tea?"))["id"]
    stranger = await factories.make_actor(ctx, "care_manager")
    their_path = await talk.begin(stranger, await talk.person(stranger))
    theirs = (await talk.say(stranger, their_path, "Tea?"))["id"]
    for of, held in ((path, str(uuid.uuid4())), (path, theirs), (elsewhere, message)):
        body = {"conversation_id": of.rpartition("/")[2], "message_id": held, "reference": "case-1"}
        await asked(talk, officer, "POST", HOLDS, 404, json=body)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await factories.rows(
                ctx, officer, "insert into retention_holds (tenant_id, conversation_id, message_id, reference, "
                "placed_by) values (%s, %s, %s, 'case-1', %s) returning id",
                officer.tenant_id, uuid.UUID(of.rpartition("/")[2]), uuid.UUID(held), officer.user_id,
            )  # fmt: skip
    body = {"conversation_id": path.rpartition("/")[2], "message_id": message, "reference": "case-1"}
    hold = await asked(talk, officer, "POST", HOLDS, 201, json=body)
    assert [held["id"] for held in (await asked(talk, officer, "GET", HOLDS, 200))["items"]] == [hold["id"]]


async def test_nobody_sees_or_releases_anothers_hold_on_their_own_message_nor_acts_on_it(
    talk: MessagingClient, ctx: AppContext, officer: Actor
) -> None:
    lead = await talk.person(officer, "safeguarding_lead")
    path = await talk.begin(lead, await talk.person(officer))
    message = (await talk.say(lead, path, "Leave it out of the notes."))["id"]
    body = {"conversation_id": path.rpartition("/")[2], "message_id": message, "reference": "case-1"}
    hold = await asked(talk, officer, "POST", HOLDS, 201, json=body)
    assert (await asked(talk, lead, "GET", HOLDS, 200))["items"] == []
    await asked(talk, lead, "GET", f"{HOLDS}/{hold['id']}", 404)
    await asked(talk, lead, "DELETE", f"{HOLDS}/{hold['id']}", 404)
    assert (await asked(talk, lead, "GET", "/api/audit", 200, params={"object_type": "hold"}))["items"] == []
    assert (await asked(talk, officer, "GET", f"{HOLDS}/{hold['id']}", 200))["released_at"] is None
    acts = (await asked(talk, officer, "GET", "/api/audit", 200, params={"object_type": "hold"}))["items"]
    assert [act["action"] for act in acts] == ["hold.placed"]


async def test_nothing_is_held_that_is_not_there_or_is_anothers(
    talk: MessagingClient, ctx: AppContext, officer: Actor
) -> None:
    stranger = await factories.make_actor(ctx, "care_manager")
    theirs = (await talk.begin(stranger, await talk.person(stranger))).rpartition("/")[2]
    for conversation in (str(uuid.uuid4()), theirs):
        body = {"conversation_id": conversation, "reference": "case-1"}
        await asked(talk, officer, "POST", HOLDS, 404, json=body)
    await asked(talk, officer, "DELETE", f"{HOLDS}/{uuid.uuid4()}", 404)
    assert (await asked(talk, officer, "GET", HOLDS, 200))["items"] == []
