"""Tests of search by meaning, in attachments and in transcripts of calls: what is found, and who may find it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import psycopg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from comms.ai.model_client import open_model_client
from comms.app.application import create_app
from comms.calls.transcripts.queries import save_embeddings
from comms.kernel.database import Actor
from comms.messaging.messages.search import FLOOR
from comms.web.context import AppContext
from instance.provisioning import Databases
from models.contract.endpoints import QUESTION_PATH
from tests import factories
from tests.comms import recording_fixtures
from tests.comms.http_server import served
from tests.comms.messaging_fixtures import MessagingClient
from tests.comms.safeguarding.test_message_vectors import save_vectors_of, towards

pytestmark = pytest.mark.anyio

VECTORS = {"hurt": towards(0, 1), "meal": towards(5, 6)}


class Questions:
    """A fake of Ray Serve: it knows the vectors of two meanings and can be made to not answer."""

    def __init__(self) -> None:
        self.silent = False
        self.asked: list[str] = []
        self.app = Starlette(routes=[Route(QUESTION_PATH, self._embed, methods=["POST"])])

    async def _embed(self, request: Request) -> Response:
        text = (await request.json())["text"]
        self.asked.append(text)
        if self.silent:
            await asyncio.sleep(3600)
        return JSONResponse({"vector": VECTORS[text.split()[0]], "model": "m1"})


@pytest.fixture
async def questions() -> Questions:
    return Questions()


@pytest.fixture
async def talk(ctx: AppContext, questions: Questions) -> AsyncIterator[MessagingClient]:
    """An API with models that embed queries."""
    app = create_app(ctx.settings)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=(factories.new_address(), 4711))
    async with (
        served(questions.app) as serving,
        open_model_client(f"http://{serving}") as model_client,
        httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as client,
    ):
        app.state.ctx, app.state.models = ctx, model_client
        yield MessagingClient(client, ctx)


async def page(talk: MessagingClient, actor: Actor, words: str, **params: Any) -> dict[str, Any]:
    """A page of the actor's search, in the mode `both` unless given otherwise."""
    answer = await talk.ask(actor, "GET", "/api/messages/search", params={"q": words, "mode": "both"} | params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def contents(found: dict[str, Any]) -> list[str]:
    return [item["content"] for item in found["items"]]


async def two_who_talk(talk: MessagingClient, ctx: AppContext) -> tuple[Actor, Actor, str]:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    return mia, sam, await talk.begin(mia, sam)


async def say(talk: MessagingClient, worker_ctx: AppContext, actor: Actor, path: str, content: str, *axes: int) -> str:
    """Sends a message and stores its vector; returns the message's id."""
    message = await talk.say(actor, path, content)
    await save_vectors_of(worker_ctx, actor, (message["id"], towards(*axes)))
    return str(message["id"])


# --- what is found -------------------------------------------------------------------------------------------------


async def test_meaning_finds_what_says_it_in_other_words(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    mia, sam, path = await two_who_talk(talk, ctx)
    for content, axes in (("She cried out when he lifted her", (0, 1)), ("A sore arm", (0, 2)), ("Soup at one", (5,))):
        await say(talk, worker_ctx, mia, path, content, *axes)
    by_meaning = await page(talk, sam, "hurt", mode="meaning")
    assert contents(by_meaning)[:2] == ["She cried out when he lifted her", "A sore arm"]
    assert (by_meaning["semantic"], by_meaning["items"][0]["found_by"]) == (True, ["meaning"])
    assert by_meaning["items"][0]["highlights"] == []
    by_words = await page(talk, sam, "hurt", mode="words")
    assert (by_words["items"], by_words["semantic"]) == ([], False)


async def test_what_both_find_comes_first_and_says_so(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    mia, sam, path = await two_who_talk(talk, ctx)
    await say(talk, worker_ctx, mia, path, "My arm was hit", 0, 1)
    await say(talk, worker_ctx, mia, path, "That hurts my arm", 0, 2)
    await say(talk, worker_ctx, mia, path, "Hurt feelings, nothing else", 9)
    found = await page(talk, sam, "hurt arm")
    first = found["items"][0]
    assert (first["content"], first["found_by"]) == ("That hurts my arm", ["words", "meaning"])
    marked = [first["content"][mark["start"] : mark["end"]] for mark in first["highlights"]]
    assert marked == ["hurts", "arm"]
    assert {item["content"]: item["found_by"] for item in found["items"][1:]} == {
        "My arm was hit": ["words", "meaning"], "Hurt feelings, nothing else": ["words"],
    }  # fmt: skip


async def test_what_is_far_from_all_of_it_is_not_found(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    mia, sam, path = await two_who_talk(talk, ctx)
    asked = np.asarray(VECTORS["hurt"])
    for content, similarity in (("near", FLOOR + 0.01), ("far", FLOOR - 0.01), ("against it", -0.9)):
        message = await talk.say(mia, path, content)
        vector = similarity * asked + np.sqrt(1 - similarity**2) * np.asarray(towards(7))
        await save_vectors_of(worker_ctx, mia, (message["id"], vector.tolist()))
    for mode in ("meaning", "both"):
        found = await page(talk, sam, "hurt", mode=mode)
        assert (contents(found), found["semantic"], found["hint"]) == (["near"], True, None)
    unrelated = await page(talk, sam, "meal", mode="meaning")
    assert (unrelated["items"], unrelated["next"], unrelated["semantic"]) == ([], None, True)


async def test_each_way_of_finding_says_how_well_it_fits(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    mia, sam, path = await two_who_talk(talk, ctx)
    await say(talk, worker_ctx, mia, path, "That hurts", 0, 1)
    await say(talk, worker_ctx, mia, path, "She cried", 0, 2)
    await say(talk, worker_ctx, mia, path, "Hurt feelings", 9)
    scores = {item["content"]: item["scores"] for item in (await page(talk, sam, "hurt", mode="both"))["items"]}
    assert scores["That hurts"]["meaning"] == pytest.approx(1, abs=0.01)
    assert scores["She cried"] == {"words": None, "meaning": pytest.approx(0.5, abs=0.01)}
    assert scores["Hurt feelings"]["meaning"] is None
    assert min(scores["That hurts"]["words"], scores["Hurt feelings"]["words"]) > 0
    (first, _) = (await page(talk, sam, "hurt", mode="words"))["items"]
    assert first["scores"] == {"words": None, "meaning": None}  # newest first, not ranked


async def test_what_is_said_exactly_is_taken_so(talk: MessagingClient, ctx: AppContext) -> None:
    mia, sam, path = await two_who_talk(talk, ctx)
    for content in ("a sore left heel", "the left side", "sore throat"):
        await talk.say(mia, path, content)
    found = await page(talk, sam, "hurt sore heel", mode="both")
    assert contents(found) == ["a sore left heel", "sore throat"]
    assert contents(await page(talk, sam, "hurt or left -sore")) == ["the left side"]
    assert contents(await page(talk, sam, 'hurt or "sore throat"')) == ["sore throat"]


async def test_pages_follow_each_other_and_end(talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext) -> None:
    mia, sam, path = await two_who_talk(talk, ctx)
    for n in range(5):
        await say(talk, worker_ctx, mia, path, f"number {n}", 0, 10 + n)
    seen: list[str] = []
    params: dict[str, str] = {"limit": "2"}
    while "cursor" not in params or params["cursor"]:
        found = await page(talk, sam, "hurt number", **params)
        seen += [item["id"] for item in found["items"]]
        params["cursor"] = found["next"] or ""
        if not params["cursor"]:
            break
    assert seen == [item["id"] for item in (await page(talk, sam, "hurt number"))["items"]]
    assert len(set(seen)) == 5
    beyond = await page(talk, sam, "hurt number", cursor=str(mia.user_id))
    assert (beyond["items"], beyond["next"]) == ([], None)


async def test_search_is_narrowed_in_every_mode(talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext) -> None:
    mia, sam, path = await two_who_talk(talk, ctx)
    other = await talk.begin(mia, sam)
    await say(talk, worker_ctx, mia, path, "hurt one", 0)
    await say(talk, worker_ctx, sam, other, "hurt two", 1)
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for mode in ("words", "meaning", "both"):
        for params, expected in (
            ({}, {"hurt one", "hurt two"}),
            ({"conversation_id": path.rpartition("/")[2]}, {"hurt one"}),
            ({"sender_id": str(sam.user_id)}, {"hurt two"}),
            ({"from": later}, set()),
            ({"to": later}, {"hurt one", "hurt two"}),
            ({"has_attachment": "true"}, set()),
            ({"has_attachment": "false"}, {"hurt one", "hurt two"}),
            ({"kind": "utterance"}, set()),
        ):
            found = await page(talk, sam, "hurt", mode=mode, **params)
            assert set(contents(found)) == expected, (mode, params)


# # --- models that do not answer -------------------------------------------------------------------------------------


async def test_words_answer_alone_while_the_models_are_silent(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext, questions: Questions
) -> None:
    mia, sam, path = await two_who_talk(talk, ctx)
    await say(talk, worker_ctx, mia, path, "It hurts", 9)
    await say(talk, worker_ctx, mia, path, "She cried out", 0, 1)
    questions.silent = True
    for mode in ("meaning", "both"):
        found = await page(talk, sam, "hurt", mode=mode)
        assert (contents(found), found["semantic"]) == (["It hurts"], False)


async def test_models_that_are_gone_or_talk_nonsense_leave_words(
    talk: MessagingClient, ctx: AppContext, client: httpx.AsyncClient, questions: Questions
) -> None:
    mia, sam, path = await two_who_talk(talk, ctx)
    await talk.say(mia, path, "cheese please")
    nonsense = await page(talk, sam, "cheese")  # the fake knows no vector for it: 500
    assert (contents(nonsense), nonsense["semantic"], questions.asked) == (["cheese please"], False, ["cheese"])
    without = await page(MessagingClient(client, ctx), sam, "cheese")  # no URL of models
    assert (contents(without), without["semantic"]) == (["cheese please"], False)


async def test_models_are_asked_for_nobody_who_may_not_search_and_for_no_words_alone(
    talk: MessagingClient, ctx: AppContext, questions: Questions
) -> None:
    mia, _, _ = await two_who_talk(talk, ctx)
    scientist = await talk.person(mia, "data_scientist")
    params = {"q": "hurt", "mode": "meaning"}
    assert (await talk.ask(scientist, "GET", "/api/messages/search", params=params)).status_code == 403
    assert (
        await talk.ask(mia, "GET", "/api/messages/search", params=params, headers={"Authorization": "Bearer x"})
    ).status_code == 401
    await page(talk, mia, "hurt", mode="words")
    assert questions.asked == []


# # --- access ---------------------------------------------------------------------------------------------------------


async def test_only_what_one_may_see_is_found_in_any_mode(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    mia, sam, path = await two_who_talk(talk, ctx)
    await say(talk, worker_ctx, mia, path, "hurt before", 0, 1)
    zoe = await talk.person(mia)
    await talk.ask(mia, "POST", f"{path}/members", json={"user_id": str(zoe.user_id)})
    edited = await say(talk, worker_ctx, mia, path, "hurt between", 0, 1)
    assert (await talk.ask(mia, "DELETE", f"{path}/members/{zoe.user_id}")).status_code == 204
    await say(talk, worker_ctx, mia, path, "hurt after", 0, 1)
    lead, stranger = await talk.person(mia, "safeguarding_lead"), await factories.make_actor(ctx)
    everything = {"hurt before", "hurt between", "hurt after"}
    for mode in ("words", "meaning", "both"):
        for actor, expected in (
            (mia, everything), (sam, everything), (zoe, {"hurt between"}), (lead, set()), (stranger, set()),
        ):  # fmt: skip
            assert set(contents(await page(talk, actor, "hurt", mode=mode))) == expected, (mode, actor)
    await talk.ask(mia, "PUT", f"/api/messages/{edited}", json={"content": "hurt between, edited"})
    await save_vectors_of(worker_ctx, mia, (edited, towards(0, 1)))
    for mode in ("words", "meaning", "both"):
        assert contents(await page(talk, zoe, "hurt", mode=mode)) == []  # she would see the edit
        assert "hurt between, edited" in contents(await page(talk, sam, "hurt", mode=mode))


async def test_the_functions_behind_search_name_nobody_more_than_row_level_security(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    mia, _, path = await two_who_talk(talk, ctx)
    await say(talk, worker_ctx, mia, path, "confidential", 0)
    strangers = [await talk.person(mia, "safeguarding_lead"), await factories.make_actor(ctx, "safeguarding_lead")]
    for actor, expected in ((mia, 1), *((stranger, 0) for stranger in strangers)):
        for function in (
            "app.rank_words('confidential', '{message, utterance, attachment}', null, null, null, null, null, 9)",
            f"app.nearest_messages('{towards(0)}', 'm1', null, null, null, null, null, 9)",
            f"app.rank_meaning('{towards(0)}', 'm1', '{{message, utterance}}', null, null, null, null, null, 9)",
        ):
            assert len(await factories.rows(ctx, actor, f"select * from {function}")) == expected, function


def nearest_exactly(databases: Databases, statement: str, *values: Any) -> set[Any]:
    """The ids of the ten nearest, by an exact scan without an index."""
    with psycopg.connect(databases.administrator) as admin:
        return {row[0] for row in admin.execute(f"{statement} + 0 limit 10".encode(), values).fetchall()}


async def test_the_index_names_what_an_exact_look_names(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> None:
    mia, sam, path = await two_who_talk(talk, ctx)
    other = await talk.begin(mia, await talk.person(mia))
    random = np.random.default_rng(3)
    for place in (path, other):
        sent = await factories.rows(
            ctx, mia,
            "insert into messages (tenant_id, id, conversation_id, sender_id, sender_type, content, changed_id) "
            "select %s, id, %s, %s, 'user', 'x', id from (select uuidv7() as id from generate_series(1, 1500)) "
            "returning id::text", mia.tenant_id, place.rpartition("/")[2], mia.user_id,
        )  # fmt: skip
        vectors = random.standard_normal((len(sent), 384)).tolist()
        await save_vectors_of(
            worker_ctx, mia, *((row["id"], vector) for row, vector in zip(sent, vectors, strict=True))
        )
    asked = str(random.standard_normal(384).tolist())
    nearest = "select id from app.nearest_messages(%s, 'm1', null, null, null, null, null, 10)"
    exact = "select message_id from message_vectors where conversation_id = any(%s) order by (embedding <=> %s)"
    own, all_of_them = [UUID(path.rpartition("/")[2])], [UUID(place.rpartition("/")[2]) for place in (path, other)]
    for actor, seen in ((mia, all_of_them), (sam, own)):
        found = {row["id"] for row in await factories.rows(ctx, actor, nearest, asked)}
        assert len(found & nearest_exactly(databases, exact, seen, asked)) >= 9, actor


async def test_the_index_names_what_was_said_in_calls_as_an_exact_look_does(
    ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> None:
    made = await read_call(ctx, worker_ctx)
    random = np.random.default_rng(4)
    (transcription,) = await factories.rows(worker_ctx, made.worker, "select id from transcriptions")
    said = [(at, str(random.standard_normal(384).tolist())) for at in range(100, 2600)]
    with psycopg.connect(databases.administrator) as admin, admin.cursor() as cursor:
        cursor.executemany(
            "insert into utterances (tenant_id, transcription_id, position, start_seconds, end_seconds, text, "
            "    confidence, embedding, embedding_model) values (%s, %s, %s, 0, 1, 'x', 0.9, %s, 'm1')",
            [(made.lead.tenant_id, transcription["id"], at, vector) for at, vector in said],
        )
    asked = str(random.standard_normal(384).tolist())
    nearest = "select id from app.nearest_utterances(%s, 'm1', null, null, null, null, null, 10)"
    exact = "select id from utterances where tenant_id = %s order by (embedding <=> %s)"
    found = {row["id"] for row in await factories.rows(ctx, made.lead, nearest, asked)}
    assert len(found & nearest_exactly(databases, exact, made.lead.tenant_id, asked)) >= 9
    assert await factories.rows(ctx, made.people["S2"], nearest, asked) == []  # an alert on it is about them


async def test_what_the_house_itself_writes_is_not_found(talk: MessagingClient, ctx: AppContext) -> None:
    mia, sam, path = await two_who_talk(talk, ctx)
    await talk.say(mia, path, "She joined us for tea")
    await talk.ask(mia, "POST", f"{path}/members", json={"user_id": str((await talk.person(mia)).user_id)})
    told = (await talk.ask(sam, "GET", path.replace("/conversations/", "/messages/conversations/"))).json()["items"]
    assert told[0]["sender_type"] == "system"
    assert "joined" in told[0]["content"]
    for mode in ("words", "both"):
        assert contents(await page(talk, sam, "joined", mode=mode)) == ["She joined us for tea"]


async def test_a_vector_of_another_model_is_compared_with_nothing(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    mia, sam, path = await two_who_talk(talk, ctx)
    message = await talk.say(mia, path, "She cried out")
    await save_vectors_of(worker_ctx, mia, (message["id"], towards(0, 1)), model="m0")
    assert contents(await page(talk, sam, "hurt", mode="meaning")) == []


# --- attachments -----------------------------------------------------------------------------------------------------


async def attach(talk: MessagingClient, actor: Actor, path: str, words: str) -> dict[str, Any]:
    """Sends a message with a text file and without text."""
    conversation = path.rpartition("/")[2]
    sent = await talk.ask(
        actor, "POST", "/api/messages/attachments", params={"conversation_id": conversation},
        files={"file": ("notes.txt", words.encode(), "text/plain")},
    )  # fmt: skip
    assert sent.status_code == 201, sent.text
    body = {"conversation_id": conversation, "message_type": "file", "attachments": [sent.json()["id"]]}
    message = await talk.ask(actor, "POST", "/api/messages", json=body)
    assert message.status_code == 201, message.text
    answer: dict[str, Any] = message.json()
    return answer


async def test_words_inside_an_attachment_are_found_by_who_sees_its_message(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia, sam, path = await two_who_talk(talk, ctx)
    message = await attach(talk, mia, path, "filler " * 200 + "a bruise on the wrist " + "filler " * 200)
    stranger, lead = await factories.make_actor(ctx), await talk.person(mia, "safeguarding_lead")
    for mode in ("words", "both"):
        (found,) = (await page(talk, sam, "bruises", mode=mode))["items"]
        assert (found["kind"], found["message_id"], found["name"]) == ("attachment", message["id"], "notes.txt")
        (mark,) = found["highlights"]
        assert found["content"][mark["start"] : mark["end"]] == "bruise"
        assert len(found["content"]) < 500
        for actor in (stranger, lead):
            assert (await page(talk, actor, "bruises", mode=mode))["items"] == []
        assert (await page(talk, sam, "bruises", mode=mode, has_attachment="false"))["items"] == []
    await talk.ask(mia, "DELETE", f"/api/messages/{message['id']}")
    for mode in ("words", "both"):
        assert (await page(talk, sam, "bruises", mode=mode))["items"] == []


async def test_messages_are_told_by_whether_they_came_with_a_file(talk: MessagingClient, ctx: AppContext) -> None:
    mia, sam, path = await two_who_talk(talk, ctx)
    await attach(talk, mia, path, "the plan of care")
    await talk.say(mia, path, "the plan of care is attached")
    for wanted, kinds in (("true", ["attachment"]), ("false", ["message"])):
        found = await page(talk, sam, "plan", mode="words", has_attachment=wanted)
        assert [item["kind"] for item in found["items"]] == kinds


# # --- transcripts of calls
# --------------------------------------------------------------------------------------------


async def read_call(ctx: AppContext, worker_ctx: AppContext) -> recording_fixtures.RecordingFixture:
    """A call with an alert about somebody; its second line has the vector of `hurt`."""
    made, _ = await recording_fixtures.make_alert(ctx, worker_ctx)
    transcriptions = await factories.rows(worker_ctx, made.worker, "select id from transcriptions")
    async with worker_ctx.database.acting_as(made.worker) as conn:
        vectors = [towards(0, 1) if n == 1 else towards(30 + n) for n in range(len(recording_fixtures.LINES))]
        await save_embeddings(conn, transcriptions[0]["id"], vectors, "m1")
    return made


async def test_what_was_said_in_calls_is_found_with_its_place(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made = await read_call(ctx, worker_ctx)
    for mode in ("words", "meaning", "both"):
        found = (
            await page(talk, made.lead, "hurts", mode=mode)
            if mode == "words"
            else await page(talk, made.lead, "hurt", mode=mode)
        )["items"][0]
        assert (found["kind"], found["content"]) == ("utterance", recording_fixtures.LINES[1][1])
        assert (found["recording_id"], found["start_seconds"]) == (str(made.recording_id), 4.0)
        assert found["speaker"] == "S2"
    speaker = {"sender_id": str(made.people["S2"].user_id)}
    assert len((await page(talk, made.lead, "morning or hurts", mode="words"))["items"]) == 2
    assert len((await page(talk, made.lead, "morning or hurts", mode="words", **speaker))["items"]) == 1


async def test_what_was_said_in_calls_is_found_by_those_who_read_transcripts(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made = await read_call(ctx, worker_ctx)
    stranger = await factories.make_actor(ctx, "safeguarding_lead")
    carer, elsewhere = await talk.person(made.lead), await talk.person(made.lead)
    await recording_fixtures.add_participant_row(ctx, made, carer)
    for mode in ("words", "meaning", "both"):
        assert (await page(talk, carer, "hurt", mode=mode))["items"] != []
        for actor in (stranger, elsewhere, made.people["S2"], await talk.person(made.lead, "external")):
            assert (await page(talk, actor, "hurt", mode=mode))["items"] == [], (mode, actor.role)


async def test_a_recording_that_is_withheld_or_deleted_is_not_searched(
    talk: MessagingClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made = await read_call(ctx, worker_ctx)
    carer = await talk.person(made.lead)
    await recording_fixtures.add_participant_row(ctx, made, carer)
    assert (await page(talk, carer, "hurt", mode="words"))["items"] != []
    (alert,) = await factories.rows(ctx, made.lead, "select id from alerts")
    named = await talk.ask(
        made.lead, "POST", f"/api/alerts/{alert['id']}/subjects", json={"user_id": str(carer.user_id)}
    )
    assert named.status_code == 201, named.text
    for mode in ("words", "meaning", "both"):
        assert (await page(talk, carer, "hurt", mode=mode))["items"] == [], mode
    await factories.rows(worker_ctx, made.worker, "update recordings set status = 'deleted' returning id")
    for mode in ("words", "meaning", "both"):
        assert (await page(talk, made.lead, "hurt", mode=mode))["items"] == [], mode
