"""Tests of refresh tokens: rotation, reuse of a stolen token, sign-out, and who may end which sign-ins."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from comms.app.application import create_app
from comms.identity.authentication.refresh_tokens import start_sign_in
from comms.kernel.access.system_actor import system_actor
from comms.kernel.database import Actor
from comms.kernel.settings import Settings
from comms.web.context import AppContext
from tests import factories

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class SignedInPerson:
    """A person with a sign-in and its first tokens."""

    person: Actor
    access: dict[str, str]
    refresh_token: str


async def open_test_sign_in(ctx: AppContext, person: Actor | None = None) -> SignedInPerson:
    person = person or await factories.make_actor(ctx)
    async with ctx.database.acting_as(system_actor(person.tenant_id, person.user_id)) as conn:
        tokens = await start_sign_in(conn, ctx, person, "local")
    assert tokens.refresh_token is not None
    return SignedInPerson(person, {"Authorization": f"Bearer {tokens.access_token}"}, tokens.refresh_token)


async def refresh(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/api/auth/refresh", json={"refresh_token": token})


async def turn(client: httpx.AsyncClient, token: str) -> str:
    answer = await refresh(client, token)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["refresh_token"])


async def run_as_system(ctx: AppContext, inside: SignedInPerson, statement: str) -> None:
    """Makes changes in this person's tenant that otherwise only time makes."""
    async with ctx.database.acting_as(system_actor(inside.person.tenant_id)) as conn:
        await conn.execute(statement.encode())


async def a_while_later(ctx: AppContext, inside: SignedInPerson) -> None:
    """Ends the period in which a retry is allowed."""
    await run_as_system(ctx, inside, "update refresh_tokens set turned_at = turned_at - interval '1 minute'")


def slug_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition("/")[2]


async def is_accepted(client: httpx.AsyncClient, inside: SignedInPerson) -> bool:
    return (await client.get("/api/me", headers=inside.access)).status_code == 200


# --- rotation ---------------------------------------------------------------------------------------------------------


async def test_each_use_gives_another_refresh_token_and_a_good_access_token(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    inside = await open_test_sign_in(ctx)
    first = await refresh(client, inside.refresh_token)
    second = await refresh(client, first.json()["refresh_token"])
    assert len({inside.refresh_token, first.json()["refresh_token"], second.json()["refresh_token"]}) == 3
    me = await client.get("/api/me", headers={"Authorization": f"Bearer {second.json()['access_token']}"})
    assert me.json()["user_id"] == str(inside.person.user_id)


async def test_a_token_used_twice_ends_the_whole_sign_in_and_is_audited(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    inside = await open_test_sign_in(ctx)
    thiefs = await turn(client, inside.refresh_token)
    await a_while_later(ctx, inside)
    owners = await refresh(client, inside.refresh_token)
    assert (owners.status_code, slug_of(owners)) == (401, "refresh-invalid")
    assert (await refresh(client, thiefs)).status_code == 401
    assert not await is_accepted(client, inside)
    officer = await factories.make_user(ctx, inside.person.tenant_id, "data_protection_officer")
    ended = await factories.rows(ctx, officer, "select details from audit_log where action = 'sign_in.ended'")
    assert [row["details"] for row in ended] == [{"because": "refresh_reused"}]


async def test_a_retry_is_answered_with_the_very_same_token(client: httpx.AsyncClient, ctx: AppContext) -> None:
    inside = await open_test_sign_in(ctx)
    lost = await turn(client, inside.refresh_token)
    assert await turn(client, inside.refresh_token) == lost
    await turn(client, lost)
    assert await is_accepted(client, inside)


async def test_tabs_that_ask_at_once_all_go_on_with_one_token(client: httpx.AsyncClient, ctx: AppContext) -> None:
    inside = await open_test_sign_in(ctx)
    given = await asyncio.gather(*(turn(client, inside.refresh_token) for _ in range(6)))
    assert len(set(given)) == 1
    await turn(client, given[0])
    assert await is_accepted(client, inside)


async def test_a_token_older_than_the_last_is_a_reuse_however_soon(client: httpx.AsyncClient, ctx: AppContext) -> None:
    inside = await open_test_sign_in(ctx)
    await turn(client, await turn(client, inside.refresh_token))
    assert (await refresh(client, inside.refresh_token)).status_code == 401
    assert not await is_accepted(client, inside)


async def test_a_guess_ends_nobodys_sign_in(client: httpx.AsyncClient, ctx: AppContext) -> None:
    inside = await open_test_sign_in(ctx)
    prefix, tenant, sign_in, family, secret = inside.refresh_token.split(".")
    stranger = await open_test_sign_in(ctx)
    for guess in (
        f"{prefix}.{tenant}.{sign_in}.{'A' * 43}.{secret}",
        f"{prefix}.{stranger.person.tenant_id}.{sign_in}.{family}.{secret}",
        "wcr.a.b.c.d", "nonsense", "",
    ):  # fmt: skip
        assert (await refresh(client, guess)).status_code == 401, guess
    assert await is_accepted(client, inside)
    await turn(client, inside.refresh_token)


async def test_a_refresh_slides_but_never_beyond_the_sign_ins_end(client: httpx.AsyncClient, ctx: AppContext) -> None:
    inside = await open_test_sign_in(ctx)
    await run_as_system(ctx, inside, "update refresh_tokens set expires_at = now() + interval '1 second'")
    token = await turn(client, inside.refresh_token)
    async with ctx.database.acting_as(system_actor(inside.person.tenant_id)) as conn:
        found = await (
            await conn.execute(
                "select r.expires_at > now() + interval '50 minutes' as slid, r.expires_at <= s.expires_at as within "
                "from refresh_tokens r join sign_ins s on s.tenant_id = r.tenant_id and s.id = r.sign_in_id"
            )
        ).fetchone()
    assert found == {"slid": True, "within": True}
    await run_as_system(ctx, inside, "update refresh_tokens set expires_at = now() - interval '1 second'")
    assert (await refresh(client, token)).status_code == 401


async def test_a_closed_account_refreshes_nothing(client: httpx.AsyncClient, ctx: AppContext) -> None:
    inside = await open_test_sign_in(ctx)
    person = inside.person
    await factories.rows(ctx, person, "update users set active = false where id = %s returning id", person.user_id)
    assert (await refresh(client, inside.refresh_token)).status_code == 401


async def test_the_database_keeps_hashes_alone_and_shows_them_to_nobody(ctx: AppContext) -> None:
    inside = await open_test_sign_in(ctx)
    async with ctx.database.acting_as(system_actor(inside.person.tenant_id)) as conn:
        kept = await (await conn.execute("select to_jsonb(r) as row from refresh_tokens r")).fetchall()
    assert len(kept) == 1
    assert not [part for part in inside.refresh_token.split(".")[3:] if part in str(kept[0]["row"])]
    for role in ("platform_admin", "service", inside.person.role):
        curious = Actor(inside.person.tenant_id, inside.person.user_id, role)
        assert await factories.rows(ctx, curious, "select 1 from refresh_tokens") == []


# --- browsers ---------------------------------------------------------------------------------------------------------


async def with_password(client: httpx.AsyncClient, ctx: AppContext) -> dict[str, str]:
    """Returns the credentials of a new person."""
    person = await factories.make_actor(ctx)
    await client.put(
        "/api/me/password", json={"new_password": "correct horse battery"}, headers=factories.bearer(ctx, person)
    )
    found = await factories.rows(
        ctx, person, "select t.slug as tenant, u.slug as user from tenants t join users u on u.tenant_id = t.id"
    )
    return {**found[0], "password": "correct horse battery"}


async def test_a_browsers_refresh_token_is_in_a_cookie_that_scripts_cannot_read(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    sent = await client.post("/api/auth/sign-in", json={**await with_password(client, ctx), "keep_in": "cookie"})
    assert sent.json()["refresh_token"] is None
    cookie = sent.headers["set-cookie"].lower()
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip() for part in cookie.split(";")}
    before = client.cookies["wcc_refresh"]
    turned = await client.post("/api/auth/refresh", json={})
    assert turned.json()["refresh_token"] is None
    assert client.cookies["wcc_refresh"] != before
    out = await client.post("/api/auth/sign-out", headers={"Authorization": f"Bearer {turned.json()['access_token']}"})
    assert out.status_code == 204
    assert "wcc_refresh" not in client.cookies


@pytest.fixture
async def encrypted_client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The application as browsers reach it over TLS."""
    opened = create_app(settings.model_copy(update={"public_url": "https://connect.example"}))
    transport = httpx.ASGITransport(app=opened)
    async with (
        opened.router.lifespan_context(opened),
        httpx.AsyncClient(transport=transport, base_url="https://connect.example") as browser,
    ):
        yield browser


async def test_over_tls_the_cookie_never_goes_out_without_it(
    encrypted_client: httpx.AsyncClient, ctx: AppContext
) -> None:
    credentials = await with_password(encrypted_client, ctx)
    sent = await encrypted_client.post("/api/auth/sign-in", json={**credentials, "keep_in": "cookie"})
    for cookie in sent.headers.get_list("set-cookie"):
        # with this prefix, a browser accepts the cookie only from this host, over TLS and for all paths
        assert cookie.startswith("__Host-wcc_")
        assert {"secure", "httponly", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
        assert "domain=" not in cookie.lower()
    assert (await encrypted_client.post("/api/auth/refresh", json={})).status_code == 200


# --- sign-out ---------------------------------------------------------------------------------------------------------


async def test_a_person_goes_out_here_and_stays_in_there(client: httpx.AsyncClient, ctx: AppContext) -> None:
    here = await open_test_sign_in(ctx)
    there = await open_test_sign_in(ctx, here.person)
    assert (await client.post("/api/auth/sign-out", headers=here.access)).status_code == 204
    assert (await is_accepted(client, here), await is_accepted(client, there)) == (False, True)
    assert (await refresh(client, here.refresh_token)).status_code == 401


async def test_a_person_goes_out_everywhere(client: httpx.AsyncClient, ctx: AppContext) -> None:
    here = await open_test_sign_in(ctx)
    there = await open_test_sign_in(ctx, here.person)
    assert (await client.post("/api/auth/sign-out-everywhere", headers=there.access)).status_code == 204
    assert (await is_accepted(client, here), await is_accepted(client, there)) == (False, False)


async def test_a_person_ends_one_of_their_sign_ins_and_nobody_elses(client: httpx.AsyncClient, ctx: AppContext) -> None:
    here = await open_test_sign_in(ctx)
    there = await open_test_sign_in(ctx, here.person)
    other = await open_test_sign_in(ctx, await factories.make_user(ctx, here.person.tenant_id))
    listed = (await client.get("/api/me/sign-ins", headers=here.access)).json()["items"]
    assert len(listed) == 2
    newest = listed[0]["id"]
    assert (await client.delete(f"/api/me/sign-ins/{newest}", headers=other.access)).status_code == 404
    assert (await client.delete(f"/api/me/sign-ins/{newest}", headers=here.access)).status_code == 204
    assert (await client.delete(f"/api/me/sign-ins/{newest}", headers=here.access)).status_code == 404
    assert (await is_accepted(client, here), await is_accepted(client, there)) == (True, False)


async def test_a_token_of_the_command_line_has_no_sign_in_to_end(client: httpx.AsyncClient, ctx: AppContext) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx))
    answer = await client.post("/api/auth/sign-out", headers=headers)
    assert (answer.status_code, slug_of(answer)) == (409, "no-sign-in")


async def test_a_manager_signs_a_carer_out_everywhere(client: httpx.AsyncClient, ctx: AppContext) -> None:
    carer = await open_test_sign_in(ctx)
    manager = await factories.make_user(ctx, carer.person.tenant_id, "care_manager")
    path = f"/api/users/{carer.person.user_id}"
    assert (await client.delete(f"{path}/sign-ins", headers=carer.access)).status_code == 403
    answer = await client.delete(f"{path}/sign-ins", headers=factories.bearer(ctx, manager))
    assert answer.status_code == 204
    assert not await is_accepted(client, carer)


@pytest.mark.parametrize("change", [{"active": False}, {"role": "external"}])
async def test_a_closed_account_or_another_role_ends_every_sign_in(
    client: httpx.AsyncClient, ctx: AppContext, change: dict[str, object]
) -> None:
    carer = await open_test_sign_in(ctx)
    manager = await factories.make_user(ctx, carer.person.tenant_id, "care_manager")
    path = f"/api/users/{carer.person.user_id}"
    changed = await client.put(path, json=change, headers=factories.bearer(ctx, manager))
    assert (changed.status_code, changed.json().items() >= change.items()) == (200, True)
    assert not await is_accepted(client, carer)
    assert (await client.get(path, headers=factories.bearer(ctx, manager))).json() == changed.json()


async def test_nobody_gives_themselves_or_others_more_than_they_may(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    carer = await factories.make_user(ctx, manager.tenant_id)
    headers = factories.bearer(ctx, manager)
    more = await client.put(f"/api/users/{carer.user_id}", json={"role": "platform_admin"}, headers=headers)
    assert (more.status_code, slug_of(more)) == (403, "role-not-yours-to-give")
    own = await client.put(f"/api/users/{manager.user_id}", json={"role": "care_worker"}, headers=headers)
    assert (own.status_code, slug_of(own)) == (403, "person-not-yours-to-manage")
