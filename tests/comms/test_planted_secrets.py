"""Tests that a secret text of one tenant appears only in that tenant.

The secret is sent to every route with free text, as /openapi.json describes it, in valid and invalid requests. Then the
tests search for it in everything that the roles of other tenants can read, in the logs and in the data folder.
"""

import logging
import uuid
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from comms.kernel.access.roles import ROLES
from comms.web.context import AppContext
from instance.provisioning import Databases
from tests import factories
from tests.comms import audit_helpers
from tests.comms.database_catalogue import tables
from tests.comms.openapi_requests import PUBLIC, Operation, operations, request
from tests.comms.tenant_fixture import TenantFixture, make_tenant_fixture

pytestmark = pytest.mark.anyio

# Tables that must contain the secret afterwards: if one does not, the requests no longer reach it.
KEPT = {
    "homes", "users", "communication_sessions", "data_processing_activities", "consent_records", "consent_audit_trail",
    "care_contexts", "reviews", "conversations", "messages", "message_reactions",
}  # fmt: skip
# The database's own files contain rows, of course.
_THE_DATABASE = "postgres/"


async def plant(client: httpx.AsyncClient, app: FastAPI, ctx: AppContext, there: TenantFixture, secret: str) -> None:
    """Sends the secret in every role to all routes of the tenant with free text, in valid and invalid requests."""
    for role in ROLES:
        signed = factories.bearer(ctx, there.people[role])
        for operation in operations(app.openapi()):
            if operation.method not in ("POST", "PUT", "PATCH") or operation.path.startswith("/api/tenants"):
                continue  # only the platform names tenants
            for whole in (True, False):
                made = request(operation, there.ids, secret, whole=whole)
                await client.request(
                    **made, headers=signed | await seen_version(client, operation, made["url"], signed)
                )
            wrong: dict[str, Any] = {**made, "params": {"cursor": secret, "q": secret}}
            if "json" in made:
                wrong["json"] = {**made["json"], secret: secret, "limit": secret} if made["json"] else secret
            words = f"{secret} said so"  # a reason is a code: free text is refused, also in routes without a body
            await client.request(**wrong, headers={**signed, "X-Access-Reason": words, "If-Match": secret})
            await client.request(operation.method, f"/api/{secret}", headers=signed)


async def seen_version(
    client: httpx.AsyncClient, operation: Operation, url: str, signed: dict[str, str]
) -> dict[str, str]:
    """The `If-Match` header for a decision that needs it: the version of the parent object in the path."""
    if "428" not in operation.described["responses"]:
        return {}
    seen = await client.get(url.rpartition("/")[0], headers=signed)
    return {"If-Match": seen.headers["etag"]} if "etag" in seen.headers else {}


async def kept_in(databases: Databases, secret: str, tenant_id: uuid.UUID) -> tuple[set[str], set[str]]:
    """The tables that contain the secret in rows of the tenant, and those that contain it in rows of others."""
    own, others = set(), set()
    with psycopg.connect(databases.administrator) as administrator:
        for table in tables(administrator):
            found = administrator.execute(
                f"select {table.owner} from {table.name} t where strpos(t::text, %s) > 0".encode(), (secret,)
            ).fetchall()
            own |= {table.name for (owner,) in found if owner == tenant_id}
            others |= {table.name for (owner,) in found if owner != tenant_id}
    return own, others


def found_in_files(data_dir: Path, secret: str) -> list[str]:
    """The files in the data folder, except the database's own, that contain the secret."""
    return [
        str(file.relative_to(data_dir))
        for file in data_dir.rglob("*")
        if file.is_file()
        and not str(file.relative_to(data_dir)).startswith(_THE_DATABASE)
        and secret.encode() in file.read_bytes()
    ]


async def test_what_a_tenants_people_wrote_is_found_nowhere_else(
    client: httpx.AsyncClient,
    app: FastAPI,
    ctx: AppContext,
    worker_ctx: AppContext,
    databases: Databases,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, logger="httpx")  # the client of the test logs what it sends
    there, here = await make_tenant_fixture(ctx, worker_ctx), await make_tenant_fixture(ctx, worker_ctx)
    secret = f"secret{uuid.uuid4().hex}"
    await plant(client, app, ctx, there, secret)
    await audit_helpers.seal(ctx, databases)

    own, others = await kept_in(databases, secret, there.tenant_id)
    assert KEPT - own == set(), "the secret is not stored in these tables: the generated requests no longer reach them"
    assert others == set()
    assert own & {"audit_log", "audit_seals", "events"} == set(), "must contain only ids and codes"

    for role in ROLES:
        signed = factories.bearer(ctx, here.people[role])
        for operation in operations(app.openapi()):
            if operation.method != "GET":
                continue
            for ids in (here.ids, there.ids):
                made = request(operation, ids, "x", whole=False)
                answer = await client.request(**made, headers={} if str(operation) in PUBLIC else signed)
                assert secret not in answer.text + str(answer.headers), f"{operation} as {role}"

    told = capfd.readouterr()
    assert secret not in told.out + told.err + caplog.text
    assert found_in_files(ctx.settings.data_dir, secret) == []


async def test_the_tenants_own_people_find_it(
    client: httpx.AsyncClient, app: FastAPI, ctx: AppContext, worker_ctx: AppContext
) -> None:
    """Shows that the searches above would find the secret."""
    there = await make_tenant_fixture(ctx, worker_ctx)
    secret = f"secret{uuid.uuid4().hex}"
    await plant(client, app, ctx, there, secret)
    finds = set()
    for operation in operations(app.openapi()):
        for role in ("care_manager", "safeguarding_lead", "data_protection_officer") * (operation.method == "GET"):
            made = request(operation, there.ids, "x", whole=False)
            answer = await client.request(**made, headers=factories.bearer(ctx, there.people[role]))
            finds |= {str(operation)} if secret in answer.text else set()
    assert {"GET /api/homes", "GET /api/users", "GET /api/sessions", "GET /api/processing-activities"} <= finds
