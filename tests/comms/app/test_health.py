"""Tests of `/health`, `/health/detailed` and `/metrics`: only `/health` is public."""

import stat
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from comms.app.application import create_app
from comms.kernel.access.operations_token import OperationsToken
from comms.kernel.access.roles import PERMISSIONS, ROLES
from comms.kernel.settings import Settings
from comms.web.context import AppContext
from tests import factories
from tests.comms.web.test_middleware import assert_problem

pytestmark = pytest.mark.anyio

PATHS = ("/metrics", "/health/detailed")


async def test_without_a_token_only_that_it_stands_is_told(client: httpx.AsyncClient, ctx: AppContext) -> None:
    assert (await client.get("/health")).status_code == 200
    token = factories.operator(ctx)["Authorization"]
    for path in PATHS:
        assert_problem(await client.get(path), 401, "token-missing")
        for wrong in ("Bearer x", f"{token}x", token[:-1], token.replace("Bearer", "Basic"), "Bearer é"):
            answer = await client.get(path, headers=[(b"authorization", wrong.encode())])
            assert answer.status_code == 401, wrong
            assert "python" not in answer.text


async def test_the_operations_token_opens_them_and_nothing_else(client: httpx.AsyncClient, ctx: AppContext) -> None:
    for path in PATHS:
        assert (await client.get(path, headers=factories.operator(ctx))).status_code == 200
    for path in ("/api/me", "/api/tenants", "/api/audit"):
        assert (await client.get(path, headers=factories.operator(ctx))).status_code == 401, path


@pytest.mark.parametrize("role", ROLES)
async def test_of_people_those_whose_role_may_are_let_in(client: httpx.AsyncClient, ctx: AppContext, role: str) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, role))
    for path in PATHS:
        answer = await client.get(path, headers=headers)
        if role in PERMISSIONS["operations.read"]:
            assert answer.status_code == 200
        else:
            assert_problem(answer, 403, "role-lacks-permission")


async def test_a_key_opens_them_by_its_scope_alone(client: httpx.AsyncClient, ctx: AppContext) -> None:
    admin = factories.bearer(ctx, await factories.make_actor(ctx, "platform_admin"))
    for scope, status in (("operations.read", 200), ("homes.read", 403)):
        new = {"name": "Prometheus", "scopes": [scope], "expires_at": factories.soon()}
        made = await client.post("/api/service-accounts", json=new, headers=admin)
        key = {"Authorization": f"Bearer {made.json()['key']}"}
        for path in PATHS:
            assert (await client.get(path, headers=key)).status_code == status


async def test_measurements_need_no_database_to_be_opened(settings: Settings, ctx: AppContext) -> None:
    """Supervisors need it when the database is down."""
    away = create_app(settings)
    async with away.router.lifespan_context(away):
        await away.state.ctx.database.close()
        transport = httpx.ASGITransport(app=away, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as caller:
            health = await caller.get("/health/detailed", headers=factories.operator(ctx))
    assert (health.status_code, health.json()["database"]["status"]) == (503, "down")


def test_the_token_is_made_once_for_this_user_s_eyes_and_a_setting_takes_its_place(tmp_path: Path) -> None:
    first, second = OperationsToken.open(tmp_path, None), OperationsToken.open(tmp_path, None)
    [file] = tmp_path.iterdir()
    token = file.read_text()
    assert len(token) > 40
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert first.is_that(token)
    assert second.is_that(token)
    assert token not in repr(first)
    named = OperationsToken.open(tmp_path, SecretStr("a token of one's own"))
    assert (named.is_that("a token of one's own"), named.is_that(token)) == (True, False)


def test_a_token_that_could_be_guessed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        Settings(data_dir=tmp_path, operations_token=SecretStr("short"))
