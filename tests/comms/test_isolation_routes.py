"""Tests isolation of routes, generated from /openapi.json: every route, every role, with ids of another tenant.

No request may read or change anything of the other tenant, and malformed ids must be refused.
"""

import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from comms.kernel.access.roles import ROLES
from comms.kernel.database import Actor
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories
from tests.comms import outbox_helpers
from tests.comms.database_catalogue import fingerprints
from tests.comms.openapi_requests import PUBLIC, Operation, operations, request
from tests.comms.tenant_fixture import TenantFixture, make_tenant_fixture

pytestmark = pytest.mark.anyio

REFUSED: Final = {401, 403, 404, 422}
NO_IDS: Final = ("not-an-id", "00000000-0000-0000-0000-00000000000g", "' or true --", "%00", "..%2f..%2fetc")


@dataclass(frozen=True)
class TwoTenants:
    """Two tenants with the same kinds of objects."""

    ours: TenantFixture
    theirs: TenantFixture


@pytest.fixture(scope="module")
async def two_tenants(ctx: AppContext, worker_ctx: AppContext) -> TwoTenants:
    return TwoTenants(await make_tenant_fixture(ctx, worker_ctx), await make_tenant_fixture(ctx, worker_ctx))


@pytest.fixture
async def their_rows_stay(two_tenants: TwoTenants, databases: Databases) -> AsyncIterator[None]:
    """Checks after the test that no row of the other tenant has changed in any table."""
    with psycopg.connect(databases.administrator, autocommit=True) as administrator:
        before = fingerprints(administrator, two_tenants.theirs.tenant_id)
        yield
        after = fingerprints(administrator, two_tenants.theirs.tenant_id)
    assert [table for table in before if before[table] != after[table]] == []


@pytest.fixture(scope="module")
async def their_ids(two_tenants: TwoTenants, databases: Databases) -> frozenset[str]:
    """Every id that occurs in rows of the other tenant and in none of ours. No response may contain one of them."""
    with psycopg.connect(databases.administrator, autocommit=True) as administrator:
        found = {
            whose: {
                id
                for table in fingerprints(administrator, tenant_id)
                for (row,) in administrator.execute(
                    f"select t::text from {table} t where {'id' if table == 'tenants' else 'tenant_id'} = %s".encode(),
                    (tenant_id,),
                )
                for id in re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", row)
            }
            for whose, tenant_id in (("ours", two_tenants.ours.tenant_id), ("theirs", two_tenants.theirs.tenant_id))
        }
    return frozenset(found["theirs"] - found["ours"])


def described(app: FastAPI) -> list[Operation]:
    return operations(app.openapi())


async def send(
    client: httpx.AsyncClient, made: dict[str, Any], headers: dict[str, str] | None = None
) -> httpx.Response:
    seen = {"If-Match": '"1"'} if made["url"].startswith("/api/alerts/") else {}  # decisions need it
    return await client.request(**made, headers=(headers or {}) | seen)


@pytest.mark.parametrize("role", ROLES)
async def test_with_the_ids_of_another_tenant_every_route_sees_and_changes_nothing(
    client: httpx.AsyncClient,
    app: FastAPI,
    ctx: AppContext,
    two_tenants: TwoTenants,
    their_ids: frozenset[str],
    their_rows_stay: None,
    role: str,
) -> None:
    signed = factories.bearer(ctx, two_tenants.ours.people[role])
    sent = {str(id) for id in two_tenants.theirs.ids.values()}
    for operation in described(app):
        if str(operation) in PUBLIC:
            continue
        for whole in (False, True):
            made = request(operation, two_tenants.theirs.ids, "x", whole=whole)
            answer = await send(client, made, signed)
            what = f"{operation} as {role}: {answer.status_code} {answer.text[:300]}"
            assert answer.status_code != 500, what
            if operation.path_names:
                assert answer.status_code in REFUSED | ({415} & {answer.status_code}), what
            # an id that was sent may be echoed, such as a filter that is logged; no other id may
            assert not {id for id in their_ids - sent if id in answer.text}, what


@pytest.mark.parametrize("role", ROLES)
async def test_what_is_no_id_is_refused_and_not_repeated(
    client: httpx.AsyncClient, app: FastAPI, ctx: AppContext, two_tenants: TwoTenants, their_rows_stay: None, role: str
) -> None:
    signed = factories.bearer(ctx, two_tenants.ours.people[role])
    for operation in described(app):
        for name in operation.path_names:
            made = request(operation, two_tenants.theirs.ids, "x", whole=False)
            for no_id in NO_IDS:
                path = operation.path
                for other in operation.path_names:
                    path = path.replace(f"{{{other}}}", no_id if other == name else str(uuid.uuid4()))
                answer = await send(client, {**made, "url": path}, signed)
                what = f"{operation} with {no_id!r} as {role}: {answer.status_code} {answer.text[:300]}"
                assert answer.status_code in REFUSED | {405, 415}, what
                assert "true --" not in answer.text, what


async def test_without_a_good_token_every_route_but_the_public_ones_says_to_sign_in(
    client: httpx.AsyncClient, app: FastAPI, ctx: AppContext, two_tenants: TwoTenants, their_rows_stay: None
) -> None:
    manager = two_tenants.ours.people["care_manager"]
    moved = factories.bearer(ctx, Actor(two_tenants.theirs.tenant_id, manager.user_id, manager.role))
    for operation in described(app):
        if str(operation) in PUBLIC:
            continue
        made = request(operation, two_tenants.theirs.ids, "x", whole=False)
        for headers in ({}, {"Authorization": "Bearer x.y.z"}):
            status = (await send(client, made, headers)).status_code
            assert status == 401, (
                f"{operation} answers {status} without a token: require one, or add the route to PUBLIC"
            )
        # a valid token of a user who does not belong to its tenant: refused for the role, or as an unknown user
        assert (await send(client, made, moved)).status_code in {401, 403}, operation


async def test_within_the_tenant_the_same_requests_are_answered(
    client: httpx.AsyncClient, app: FastAPI, ctx: AppContext, two_tenants: TwoTenants
) -> None:
    """Shows that the refusals above have no other cause. 503: the track of the other tenant has no stored object."""
    reads = [operation for operation in described(app) if operation.method == "GET" and operation.path_names]
    assert reads
    for operation in reads:
        statuses = {}
        for role in ROLES:
            made = request(operation, two_tenants.ours.ids, "x", whole=False)
            statuses[role] = (
                await send(client, made, factories.bearer(ctx, two_tenants.ours.people[role]))
            ).status_code
        assert {200, 503} & set(statuses.values()), f"{operation}: {statuses}"
        assert {role: status for role, status in statuses.items() if status == 500} == {}


async def test_every_path_with_an_id_is_tried(app: FastAPI, databases: Databases) -> None:
    assert len([operation for operation in described(app) if operation.path_names]) > 20
    assert await outbox_helpers.query_as_admin(databases, "select 1 from alerts limit 1") != []
