"""Tests of conversations: making, listing, joining, leaving; only members see them, only for the time of membership."""

import asyncio
from dataclasses import replace
from uuid import UUID

import httpx
import pytest

from comms.web.context import AppContext
from tests import factories
from tests.comms.messaging_fixtures import MessagingClient, status_and_slug

pytestmark = pytest.mark.anyio


@pytest.fixture
def talk(client: httpx.AsyncClient, ctx: AppContext) -> MessagingClient:
    return MessagingClient(client, ctx)


async def test_a_conversation_is_made_with_its_members_and_read_back(talk: MessagingClient, ctx: AppContext) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    ada, ben = await talk.person(mia, "resident"), await talk.person(mia, "external")
    context = {"residents": [str(ada.user_id)], "incidents": ["INC-7"]}
    path = await talk.begin(mia, ada, ben, kind="family", title="Ada's family", care_context=context)
    read = await talk.ask(ben, "GET", path)
    conversation = read.json()
    assert {member["user_id"] for member in conversation["members"]} == {str(p.user_id) for p in (mia, ada, ben)}
    assert (conversation["title"], conversation["care_context"]) == ("Ada's family", context)
    assert (conversation["settings"], read.headers["etag"]) == ({"history": "from_joining"}, '"1"')


async def test_whoever_acts_has_their_own_stays_and_nobody_anothers(talk: MessagingClient, ctx: AppContext) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam, zoe = await talk.person(mia), await talk.person(mia)
    path = await talk.begin(mia, sam)
    there = UUID(path.rpartition("/")[2])
    stranger = await factories.make_actor(ctx, "care_manager")
    elsewhere = replace(sam, tenant_id=stranger.tenant_id)
    for actor, seen in ((mia, [there]), (sam, [there]), (zoe, []), (stranger, []), (elsewhere, [])):
        async with ctx.database.acting_as(actor) as conn:
            found = await conn.execute("select conversation_id from app.stays")
            assert [row["conversation_id"] for row in await found.fetchall()] == seen
    async with ctx.database.without_tenant() as conn:
        assert await (await conn.execute("select from app.stays")).fetchall() == []


async def test_two_people_have_one_direct_conversation_whoever_asks(talk: MessagingClient, ctx: AppContext) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    first, second, third = await asyncio.gather(
        talk.begin(mia, sam, kind="direct"), talk.begin(sam, mia, kind="direct"), talk.begin(mia, sam, kind="direct")
    )
    assert first == second == third
    body = {"conversation_type": "direct", "members": [str(mia.user_id)]}
    assert (await talk.ask(sam, "POST", "/api/conversations", json=body)).status_code == 200
    alone = await talk.ask(mia, "POST", "/api/conversations", json=body)
    assert status_and_slug(alone) == (422, "direct-needs-two")
    for leaving in (
        await talk.ask(sam, "DELETE", f"{first}/members/{sam.user_id}"),
        await talk.ask(sam, "POST", f"{first}/members", json={"user_id": str((await talk.person(mia)).user_id)}),
    ):
        assert status_and_slug(leaving) == (409, "direct-conversation")


async def test_the_list_has_the_last_active_first_with_unread_and_last_message(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    quiet, busy = await talk.begin(mia, sam), await talk.begin(mia, sam)
    await talk.say(mia, busy, "one")
    await talk.say(mia, quiet, "two")
    seen = await talk.say(mia, busy, "three")
    await talk.say(sam, busy, "mine does not count")
    await talk.say(mia, busy, "four")
    assert (await talk.ask(sam, "POST", f"{busy}/read", json={"up_to": seen["id"]})).status_code == 204
    listed = (await talk.ask(sam, "GET", "/api/conversations")).json()["items"]
    assert [
        (f"/api/conversations/{item['id']}", item["unread"], item["last_message"]["content"]) for item in listed
    ] == [(busy, 1, "four"), (quiet, 1, "two")]
    page = (await talk.ask(sam, "GET", "/api/conversations", params={"limit": "1"})).json()
    rest = (await talk.ask(sam, "GET", "/api/conversations", params={"cursor": page["next"]})).json()
    assert [item["id"] for item in page["items"] + rest["items"]] == [item["id"] for item in listed]
    assert rest["next"] is None


async def test_who_read_an_older_version_of_a_conversation_changes_nothing(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    path = await talk.begin(mia, await talk.person(mia), title="Night")
    await talk.say(mia, path, "a message is no change of the conversation")
    changed = await talk.ask(mia, "PUT", path, json={"title": "Night shift"}, headers={"If-Match": '"1"'})
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    late = await talk.ask(mia, "PUT", path, json={"title": "Lost"}, headers={"If-Match": '"1"'})
    assert status_and_slug(late) == (412, "version-stale")
    assert (await talk.ask(mia, "GET", path)).json()["title"] == "Night shift"


async def test_a_conversation_is_nobodys_who_is_not_in_it_whatever_their_role(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    path = await talk.begin(mia, await talk.person(mia), title="Private")
    message = await talk.say(mia, path, "between us")
    outsiders = [
        await talk.person(mia, role)
        for role in ("safeguarding_lead", "reviewer", "data_protection_officer", "care_manager", "resident", "service")
    ]
    for outsider in [*outsiders, await factories.make_actor(ctx, "safeguarding_lead")]:
        for answer in (
            await talk.ask(outsider, "GET", path),
            await talk.ask(outsider, "GET", f"/api/messages/conversations/{path.rpartition('/')[2]}"),
            await talk.ask(outsider, "GET", f"/api/messages/{message['id']}"),
            await talk.ask(outsider, "GET", f"/api/messages/{message['id']}/versions"),
            await talk.ask(outsider, "GET", f"/api/messages/{message['id']}/receipts"),
            await talk.ask(outsider, "POST", f"/api/messages/{message['id']}/reactions", json={"reaction": "x"}),
            await talk.ask(outsider, "PUT", f"/api/messages/{message['id']}", json={"content": "x"}),
        ):
            assert status_and_slug(answer) == (404, "not-found"), (outsider.role, answer.request.url)
        assert (await talk.ask(outsider, "GET", "/api/conversations")).json()["items"] == []
        assert await talk.find(outsider, "between") == []


async def test_nobody_lets_themselves_in(talk: MessagingClient, ctx: AppContext) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia, "safeguarding_lead")
    path = await talk.begin(mia, await talk.person(mia))
    answer = await talk.ask(sam, "POST", f"{path}/members", json={"user_id": str(sam.user_id)})
    assert status_and_slug(answer) == (404, "not-found")
    with pytest.raises(Exception, match="row-level security"):
        await factories.rows(
            ctx, sam,
            "insert into conversation_members (tenant_id, conversation_id, user_id, added_by, after_id) "
            "values (%s, %s, %s, %s, %s) returning id",
            sam.tenant_id, path.rpartition("/")[2], sam.user_id, sam.user_id, "00000000-0000-0000-0000-000000000000",
        )  # fmt: skip


async def test_who_joins_sees_what_comes_after_and_who_leaves_what_came_before(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    ben, sam = await talk.person(mia), await talk.person(mia)
    path = await talk.begin(mia, ben)
    await talk.say(mia, path, "before")
    added = await talk.ask(mia, "POST", f"{path}/members", json={"user_id": str(sam.user_id)})
    assert (added.status_code, (await talk.ask(sam, "GET", added.headers["location"])).json()) == (201, added.json())
    edited = await talk.say(mia, path, "at teatime, edited later")
    await talk.say(mia, path, "at teatime")
    assert await talk.read(sam, path) == ["at teatime, edited later", "at teatime"]
    assert (await talk.ask(mia, "DELETE", f"{path}/members/{sam.user_id}")).status_code == 204
    await talk.say(mia, path, "after teatime")
    await talk.ask(mia, "PUT", f"/api/messages/{edited['id']}", json={"content": "what sam must not see"})
    assert await talk.read(sam, path) == ["at teatime"]
    assert [found["content"] for found in await talk.find(sam, "teatime or sam")] == ["at teatime"]
    assert status_and_slug(await talk.ask(sam, "GET", path)) == (404, "not-found")
    assert status_and_slug(await talk.ask(sam, "GET", f"/api/messages/{edited['id']}/versions")) == (404, "not-found")
    body = {"conversation_id": path.rpartition("/")[2], "content": "still here?"}
    assert status_and_slug(await talk.ask(sam, "POST", "/api/messages", json=body)) == (404, "not-found")
    assert (await talk.ask(mia, "POST", f"{path}/members", json={"user_id": str(sam.user_id)})).status_code == 201
    await talk.say(mia, path, "again")
    assert await talk.read(sam, path) == ["at teatime", "again"]


async def test_who_is_removed_while_they_write_writes_nothing_afterwards(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    path = await talk.begin(mia, sam)
    body = {"conversation_id": path.rpartition("/")[2], "content": "quick"}
    *sent, removed = await asyncio.gather(
        *(talk.ask(sam, "POST", "/api/messages", json=body) for _ in range(8)),
        talk.ask(mia, "DELETE", f"{path}/members/{sam.user_id}"),
    )
    assert removed.status_code == 204
    assert {answer.status_code for answer in sent} <= {201, 404}
    late = await factories.rows(
        ctx, mia,
        "select 1 from messages m join conversation_members s on s.conversation_id = m.conversation_id "
        "and s.user_id = m.sender_id where m.sender_id = %s and m.id > s.until_id",
        sam.user_id,
    )  # fmt: skip
    assert late == []
    written = [answer.json()["id"] for answer in sent if answer.status_code == 201]
    assert len(await talk.read(sam, path)) == len(await talk.read(mia, path)) == len(written)


async def test_the_history_is_shown_to_newcomers_where_the_setting_says_so(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam = await talk.person(mia)
    path = await talk.begin(mia, await talk.person(mia), settings={"history": "whole"})
    await talk.say(mia, path, "before")
    await talk.ask(mia, "POST", f"{path}/members", json={"user_id": str(sam.user_id)})
    assert await talk.read(sam, path) == ["before"]
    again = await talk.ask(mia, "POST", f"{path}/members", json={"user_id": str(sam.user_id)})
    assert status_and_slug(again) == (409, "already-member")


async def test_residents_and_people_from_outside_take_part_in_what_staff_made(
    talk: MessagingClient, ctx: AppContext
) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    ada, ben = await talk.person(mia, "resident"), await talk.person(mia, "external")
    body = {"conversation_type": "direct", "members": [str(mia.user_id)]}
    assert status_and_slug(await talk.ask(ada, "POST", "/api/conversations", json=body)) == (
        403,
        "role-lacks-permission",
    )
    path = await talk.begin(mia, ada, ben, kind="family")
    await talk.say(ben, path, "how is she?")
    await talk.say(ada, path, "I am well")
    for answer in (
        await talk.ask(ben, "DELETE", f"{path}/members/{ada.user_id}"),
        await talk.ask(ben, "PUT", path, json={"title": "Ours"}),
        await talk.ask(ada, "POST", f"{path}/members", json={"user_id": str(ben.user_id)}),
    ):
        assert status_and_slug(answer) == (403, "role-lacks-permission")
    assert status_and_slug(await talk.ask(mia, "DELETE", f"{path}/members/{mia.user_id}")) == (409, "last-of-staff")
    assert (await talk.ask(ben, "DELETE", f"{path}/members/{ben.user_id}")).status_code == 204
    for kind, member in (("care_team", ada), ("group", await talk.person(mia, "data_scientist"))):
        wrong = {"conversation_type": kind, "members": [str(member.user_id)]}
        assert status_and_slug(await talk.ask(mia, "POST", "/api/conversations", json=wrong)) == (422, "member-role")


async def test_another_tenants_people_cannot_be_brought_in(talk: MessagingClient, ctx: AppContext) -> None:
    mia, stranger = await factories.make_actor(ctx, "care_manager"), await factories.make_actor(ctx)
    path = await talk.begin(mia, await talk.person(mia))
    context = {"residents": [str(stranger.user_id)]}
    for answer in (
        await talk.ask(mia, "POST", f"{path}/members", json={"user_id": str(stranger.user_id)}),
        await talk.ask(mia, "PUT", path, json={"care_context": context}),
        await talk.ask(
            mia, "POST", "/api/conversations",
            json={"conversation_type": "group", "members": [str(stranger.user_id)]},
        ),
    ):  # fmt: skip
        assert status_and_slug(answer) == (404, "not-found")


async def test_receipts_say_whom_a_message_reached_and_who_read_it(talk: MessagingClient, ctx: AppContext) -> None:
    mia = await factories.make_actor(ctx, "care_manager")
    sam, ben = await talk.person(mia), await talk.person(mia)
    path = await talk.begin(mia, sam, ben)
    first, second = await talk.say(mia, path, "one"), await talk.say(mia, path, "two")
    await talk.ask(sam, "POST", f"{path}/read", json={"up_to": first["id"]})
    await talk.ask(sam, "POST", f"{path}/delivered", json={"up_to": second["id"]})
    await talk.ask(sam, "POST", f"{path}/delivered", json={"up_to": first["id"]})

    async def receipts(message: dict[str, str]) -> dict[str, tuple[bool, bool]]:
        items = (await talk.ask(ben, "GET", f"/api/messages/{message['id']}/receipts")).json()["items"]
        return {item["user_id"]: (item["delivered_at"] is not None, item["read_at"] is not None) for item in items}

    assert await receipts(first) == {str(sam.user_id): (True, True), str(ben.user_id): (False, False)}
    assert await receipts(second) == {str(sam.user_id): (True, False), str(ben.user_id): (False, False)}
    foreign = await talk.say(mia, await talk.begin(mia, sam), "elsewhere")
    wrong = await talk.ask(sam, "POST", f"{path}/read", json={"up_to": foreign["id"]})
    assert status_and_slug(wrong) == (404, "not-found")
