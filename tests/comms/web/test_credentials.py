"""Authentication: a valid token is accepted, every other token is refused with the reason."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from comms.identity import bootstrap
from comms.kernel.access.roles import PERMISSIONS, ROLES
from comms.kernel.access.tokens import Issuer, Verifier
from comms.kernel.database import Actor
from comms.web.context import AppContext
from models.contract.errors import Kind, WriteCareError
from tests import factories

pytestmark = pytest.mark.anyio


def slug_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition("/")[2]


async def test_a_good_token_says_who_speaks(client: httpx.AsyncClient, ctx: AppContext) -> None:
    actor = await factories.make_actor(ctx, "reviewer")
    answer = await client.get("/api/me", headers=factories.bearer(ctx, actor))
    assert answer.status_code == 200
    me = answer.json()
    assert (me["tenant_id"], me["user_id"], me["role"]) == (str(actor.tenant_id), str(actor.user_id), "reviewer")
    assert "alerts.decide" in me["permissions"]
    assert "tenants.create" not in me["permissions"]


async def test_without_a_token_the_door_says_to_sign_in(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/me")
    assert (answer.status_code, slug_of(answer)) == (401, "token-missing")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_expired_token_is_told_so(client: httpx.AsyncClient, ctx: AppContext) -> None:
    actor = await factories.make_actor(ctx)
    answer = await client.get("/api/me", headers=factories.bearer(ctx, actor, lifetime=-60))
    assert (answer.status_code, slug_of(answer)) == (401, "token-expired")


async def test_a_forged_token_is_refused(client: httpx.AsyncClient, ctx: AppContext, tmp_path: Path) -> None:
    actor = await factories.make_actor(ctx)
    stranger = Issuer.open(tmp_path, ctx.settings.issuer)
    good = factories.bearer(ctx, actor)["Authorization"].removeprefix("Bearer ")
    head, body, signature = good.split(".")
    forged = [
        stranger.sign(actor, 600),
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body}.",
        # 'none' as algorithm (RFC 8725, 3.1)
        "eyJhbGciOiJub25lIn0." + body + ".",
        "not-a-token",
        "ä.ö.ü",
    ]
    for token in forged:
        answer = await client.get("/api/me", headers=[(b"Authorization", f"Bearer {token}".encode())])
        assert (answer.status_code, slug_of(answer)) == (401, "token-invalid"), token
        assert token not in answer.text


async def test_a_token_of_another_issuer_or_an_unknown_role_is_refused(ctx: AppContext, tmp_path: Path) -> None:
    actor = await factories.make_actor(ctx)
    issuer = Issuer.open(tmp_path, "somebody-else")
    verifier = Verifier(issuer.public_keys(), "writecareconnect")
    with pytest.raises(WriteCareError) as other_issuer:
        verifier.verify(issuer.sign(actor, 600))
    assert (other_issuer.value.kind, other_issuer.value.slug) == (Kind.UNAUTHENTICATED, "token-invalid")
    ours = Issuer.open(tmp_path, "writecareconnect")
    with pytest.raises(WriteCareError) as unknown_role:
        verifier.verify(ours.sign(Actor(actor.tenant_id, actor.user_id, "emperor"), 600))
    assert unknown_role.value.slug == "token-invalid"


async def test_a_token_whose_owner_is_gone_from_the_tenant_is_refused(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    here, elsewhere = await factories.make_actor(ctx), await factories.make_actor(ctx)
    moved = Actor(elsewhere.tenant_id, here.user_id, here.role)
    answer = await client.get("/api/me", headers=factories.bearer(ctx, moved))
    assert (answer.status_code, slug_of(answer)) == (401, "token-invalid")


async def test_the_private_key_is_for_one_pair_of_eyes_and_the_public_file_holds_nothing_secret(
    tmp_path: Path,
) -> None:
    first, second = Issuer.open(tmp_path, "i"), Issuer.open(tmp_path, "i")
    assert first.public_keys() == second.public_keys()
    assert (tmp_path / "issuer.json").stat().st_mode & 0o777 == 0o600
    assert "d" not in json.loads((tmp_path / "issuer.public.json").read_text())["keys"][0]
    actor = Actor(bootstrap.BOOTSTRAP.tenant_id, bootstrap.BOOTSTRAP.user_id, "service")
    assert Verifier.open(tmp_path, "i").verify(second.sign(actor, 5)) == actor


async def test_many_at_once_make_one_tenant_and_one_user(ctx: AppContext) -> None:
    slug = factories.new_slug("tenant")
    tenants = await asyncio.gather(*(bootstrap.ensure_tenant(ctx.database, slug) for _ in range(8)))
    assert len(set(tenants)) == 1
    users = await asyncio.gather(
        *(bootstrap.ensure_user(ctx.database, tenants[0], "ann", "care_worker") for _ in range(8))
    )
    assert len(set(users)) == 1


@pytest.mark.parametrize("slug", ["", "Ann", "-ann", "a b", "a" * 64, "å"])
async def test_a_slug_that_is_none_is_refused(ctx: AppContext, slug: str) -> None:
    with pytest.raises(WriteCareError) as refusal:
        await bootstrap.ensure_tenant(ctx.database, slug)
    assert (refusal.value.kind, refusal.value.slug) == (Kind.INVALID, "slug-invalid")


def test_the_permission_table_names_known_roles_alone_and_leaves_no_permission_without_a_holder() -> None:
    for permission, holders in PERMISSIONS.items():
        assert holders, permission
        assert holders <= set(ROLES), permission
