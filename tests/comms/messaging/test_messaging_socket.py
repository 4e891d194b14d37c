"""Tests of /ws/messaging: who receives which events, open conversations, presence, typing, receipts."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

from comms.app.application import create_app
from comms.identity.sign_ins.queries import end_sign_in
from comms.kernel.database import Actor
from comms.live.fan_out import open_fan_out
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories
from tests.comms import outbox_helpers
from tests.comms.api_processes import api_process
from tests.comms.http_server import served
from tests.comms.live.test_websockets import opened, refusal, ticket_for
from tests.comms.messaging_fixtures import MessagingClient, status_and_slug

pytestmark = pytest.mark.anyio

PREFIX = "communication.writecarenotes.com."


@pytest.fixture(scope="module")
async def address(app: FastAPI, databases: Databases) -> AsyncIterator[str]:
    """The address of a running API with a relay."""
    async with served(app) as where, outbox_helpers.relaying(databases):
        yield where


@pytest.fixture
def talk(client: httpx.AsyncClient, ctx: AppContext) -> MessagingClient:
    return MessagingClient(client, ctx)


Opening = Callable[..., Awaitable[connect]]


@pytest.fixture
def socket_of(address: str, ctx: AppContext) -> Opening:
    """A messaging socket of the actor, not yet connected."""

    async def socket(actor: Actor, after: int | None = 0, where: str = address, **more: Any) -> connect:
        return opened(where, await ticket_for(ctx, actor), after, path="messaging", **more)

    return socket


async def said(socket: ClientConnection) -> dict[str, Any]:
    """The next message of any kind."""
    message: dict[str, Any] = json.loads(await socket.recv())
    return message


async def event(socket: ClientConnection) -> dict[str, Any]:
    """The next event, its type without the prefix."""
    while "position" not in (message := await said(socket)):
        pass
    return message | {"type": message["type"].removeprefix(PREFIX)}


async def events(socket: ClientConnection, last: str) -> list[str]:
    """The types of the next events, up to one about this message."""
    types: list[str] = []
    while True:
        heard = await event(socket)
        types.append(heard["type"])
        if heard["data"].get("message_id") == last and heard["type"] == "message.sent":
            return types


async def hint(socket: ClientConnection, type: str) -> dict[str, Any]:
    """The next message of this type that is not an event."""
    while (message := await said(socket))["type"] != type:
        pass
    return message


async def closed(socket: ClientConnection) -> tuple[int | None, str | None]:
    """The code and the reason with which the server closes the socket."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await socket.recv()
    return socket.close_code, socket.close_reason


def id_of(path: str) -> str:
    return path.rpartition("/")[2]


async def say_without_end(socket: ClientConnection) -> None:
    while True:
        await say(socket, "delivered", position=0)


async def say(socket: ClientConnection, type: str, **what: Any) -> None:
    await socket.send(json.dumps({"type": type, **what}))


# --- events ----------------------------------------------------------------------------------------------------------


async def test_whatever_happens_in_a_conversation_is_told_in_order_with_ids_alone(
    talk: MessagingClient, ctx: AppContext, socket_of: Opening
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam, ben = await talk.person(mia), await talk.person(mia)
    async with await socket_of(sam) as socket:
        path = await talk.begin(mia, sam, title="Night")
        message = await talk.say(mia, path, "unmistakable")
        at = f"/api/messages/{message['id']}"
        await talk.ask(sam, "POST", f"{at}/reactions", json={"reaction": "unmistakable"})
        await talk.ask(sam, "POST", f"{at}/reactions", json={"reaction": "unmistakable"})
        await talk.ask(sam, "DELETE", f"{at}/reactions", params={"reaction": "unmistakable"})
        await talk.ask(mia, "PUT", at, json={"content": "unmistakable too"})
        await talk.ask(mia, "DELETE", at)
        await talk.ask(mia, "PUT", path, json={"title": "unmistakable"})
        await talk.ask(mia, "POST", f"{path}/members", json={"user_id": str(ben.user_id)})
        await talk.ask(mia, "DELETE", f"{path}/members/{ben.user_id}")
        heard = [await event(socket) for _ in range(9)]
    assert [one["type"] for one in heard] == [
        "conversation.created", "message.sent", "message.reaction.added", "message.reaction.removed", "message.edited",
        "message.deleted", "conversation.changed", "conversation.member.joined", "conversation.member.left",
    ]  # fmt: skip
    assert {one["data"]["conversation_id"] for one in heard} == {id_of(path)}
    for ordered in ("position", "version"):
        assert [one[ordered] for one in heard] == sorted({one[ordered] for one in heard})
    moments = [one["data"]["moment"] for one in heard]
    assert moments == sorted(set(moments))
    assert heard[-1]["data"]["user_id"] == str(ben.user_id)
    assert "unmistakable" not in json.dumps(heard)


async def test_as_somebody_who_is_not_in_a_conversation_hears_nothing_of_it(
    talk: MessagingClient, ctx: AppContext, socket_of: Opening
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    outsiders = [await talk.person(mia, role) for role in ("safeguarding_lead", "data_protection_officer", "service")]
    stranger = await factories.make_actor(ctx, "care_manager")
    theirs = await talk.begin(mia, sam)
    for outsider in [*outsiders, stranger]:
        companion = mia if outsider is not stranger else await talk.person(stranger)
        for after in (0, None):
            async with await socket_of(outsider, after) as socket:
                await talk.say(mia, theirs, "between us")
                own = await talk.begin(outsider, companion)
                last = await talk.say(outsider, own, "ours")
                while (heard := await event(socket))["data"].get("message_id") != last["id"]:
                    assert heard["data"]["conversation_id"] != id_of(theirs), outsider.role
        async with await socket_of(outsider) as socket:  # all are earlier events
            while (heard := await event(socket))["data"].get("message_id") != last["id"]:
                assert heard["data"]["conversation_id"] != id_of(theirs), outsider.role


@pytest.mark.parametrize("live", [True, False])
async def test_who_joins_is_told_from_then_on_and_who_leaves_nothing_later(
    talk: MessagingClient, ctx: AppContext, socket_of: Opening, live: bool
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    path, other = await talk.begin(mia, await talk.person(mia)), await talk.begin(mia, sam)
    async with contextlib.AsyncExitStack() as stack:
        if live:
            socket = await stack.enter_async_context(await socket_of(sam))
        early = await talk.say(mia, path, "before")
        await talk.ask(mia, "POST", f"{path}/members", json={"user_id": str(sam.user_id)})
        seen = await talk.say(mia, path, "while sam is here")
        await talk.ask(mia, "DELETE", f"{path}/members/{sam.user_id}")
        for address in (f"/api/messages/{early['id']}", f"/api/messages/{seen['id']}"):
            await talk.ask(mia, "PUT", address, json={"content": "not for sam"})
        await talk.ask(mia, "POST", f"/api/messages/{seen['id']}/reactions", json={"reaction": "not for sam"})
        await talk.say(mia, path, "after")
        last = await talk.say(mia, other, "elsewhere")
        if not live:
            socket = await stack.enter_async_context(await socket_of(sam))
        assert await events(socket, last["id"]) == [
            "conversation.created", "conversation.member.joined", "message.sent", "conversation.member.left",
            "message.sent",
        ]  # fmt: skip


async def test_who_was_away_comes_back_to_where_they_were_in_each_conversation(
    talk: MessagingClient, ctx: AppContext, socket_of: Opening
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    paths = [await talk.begin(mia, sam) for _ in range(3)]
    sent = [(await talk.say(mia, path, "x"))["id"] for _ in range(5) for path in paths]
    heard: list[dict[str, Any]] = []
    while len([one for one in heard if one["type"] == "message.sent"]) < len(sent):
        async with await socket_of(sam, heard[-1]["position"] if heard else 0) as socket:
            heard += [await event(socket) for _ in range(2)]
    assert [one["data"]["message_id"] for one in heard if one["type"] == "message.sent"] == sent


async def test_events_of_other_rooms_are_not_told(talk: MessagingClient, ctx: AppContext, socket_of: Opening) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    session = await factories.make_session(ctx, mia, mia, sam, session_type="meeting")
    async with await socket_of(sam) as socket:
        path = await talk.begin(mia, sam)
        heard = await event(socket)
    assert (heard["type"], heard["subject"]) == ("conversation.created", f"conversation/{id_of(path)}")
    assert str(session) not in json.dumps(heard)


# # --- system messages
# -------------------------------------------------------------------------------------------------


async def test_the_house_says_who_came_and_went_and_that_the_title_changed_without_a_name(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    path = await talk.begin(mia, await talk.person(mia))
    await talk.ask(mia, "POST", f"{path}/members", json={"user_id": str(sam.user_id)})
    await talk.ask(mia, "PUT", path, json={"title": "Night"})
    await talk.ask(mia, "PUT", path, json={"settings": {"history": "whole"}})
    await talk.ask(sam, "DELETE", f"{path}/members/{sam.user_id}")
    by = str(mia.user_id)
    expected = [
        ("A member joined.", {"code": "member_joined", "user_id": str(sam.user_id), "by": by}),
        ("The title was changed.", {"code": "renamed", "user_id": None, "by": by}),
        ("A member left.", {"code": "member_left", "user_id": str(sam.user_id), "by": str(sam.user_id)}),
    ]
    for reader in (mia, sam):  # a former member sees that they joined and left
        answer = await talk.ask(reader, "GET", f"/api/messages/conversations/{id_of(path)}")
        items = answer.json()["items"][::-1]
        assert [(item["content"], item["about"]) for item in items] == expected
        assert {(item["sender_type"], item["message_type"], item["sender_id"]) for item in items} == {
            ("system", "system", None)
        }
    listed = (await talk.ask(mia, "GET", "/api/conversations")).json()["items"][0]
    assert (listed["unread"], listed["last_message"]["about"]["code"]) == (0, "member_left")


async def test_nobody_else_speaks_as_the_house(talk: MessagingClient, ctx: AppContext) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    path = await talk.begin(mia, await talk.person(mia))
    await talk.ask(mia, "PUT", path, json={"title": "Night"})
    said = (await talk.ask(mia, "GET", f"/api/messages/conversations/{id_of(path)}")).json()["items"][0]
    edited = await talk.ask(mia, "PUT", f"/api/messages/{said['id']}", json={"content": "Sam left."})
    assert status_and_slug(edited) == (403, "message-anothers")
    for sender in (None, mia.user_id):
        with pytest.raises(Exception, match=r"row-level security|check constraint"):
            await factories.rows(
                ctx, mia,
                "insert into messages (tenant_id, id, conversation_id, sender_id, sender_type, message_type, content, "
                "changed_id, about) values (%s, uuidv7(), %s, %s, %s, 'system', 'Sam left.', uuidv7(), '{}') "
                "returning id",
                mia.tenant_id, id_of(path), sender, "user" if sender else "system",
            )  # fmt: skip


# # --- open conversations, typing, receipts
# ----------------------------------------------------------------------------


async def test_those_who_have_a_conversation_open_are_told_of_each_other_and_who_types(
    talk: MessagingClient, ctx: AppContext, socket_of: Opening
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam, ben = await talk.person(mia), await talk.person(mia)
    path = await talk.begin(mia, sam, ben)
    conversation = {"conversation_id": id_of(path)}
    async with await socket_of(mia) as first, await socket_of(sam) as second, await socket_of(ben) as absent:
        await say(first, "enter", **conversation)
        assert (await hint(first, "presence"))["present"] == [str(mia.user_id)]
        await say(second, "enter", **conversation)
        assert (await hint(second, "presence"))["present"] == sorted([str(mia.user_id), str(sam.user_id)])
        for type, act in (("presence.joined", None), ("typing.started", "typing"), ("typing.stopped", None)):
            if act:
                await say(second, act, **conversation)
            assert await hint(first, type) == {"type": type, **conversation, "user_id": str(sam.user_id)}
        await say(second, "leave", **conversation)
        assert (await hint(first, "presence.left"))["user_id"] == str(sam.user_id)
        await talk.say(mia, path, "to all")
        for _ in range(2):
            assert "position" in await said(absent)  # and no presence message before it


async def test_what_reaches_and_what_is_read_is_told_to_those_who_have_it_open(
    talk: MessagingClient, ctx: AppContext, socket_of: Opening
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    path, other = await talk.begin(mia, sam), await talk.begin(mia, sam)
    async with await socket_of(mia) as sender, await socket_of(sam) as receiver:
        await say(sender, "enter", conversation_id=id_of(path))
        await hint(sender, "presence")
        sent = [await talk.say(mia, where, "x") for where in (path, path, other)]
        while (heard := await event(receiver))["data"].get("message_id") != sent[-1]["id"]:
            pass
        await say(receiver, "delivered", position=heard["position"])
        reached = await hint(sender, "receipt.delivered")
        assert (reached["user_id"], reached["up_to"]) == (str(sam.user_id), sent[1]["id"])
        await talk.ask(sam, "POST", f"{path}/read", json={"up_to": sent[0]["id"]})
        read = await hint(sender, "receipt.read")
        assert (read["conversation_id"], read["up_to"]) == (id_of(path), sent[0]["id"])
    receipts = [
        (await talk.ask(mia, "GET", f"/api/messages/{message['id']}/receipts")).json()["items"][0] for message in sent
    ]
    assert [(one["delivered_at"] is not None, one["read_at"] is not None) for one in receipts] == [
        (True, True), (True, False), (True, False),
    ]  # fmt: skip
    unread = {item["id"]: item["unread"] for item in (await talk.ask(sam, "GET", "/api/conversations")).json()["items"]}
    assert unread == {id_of(path): 1, id_of(other): 1}


async def test_to_say_that_all_has_arrived_gives_no_receipt_of_what_one_may_not_see(
    talk: MessagingClient, ctx: AppContext, socket_of: Opening
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam, ben = await talk.person(mia), await talk.person(mia)
    theirs, own = await talk.begin(mia, ben), await talk.begin(mia, sam)
    await talk.say(mia, theirs, "not for sam")
    await talk.say(sam, own, "sam's own")
    async with await socket_of(sam) as socket:
        await say(socket, "delivered", position=2**62)
        await say(socket, "enter", conversation_id=id_of(own))
        await hint(socket, "presence")  # the messages before have been handled
    assert await factories.rows(ctx, mia, "select 1 from conversation_receipts") == []


async def test_who_leaves_a_conversation_that_they_have_open_is_told_of_nobody_there_any_more(
    talk: MessagingClient, ctx: AppContext, socket_of: Opening
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam, ben = await talk.person(mia), await talk.person(mia)
    path, other = await talk.begin(mia, sam, ben), await talk.begin(mia, sam)
    conversation = {"conversation_id": id_of(path)}
    async with await socket_of(mia, None) as staying, await socket_of(sam, None) as leaving:
        for socket in (staying, leaving):
            await say(socket, "enter", **conversation)
            await hint(socket, "presence")
        await talk.ask(mia, "DELETE", f"{path}/members/{sam.user_id}")
        while (await event(leaving))["type"] != "conversation.member.left":
            pass
        assert (await hint(staying, "presence.left"))["user_id"] == str(sam.user_id)
        async with await socket_of(ben, None) as third:
            await say(third, "enter", **conversation)
            assert (await hint(third, "presence"))["present"] == sorted([str(mia.user_id), str(ben.user_id)])
            await say(third, "typing", **conversation)
            await hint(staying, "typing.started")
        await hint(staying, "presence.left")
        last = await talk.say(mia, other, "elsewhere")
        assert (await said(leaving))["data"]["message_id"] == last["id"]
        await say(leaving, "enter", **conversation)
        assert (await said(leaving))["problem"] == "not-found"


async def test_what_cannot_be_done_is_answered_and_ends_nothing(
    talk: MessagingClient, ctx: AppContext, socket_of: Opening
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    stranger = await factories.make_actor(ctx, "care_manager")
    path = await talk.begin(mia, sam)
    foreign = await talk.begin(stranger, await talk.person(stranger))
    async with await socket_of(sam, None) as socket:
        for words in (
            "hello?",
            "[]",
            '{"type": "shout"}',
            '{"type": "delivered", "position": -1}',
            "\N{GRINNING FACE}",
        ):
            await socket.send(words)
            assert (await said(socket))["problem"] == "said-invalid"
        await socket.send(b"\x00\xff")
        assert (await said(socket))["problem"] == "said-invalid"
        for type, where, problem in (
            ("typing", path, "conversation-not-open"), ("enter", foreign, "not-found"),
            ("enter", f"/{uuid.uuid4()}", "not-found"),
        ):  # fmt: skip
            await say(socket, type, conversation_id=id_of(where))
            assert await said(socket) == {"type": "problem", "problem": problem, "about": type}
        await say(socket, "enter", conversation_id=id_of(path))
        assert (await said(socket))["present"] == [str(sam.user_id)]


async def test_a_socket_has_few_conversations_open_at_a_time(
    talk: MessagingClient, ctx: AppContext, socket_of: Opening
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    paths = [await talk.begin(mia, sam) for _ in range(11)]
    async with await socket_of(sam, None) as socket:
        for path in paths[:10]:
            await say(socket, "enter", conversation_id=id_of(path))
            await hint(socket, "presence")
        await say(socket, "enter", conversation_id=id_of(paths[10]))
        assert (await hint(socket, "problem"))["problem"] == "too-many-open"
        await say(socket, "leave", conversation_id=id_of(paths[0]))
        await say(socket, "enter", conversation_id=id_of(paths[10]))
        assert (await hint(socket, "presence"))["conversation_id"] == id_of(paths[10])


# # --- access and disconnection
# ----------------------------------------------------------------------------------------


async def test_roles_that_write_no_messages_are_refused(address: str, ctx: AppContext) -> None:
    for role in ("data_scientist", "platform_admin"):
        ticket = await ticket_for(ctx, await factories.make_actor(ctx, role))
        assert await refusal(address, ticket, path="messaging") == (403, "role-lacks-permission")


async def test_a_sign_in_that_ends_takes_its_messaging_socket_along(
    talk: MessagingClient, ctx: AppContext, socket_of: Opening
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    path = await talk.begin(mia, sam)
    ending = await factories.signed_in(ctx, sam)
    async with await socket_of(ending) as cut, await socket_of(sam) as kept:
        async with ctx.database.acting_as(ending) as conn:
            assert ending.sign_in_id is not None
            await end_sign_in(conn, ending, ending.user_id, ending.sign_in_id, "signed_out")
        assert await closed(cut) == (4401, "sign-in-ended")
        assert (await events(kept, (await talk.say(mia, path, "x"))["id"]))[-1] == "message.sent"


async def test_a_client_that_says_too_much_is_cut_off(ctx: AppContext, socket_of: Opening) -> None:
    async with await socket_of(await factories.make_actor(ctx, "care_worker")) as socket:
        with pytest.raises(ConnectionClosedError):
            await say_without_end(socket)
        assert (socket.close_code, socket.close_reason) == (1008, "said-too-much")


async def test_a_client_that_is_too_slow_is_cut_off_and_comes_back_without_loss(
    talk: MessagingClient, ctx: AppContext, socket_of: Opening
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    path = await talk.begin(mia, sam)
    another = create_app(ctx.settings)
    async with open_fan_out(ctx, max_queued=0) as impatient, served(another) as elsewhere:
        another.state.ctx, another.state.fan_out = ctx, impatient
        async with await socket_of(sam, None, elsewhere) as slow, await socket_of(mia) as awake:
            sent = [(await talk.say(mia, path, f"{n}"))["id"] for n in range(20)]
            await events(awake, sent[-1])
            assert await closed(slow) == (1013, "socket-too-slow")
    async with await socket_of(sam) as back:
        assert await events(back, sent[-1]) == ["conversation.created", *["message.sent"] * 20]


async def test_two_processes_tell_the_same_and_know_who_types_at_the_other(
    talk: MessagingClient, ctx: AppContext, databases: Databases, socket_of: Opening
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    path = await talk.begin(mia, sam)
    async with (
        api_process(ctx, databases) as one,
        api_process(ctx, databases) as other,
        await socket_of(mia, 0, one.address) as here,
        await socket_of(sam, 0, other.address) as there,
    ):
        for socket in (here, there):
            await say(socket, "enter", conversation_id=id_of(path))
        await hint(there, "presence")
        await say(there, "typing", conversation_id=id_of(path))
        assert (await hint(here, "typing.started"))["user_id"] == str(sam.user_id)
        sent = [(await talk.say(person, path, "x"))["id"] for person in (mia, sam) * 5]
        status_and_slug = await asyncio.gather(*(events(socket, sent[-1]) for socket in (here, there)))
        other.kill()
        assert (await hint(here, "presence.left"))["user_id"] == str(sam.user_id)
    assert status_and_slug[0][-10:] == status_and_slug[1][-10:] == ["message.sent"] * 10
