"""Tests of messages: sending, replies, edits, deletion, reactions, search; every version is kept."""

import asyncio
from itertools import pairwise
from uuid import UUID

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from comms.kernel.database import Actor
from comms.messaging.messages.search import _highlight_ranges
from comms.web.context import AppContext
from tests import factories
from tests.comms.messaging_fixtures import MessagingClient, status_and_slug

pytestmark = pytest.mark.anyio


@pytest.fixture
def talk(client: httpx.AsyncClient, ctx: AppContext) -> MessagingClient:
    return MessagingClient(client, ctx)


async def two_in_a_conversation(talk: MessagingClient, ctx: AppContext) -> tuple[Actor, Actor, str]:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    return mia, sam, await talk.begin(mia, sam)


async def test_a_message_is_answered_as_it_is_read(talk: MessagingClient, ctx: AppContext) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    first = await talk.say(mia, path, "Has Ada eaten?")
    reply = await talk.say(sam, path, "Not yet, @mia", reply_to=first["id"], mentions=[str(mia.user_id)])
    assert reply.pop("reading")["will_be_read"] is False  # only this answer has it
    assert (await talk.ask(mia, "GET", f"/api/messages/{reply['id']}")).json() == reply
    assert (reply["reply_to"], reply["mentions"], reply["sender_type"]) == (first["id"], [str(mia.user_id)], "user")
    service = await talk.person(mia, "service")
    await talk.ask(mia, "POST", f"{path}/members", json={"user_id": str(service.user_id)})
    assert (await talk.say(service, path, "From elsewhere"))["sender_type"] == "integration"


async def test_a_message_replies_to_and_mentions_what_is_in_its_conversation(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    elsewhere = await talk.say(mia, await talk.begin(mia, sam), "elsewhere")
    stranger = await talk.person(mia)
    body = {"conversation_id": path.rpartition("/")[2], "content": "x"}
    replied = await talk.ask(mia, "POST", "/api/messages", json=body | {"reply_to": elsewhere["id"]})
    assert status_and_slug(replied) == (404, "not-found")
    mentioned = await talk.ask(mia, "POST", "/api/messages", json=body | {"mentions": [str(stranger.user_id)]})
    assert status_and_slug(mentioned) == (422, "mention-not-member")
    for kind in ("system", "alert", "file"):
        assert (await talk.ask(mia, "POST", "/api/messages", json=body | {"message_type": kind})).status_code == 422
    assert await talk.read(sam, path) == []


async def test_a_conversation_is_read_in_pages_newest_first(talk: MessagingClient, ctx: AppContext) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    sent = [(await talk.say(mia, path, f"number {n}"))["id"] for n in range(5)]
    seen: list[str] = []
    params = {"limit": "2"}
    while "cursor" not in params or params["cursor"]:
        page = (
            await talk.ask(sam, "GET", f"/api/messages/conversations/{path.rpartition('/')[2]}", params=params)
        ).json()
        seen += [item["id"] for item in page["items"]]
        params["cursor"] = page["next"] or ""
    assert seen == sent[::-1]


async def test_messages_of_many_at_once_have_one_order_and_events_that_follow_it(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    await asyncio.gather(*(talk.say(person, path, f"{n}") for n in range(6) for person in (mia, sam)))
    told_of = await factories.rows(
        ctx, mia,
        "select type, data ->> 'message_id' as message, aggregate_version as version from events "
        "where aggregate_type = 'conversation' and aggregate_id = %s and type <> 'conversation.created' "
        "order by aggregate_version",
        path.rpartition("/")[2],
    )  # fmt: skip
    assert [(row["type"], row["version"]) for row in told_of] == [("message.sent", n) for n in range(2, 14)]
    assert all(UUID(earlier["message"]) < UUID(later["message"]) for earlier, later in pairwise(told_of))


async def test_an_edit_keeps_what_was_there_with_who_and_when(talk: MessagingClient, ctx: AppContext) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    message = await talk.say(mia, path, "Ada fell at 9")
    address = f"/api/messages/{message['id']}"
    edited = await talk.ask(mia, "PUT", address, json={"content": "Ada fell at 10"}, headers={"If-Match": '"1"'})
    assert (edited.status_code, edited.headers["etag"], edited.json()["content"]) == (200, '"2"', "Ada fell at 10")
    versions = (await talk.ask(sam, "GET", f"{address}/versions")).json()["items"]
    assert [(v["standing"], v["version"], v["content"], v["written_by"]) for v in versions] == [
        ("former", 1, "Ada fell at 9", str(mia.user_id)), ("current", 2, "Ada fell at 10", str(mia.user_id)),
    ]  # fmt: skip
    assert versions[0]["written_at"] == message["created_at"]
    assert status_and_slug(await talk.ask(sam, "PUT", address, json={"content": "No"})) == (403, "message-anothers")
    assert status_and_slug(await talk.ask(sam, "DELETE", address)) == (403, "message-anothers")


async def test_of_two_edits_at_once_both_are_kept_and_the_later_is_told(talk: MessagingClient, ctx: AppContext) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    address = f"/api/messages/{(await talk.say(mia, path, 'note'))['id']}"
    answers = await asyncio.gather(
        *(
            talk.ask(mia, "PUT", address, json={"content": words}, headers={"If-Match": '"1"'})
            for words in ("from the tablet", "from the telephone")
        )
    )
    by_status = {answer.status_code: answer for answer in answers}
    assert set(by_status) == {200, 412}
    assert status_and_slug(by_status[412]) == (412, "version-stale")
    versions = (await talk.ask(mia, "GET", by_status[412].headers["location"])).json()["items"]
    standings = {version["standing"]: version["content"] for version in versions}
    assert standings["current"] == by_status[200].json()["content"]
    assert {standings["current"], standings["competing"]} == {"from the tablet", "from the telephone"}
    assert standings["former"] == "note"
    repeated = await talk.ask(mia, "PUT", address, json={"content": "both"}, headers={"If-Match": '"2"'})
    assert repeated.status_code == 200


async def test_a_deleted_message_is_gone_for_all_but_the_officers_who_are_logged(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    address = f"/api/messages/{(await talk.say(mia, path, 'a cruel word'))['id']}"
    await talk.ask(mia, "PUT", address, json={"content": "a crueller word"})
    assert (await talk.ask(mia, "DELETE", address)).status_code == 204
    assert await talk.read(sam, path) == [None]
    assert await talk.find(sam, "cruel") == []
    for member in (mia, sam):
        assert (await talk.ask(member, "GET", f"{address}/versions")).json()["items"] == []
    for answer in (
        await talk.ask(mia, "PUT", address, json={"content": "back"}),
        await talk.ask(mia, "DELETE", address),
        await talk.ask(sam, "POST", f"{address}/reactions", json={"reaction": "x"}),
    ):
        assert status_and_slug(answer) == (409, "message-deleted")
    assert status_and_slug(await talk.ask(await talk.person(mia, "reviewer"), "GET", f"{address}/versions")) == (
        404,
        "not-found",
    )
    for role in ("data_protection_officer", "safeguarding_lead"):
        officer = await talk.person(mia, role)
        versions = (await talk.ask(officer, "GET", f"{address}/versions")).json()["items"]
        assert [version["content"] for version in versions] == ["a cruel word", "a crueller word"]
        logged = await factories.rows(
            ctx, officer, "select 1 from audit_log where action = 'message.deleted-read' and actor_id = %s",
            officer.user_id,
        )  # fmt: skip
        assert len(logged) == 1


async def test_no_statement_changes_or_removes_a_kept_version(talk: MessagingClient, ctx: AppContext) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    message = await talk.say(mia, path, "first")
    await talk.ask(mia, "PUT", f"/api/messages/{message['id']}", json={"content": "second"})
    for statement in ("update message_versions set content = 'x' returning id", "delete from message_versions"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await factories.rows(ctx, mia, statement)
    # Directly in the database: a trigger keeps what an update would overwrite.
    await factories.rows(
        ctx, mia, "update messages set content = 'third', version = 3 where id = %s returning id", message["id"]
    )
    kept = await factories.rows(ctx, mia, "select content from message_versions order by version")
    assert [row["content"] for row in kept] == ["first", "second"]


async def test_what_is_done_is_told_by_ids_alone(talk: MessagingClient, ctx: AppContext) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    message = await talk.say(mia, path, "unmistakable")
    address = f"/api/messages/{message['id']}"
    await talk.ask(mia, "PUT", address, json={"content": "unmistakable too"})
    await talk.ask(mia, "DELETE", address)
    events = await factories.rows(
        ctx, mia,
        "select type, data::text as data from events where type like 'message.%%' order by aggregate_version",
    )  # fmt: skip
    assert [row["type"] for row in events] == ["message.sent", "message.edited", "message.deleted"]
    lead = await talk.person(mia, "safeguarding_lead")
    acts = await factories.rows(ctx, lead, "select action, details::text as data from audit_log order by id")
    assert [row["action"] for row in acts if row["action"].startswith("message.")] == [row["type"] for row in events]
    assert [row for row in events + acts if "unmistakable" in row["data"]] == []


async def test_reactions_are_each_persons_own(talk: MessagingClient, ctx: AppContext) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    address = f"/api/messages/{(await talk.say(mia, path, 'cake at three'))['id']}"
    for person, reaction in ((sam, "🎂"), (sam, "🎂"), (mia, "👍"), (sam, "👍")):
        given_one = await talk.ask(person, "POST", f"{address}/reactions", json={"reaction": reaction})
        assert given_one.status_code == 201
    assert (await talk.ask(sam, "DELETE", f"{address}/reactions", params={"reaction": "👍"})).status_code == 204
    assert (await talk.ask(sam, "DELETE", f"{address}/reactions", params={"reaction": "👍"})).status_code == 204
    assert (await talk.ask(mia, "GET", address)).json()["reactions"] == [
        {"user_id": str(sam.user_id), "reaction": "🎂"}, {"user_id": str(mia.user_id), "reaction": "👍"},
    ]  # fmt: skip


async def test_a_message_repeated_under_its_key_is_sent_once(talk: MessagingClient, ctx: AppContext) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    body = {"conversation_id": path.rpartition("/")[2], "content": "once"}
    first, again = [
        await talk.ask(mia, "POST", "/api/messages", json=body, headers={"Idempotency-Key": "a"}) for _ in range(2)
    ]
    assert first.json() == again.json()
    assert await talk.read(sam, path) == ["once"]


async def test_search_finds_forms_of_words_and_marks_where_they_stand(talk: MessagingClient, ctx: AppContext) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    await talk.say(mia, path, "nothing here")
    message = await talk.say(sam, path, "🎂 <b>Falls</b> again: she fell, and falling hurts")
    (found,) = await talk.find(mia, "fall")
    assert found["id"] == message["id"]
    words = [found["content"][mark["start"] : mark["end"]] for mark in found["highlights"]]
    assert words == ["Falls", "falling"]
    assert await talk.find(mia, '"hurts falling"') == []
    assert await talk.find(mia, "the") == []
    assert [m["content"] for m in await talk.find(mia, "nothing or hurt")] == [message["content"], "nothing here"]


async def test_search_is_narrowed_by_conversation_sender_and_time(talk: MessagingClient, ctx: AppContext) -> None:
    mia, sam, path = await two_in_a_conversation(talk, ctx)
    other = await talk.begin(mia, sam)
    first, second = await talk.say(mia, path, "tablets given"), await talk.say(sam, other, "tablets refused")
    ids = {"first": first["id"], "second": second["id"]}
    for params, expected in (
        ({}, ["second", "first"]),
        ({"conversation_id": path.rpartition("/")[2]}, ["first"]),
        ({"sender_id": str(sam.user_id)}, ["second"]),
        ({"from": "2020-01-01T00:00:00Z", "to": "2020-02-01T00:00:00Z"}, []),
        ({"from": "2020-01-01T00:00:00+01:00"}, ["second", "first"]),
        ({"limit": "1", "cursor": second["id"]}, ["first"]),
    ):
        assert [found["id"] for found in await talk.find(mia, "tablet", **params)] == [ids[n] for n in expected], params


async def test_the_function_behind_search_shows_nobody_more_than_row_level_security(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia, _, path = await two_in_a_conversation(talk, ctx)
    await talk.say(mia, path, "confidential")
    strangers = [await talk.person(mia, "safeguarding_lead"), await factories.make_actor(ctx, "safeguarding_lead")]
    for actor, expected in ((mia, 1), *((stranger, 0) for stranger in strangers)):
        found = await factories.rows(
            ctx, actor,
            "select * from app.search_messages(to_tsquery('english', 'confidential'), null, null, null, null, null, "
            "'ffffffff-ffff-ffff-ffff-ffffffffffff', 10)",
        )  # fmt: skip
        assert len(found) == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strategies.lists(strategies.tuples(strategies.text(alphabet="ab 🎂"), strategies.text(alphabet="xy 🎂"))))
def test_marks_are_counted_without_themselves(pieces: list[tuple[str, str]]) -> None:
    marked = "".join(f"{before}\ue000{find}\ue001" for before, find in pieces) + "end"
    plain = marked.replace("\ue000", "").replace("\ue001", "")
    assert [plain[first:last] for first, last in _highlight_ranges(marked)] == [find for _, find in pieces]
