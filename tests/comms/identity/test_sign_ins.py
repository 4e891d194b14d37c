"""Tests of sign-ins: a token is valid only while its sign-in is open, and listeners are notified when one ends."""

from uuid import UUID

import httpx
import psycopg
import pytest

from comms.identity.sign_ins.queries import REVOKED_CHANNEL, end_all_sign_ins, end_sign_in, find_ended
from comms.kernel.access.system_actor import system_actor
from comms.kernel.access.tokens import Issuer, Verifier
from comms.kernel.database import Actor
from comms.live.tickets import make_ticket, redeem_ticket
from comms.web.context import AppContext
from instance.provisioning import Databases
from models.contract.errors import WriteCareError
from tests import factories

pytestmark = pytest.mark.anyio


def slug_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition("/")[2]


def sign_in_of(person: Actor) -> UUID:
    assert person.sign_in_id is not None
    return person.sign_in_id


async def end(ctx: AppContext, ended: Actor, by: Actor | None = None) -> None:
    async with ctx.database.acting_as(by or ended) as conn:
        await end_sign_in(conn, by or ended, (by or ended).user_id, sign_in_of(ended), "signed_out")


async def test_a_token_names_the_sign_in_it_came_from(ctx: AppContext) -> None:
    person = await factories.signed_in(ctx, await factories.make_actor(ctx))
    keys_dir = ctx.settings.data_dir / "keys"
    token = Issuer.open(keys_dir, ctx.settings.issuer).sign(person, 60)
    assert Verifier.open(keys_dir, ctx.settings.issuer).verify(token) == person


async def test_a_token_is_good_until_its_sign_in_ends_and_no_longer(client: httpx.AsyncClient, ctx: AppContext) -> None:
    person = await factories.make_actor(ctx)
    here, there = await factories.signed_in(ctx, person), await factories.signed_in(ctx, person)
    assert (await client.get("/api/me", headers=factories.bearer(ctx, here))).status_code == 200
    await end(ctx, here)
    refused = await client.get("/api/me", headers=factories.bearer(ctx, here))
    assert (refused.status_code, slug_of(refused)) == (401, "token-invalid")
    assert (await client.get("/api/me", headers=factories.bearer(ctx, there))).status_code == 200
    # a token from the command line has no sign-in
    assert (await client.get("/api/me", headers=factories.bearer(ctx, person))).status_code == 200


async def test_a_sign_in_past_its_absolute_end_lets_nobody_in(client: httpx.AsyncClient, ctx: AppContext) -> None:
    person = await factories.signed_in(ctx, await factories.make_actor(ctx), lifetime_seconds=-1)
    assert (await client.get("/api/me", headers=factories.bearer(ctx, person))).status_code == 401


async def test_nobody_borrows_anothers_sign_in(client: httpx.AsyncClient, ctx: AppContext) -> None:
    owner = await factories.signed_in(ctx, await factories.make_actor(ctx))
    other = await factories.make_user(ctx, owner.tenant_id)
    borrowed = Actor(other.tenant_id, other.user_id, other.role, sign_in_id=owner.sign_in_id)
    assert (await client.get("/api/me", headers=factories.bearer(ctx, borrowed))).status_code == 401


async def test_a_ticket_dies_with_its_sign_in_and_carries_it_to_the_socket(ctx: AppContext) -> None:
    person = await factories.signed_in(ctx, await factories.make_actor(ctx))
    async with ctx.database.acting_as(person) as conn:
        first, second = await make_ticket(conn, person), await make_ticket(conn, person)
    assert await redeem_ticket(ctx.database, first.ticket) == person
    await end(ctx, person)
    with pytest.raises(WriteCareError) as refusal:
        await redeem_ticket(ctx.database, second.ticket)
    assert refusal.value.slug == "ticket-invalid"


async def test_those_that_are_gone_are_told_from_those_that_stand(ctx: AppContext) -> None:
    person = await factories.make_actor(ctx)
    neighbour = await factories.signed_in(ctx, await factories.make_actor(ctx))
    stands, ended = await factories.signed_in(ctx, person), await factories.signed_in(ctx, person)
    closed = await factories.make_user(ctx, person.tenant_id)
    await factories.rows(ctx, closed, "update users set active = false where id = %s returning id", closed.user_id)
    await end(ctx, ended)
    asked = [sign_in_of(stands), sign_in_of(ended), sign_in_of(neighbour)]
    async with ctx.database.acting_as(system_actor(person.tenant_id)) as conn:
        found = await find_ended(conn, asked, [person.user_id, closed.user_id])
    assert found == {ended.sign_in_id, neighbour.sign_in_id, closed.user_id}


async def test_whoever_listens_hears_that_a_sign_in_ended_and_nothing_else(
    ctx: AppContext, databases: Databases
) -> None:
    person = await factories.signed_in(ctx, await factories.make_actor(ctx))
    async with await psycopg.AsyncConnection.connect(databases.app, autocommit=True) as listener:
        await listener.execute(f"listen {REVOKED_CHANNEL}".encode())
        await end(ctx, person)
        heard = [notice async for notice in listener.notifies(timeout=30, stop_after=1)]
    assert [(notice.channel, notice.payload) for notice in heard] == [("revoked", "")]


async def test_signing_out_everywhere_can_spare_the_one_that_asks(client: httpx.AsyncClient, ctx: AppContext) -> None:
    person = await factories.make_actor(ctx)
    here, there = await factories.signed_in(ctx, person), await factories.signed_in(ctx, person)
    async with ctx.database.acting_as(here) as conn:
        await end_all_sign_ins(conn, here, here.user_id, "signed_out_everywhere", spare=here.sign_in_id)
    assert (await client.get("/api/me", headers=factories.bearer(ctx, here))).status_code == 200
    assert (await client.get("/api/me", headers=factories.bearer(ctx, there))).status_code == 401


async def test_a_colleague_sees_nobodys_sign_ins_and_ends_none(ctx: AppContext) -> None:
    owner = await factories.signed_in(ctx, await factories.make_actor(ctx))
    colleague = await factories.make_user(ctx, owner.tenant_id, "reviewer")
    assert await factories.rows(ctx, colleague, "select id from sign_ins") == []
    with pytest.raises(WriteCareError) as refusal:
        await end(ctx, owner, by=colleague)
    assert refusal.value.slug == "not-found"


async def test_only_the_door_opens_sign_ins_and_what_ended_stays_ended(ctx: AppContext) -> None:
    person = await factories.make_actor(ctx, "platform_admin")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await factories.rows(
            ctx, person, "insert into sign_ins (tenant_id, user_id, role, kind, expires_at) "
            "values (%s, %s, 'platform_admin', 'local', now() + interval '1 hour') returning id",
            person.tenant_id, person.user_id,
        )  # fmt: skip
    over = await factories.signed_in(ctx, person)
    await end(ctx, over)
    revived = "update sign_ins set ended_at = null, ended_because = null where id = %s returning id"
    assert await factories.rows(ctx, over, revived, over.sign_in_id) == []
