"""Tests of service accounts: a key permits only what its scopes name, until it expires or is closed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from comms.kernel.access.roles import ROLES
from comms.kernel.database import Actor
from comms.live.tickets import redeem_ticket
from comms.web.context import AppContext
from comms.web.credentials import authenticate
from instance.provisioning import Databases
from tests import factories

pytestmark = pytest.mark.anyio


def new_account(*scopes: str, days: float = 30.0) -> dict[str, Any]:
    expires_at = datetime.now(UTC) + timedelta(days=days)
    return {"name": "Rota", "scopes": scopes or ["homes.read"], "expires_at": expires_at.isoformat()}


async def make_key(
    client: httpx.AsyncClient, ctx: AppContext, admin: Actor, *scopes: str
) -> tuple[dict[str, str], str]:
    """Returns the header with which the program calls, and the path of its account."""
    made = await client.post("/api/service-accounts", json=new_account(*scopes), headers=factories.bearer(ctx, admin))
    assert made.status_code == 201, made.text
    return {"Authorization": f"Bearer {made.json()['key']}"}, made.headers["location"]


def slug_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition("/")[2]


async def test_a_key_opens_what_its_scopes_name_and_nothing_else(client: httpx.AsyncClient, ctx: AppContext) -> None:
    admin = await factories.make_actor(ctx, "platform_admin")
    key, _ = await make_key(client, ctx, admin, "homes.read", "users.create")
    me = (await client.get("/api/me", headers=key)).json()
    assert (me["tenant_id"], me["role"]) == (str(admin.tenant_id), "service")
    assert me["permissions"] == ["homes.read", "users.create"]
    assert (await client.get("/api/homes", headers=key)).status_code == 200
    refused = await client.get("/api/users", headers=key)  # the role service permits it, this key does not
    assert (refused.status_code, slug_of(refused)) == (403, "scope-lacks-permission")


async def test_a_websockets_ticket_is_no_wider_than_the_key_it_was_fetched_with(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    key, _ = await make_key(client, ctx, await factories.make_actor(ctx, "platform_admin"))
    ticket = (await client.post("/api/ws/tickets", headers=key)).json()["ticket"]
    assert (await redeem_ticket(ctx.database, ticket)).scopes == frozenset({"homes.read"})


async def test_no_key_is_given_what_the_role_service_lacks_or_for_ever(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, "platform_admin"))
    wrong = {
        "scope-not-a-services": [new_account("tenants.create"), new_account("homes.read", "audit.read")],
        "expiry-out-of-range": [new_account(days=-1), new_account(days=400)],
        "time-invalid": [naive()],
        "request-invalid": [{**new_account(), "scopes": []}, {**new_account(), "scopes": ["all"]}],
    }
    for slug, bodies in wrong.items():
        for body in bodies:
            answer = await client.post("/api/service-accounts", json=body, headers=headers)
            assert (answer.status_code, slug_of(answer)) == (422, slug)


def naive() -> dict[str, Any]:
    """A time without a time zone."""
    return {**new_account(), "expires_at": (datetime.now(UTC) + timedelta(days=3)).replace(tzinfo=None).isoformat()}


async def test_a_closed_account_or_one_past_its_end_opens_nothing(
    client: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    admin = await factories.make_actor(ctx, "platform_admin")
    closed, path = await make_key(client, ctx, admin)
    expired, _ = await make_key(client, ctx, admin)
    assert (await client.delete(path, headers=factories.bearer(ctx, admin))).status_code == 204
    assert (await client.get(path, headers=factories.bearer(ctx, admin))).json()["active"] is False
    assert slug_of(await client.get("/api/homes", headers=closed)) == "key-invalid"
    assert (await client.get("/api/homes", headers=expired)).status_code == 200
    expire_all(databases, admin)
    answer = await client.get("/api/homes", headers=expired)
    assert (answer.status_code, slug_of(answer)) == (401, "key-invalid")


def expire_all(databases: Databases, admin: Actor) -> None:
    """Expires all keys of the tenant."""
    with psycopg.connect(databases.administrator) as administrator:
        administrator.execute(
            "update service_accounts set expires_at = now() - interval '1 second' where tenant_id = %s",
            (admin.tenant_id,),
        )


async def test_forged_keys_are_told_nothing(client: httpx.AsyncClient, ctx: AppContext) -> None:
    admin = await factories.make_actor(ctx, "platform_admin")
    key, _ = await make_key(client, ctx, admin)
    real = key["Authorization"].removeprefix("Bearer ")
    stranger = await factories.make_actor(ctx)
    forged = [
        real[:-1], real + "A", real.replace(admin.tenant_id.hex, stranger.tenant_id.hex),
        "wcc_", "wcc_x_y", "wcc_" + "z" * 99,
    ]  # fmt: skip
    answers = [await client.get("/api/me", headers={"Authorization": f"Bearer {fake}"}) for fake in forged]
    assert {(answer.status_code, slug_of(answer), answer.json()["detail"]) for answer in answers} == {
        (401, "key-invalid", answers[0].json()["detail"])
    }


async def test_a_key_is_shown_once_kept_as_a_hash_and_its_use_is_noted(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    admin = await factories.make_actor(ctx, "platform_admin")
    headers = factories.bearer(ctx, admin)
    key, path = await make_key(client, ctx, admin)
    unused = (await client.get(path, headers=headers)).json()
    assert ("key" in unused, unused["last_used_at"]) == (False, None)
    await client.get("/api/homes", headers=key)
    noted = (await client.get(path, headers=headers)).json()["last_used_at"]
    assert noted is not None
    await client.get("/api/homes", headers=key)
    assert (await client.get("/api/service-accounts", headers=headers)).json()["items"][0]["last_used_at"] == noted
    kept = await factories.rows(ctx, admin, "select to_jsonb(a)::text as row from service_accounts a")
    assert key["Authorization"].rpartition("_")[2] not in kept[0]["row"]


async def test_none_but_the_platforms_administrator_gives_reads_or_closes_keys(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    admin = await factories.make_actor(ctx, "platform_admin")
    key, path = await make_key(client, ctx, admin)
    for role in set(ROLES) - {"platform_admin"}:
        headers = factories.bearer(ctx, await factories.make_user(ctx, admin.tenant_id, role))
        assert (await client.post("/api/service-accounts", json=new_account(), headers=headers)).status_code == 403
        assert (await client.delete(path, headers=headers)).status_code == 403
    neighbour = factories.bearer(ctx, await factories.make_actor(ctx, "platform_admin"))
    assert (await client.get(path, headers=neighbour)).status_code == 404
    assert (await client.delete(path, headers=neighbour)).status_code == 404
    assert (await client.get("/api/homes", headers=key)).status_code == 200


async def test_a_program_has_no_password(client: httpx.AsyncClient, ctx: AppContext) -> None:
    key, _ = await make_key(client, ctx, await factories.make_actor(ctx, "platform_admin"))
    answer = await client.put("/api/me/password", json={"new_password": "correct horse battery"}, headers=key)
    assert (answer.status_code, slug_of(answer)) == (403, "service-has-no-password")


async def test_tokens_and_keys_come_through_one_door(client: httpx.AsyncClient, ctx: AppContext) -> None:
    admin = await factories.make_actor(ctx, "platform_admin")
    key, _ = await make_key(client, ctx, admin)
    token = factories.bearer(ctx, admin)
    for header, role in ((key, "service"), (token, "platform_admin")):
        credential = header["Authorization"].removeprefix("Bearer ")
        assert (await authenticate(ctx.database, ctx.verifier, credential)).role == role
