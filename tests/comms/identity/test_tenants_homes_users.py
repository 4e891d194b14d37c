"""Tests of tenants, homes and users: who may add whom, and that nobody sees the data of another tenant."""

import httpx
import psycopg
import pytest

from comms.kernel.access.roles import ROLES
from comms.web.context import AppContext
from tests import factories

pytestmark = pytest.mark.anyio


async def test_the_platforms_administrator_makes_a_tenant_and_its_first_people(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    admin = await factories.make_operator(ctx)
    headers = factories.bearer(ctx, admin)
    slug = factories.new_slug("group")
    made = await client.post("/api/tenants", json={"slug": slug, "name": "Elm Group"}, headers=headers)
    assert made.status_code == 201
    path = made.headers["location"]
    assert (await client.get(path, headers=headers)).json() == made.json()
    twice = await client.post("/api/tenants", json={"slug": slug, "name": "Other"}, headers=headers)
    assert (twice.status_code, twice.json()["type"].rpartition("/")[2]) == (409, "slug-taken")
    lead = {"display_name": "Lead", "role": "safeguarding_lead"}
    first = await client.post(f"{path}/users", json=lead, headers=headers)
    assert (first.status_code, first.json()["role"]) == (201, "safeguarding_lead")
    # created in the other tenant, not in this one
    assert (await client.get(first.headers["location"], headers=headers)).status_code == 404
    nowhere = await client.post(f"/api/tenants/{admin.user_id}/users", json=lead, headers=headers)
    assert nowhere.status_code == 404


async def test_a_platform_administrator_of_another_tenant_sees_that_one_alone_and_makes_none(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    operator, admin = await factories.make_operator(ctx), await factories.make_actor(ctx, "platform_admin")
    headers = factories.bearer(ctx, admin)
    listed = (await client.get("/api/tenants", headers=headers)).json()["items"]
    assert [tenant["id"] for tenant in listed] == [str(admin.tenant_id)]
    lead = {"display_name": "Lead", "role": "safeguarding_lead"}
    for answer in (
        await client.get(f"/api/tenants/{operator.tenant_id}", headers=headers),
        await client.post(f"/api/tenants/{operator.tenant_id}/users", json=lead, headers=headers),
    ):
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (404, "not-found")
    made = await client.post("/api/tenants", json={"slug": factories.new_slug("t"), "name": "T"}, headers=headers)
    assert (made.status_code, made.json()["type"].rpartition("/")[2]) == (403, "tenant-not-the-operators")
    everyone = {row["id"] for row in await factories.rows(ctx, operator, "select id from tenants")}
    assert {admin.tenant_id, operator.tenant_id} <= everyone
    assert await factories.rows(ctx, admin, "select id from tenants") == [{"id": admin.tenant_id}]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await factories.rows(
            ctx, admin, "insert into tenants (slug, name) values (%s, 'T') returning id", factories.new_slug("t")
        )


async def test_nobody_else_makes_or_sees_tenants(client: httpx.AsyncClient, ctx: AppContext) -> None:
    for role in ROLES:
        if role == "platform_admin":
            continue
        headers = factories.bearer(ctx, await factories.make_actor(ctx, role))
        made = await client.post("/api/tenants", json={"slug": "mine", "name": "Mine"}, headers=headers)
        assert made.status_code == 403, role
        assert (await client.get("/api/tenants", headers=headers)).status_code == 403, role


async def test_a_manager_adds_homes_and_people_and_reads_them(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    headers = factories.bearer(ctx, manager)
    home = await client.post("/api/homes", json={"name": "Elm House"}, headers=headers)
    assert home.status_code == 201
    assert (await client.get(home.headers["location"], headers=headers)).json() == home.json()
    assert (await client.post("/api/homes", json={"name": "Elm House"}, headers=headers)).status_code == 409
    resident = {"display_name": "Ann", "role": "resident", "home_id": home.json()["id"]}
    person = await client.post("/api/users", json=resident, headers=headers)
    assert (person.status_code, person.json()["slug"] != "") == (201, True)
    assert (await client.get(person.headers["location"], headers=headers)).json() == person.json()
    in_home = await client.get("/api/users", params={"home_id": home.json()["id"]}, headers=headers)
    assert [item["id"] for item in in_home.json()["items"]] == [person.json()["id"]]


async def test_nobody_gives_a_role_above_their_own_trust(client: httpx.AsyncClient, ctx: AppContext) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, "care_manager"))
    for role in ("platform_admin", "safeguarding_lead", "data_protection_officer", "care_manager", "service"):
        answer = await client.post("/api/users", json={"display_name": "X", "role": role}, headers=headers)
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (403, "role-not-yours-to-give")


async def test_a_resident_reads_themselves_and_nobody_else(client: httpx.AsyncClient, ctx: AppContext) -> None:
    resident = await factories.make_actor(ctx, "resident")
    other = await factories.make_user(ctx, resident.tenant_id, "resident")
    headers = factories.bearer(ctx, resident)
    assert (await client.get(f"/api/users/{resident.user_id}", headers=headers)).status_code == 200
    assert (await client.get(f"/api/users/{other.user_id}", headers=headers)).status_code == 403
    assert (await client.get("/api/users", headers=headers)).status_code == 403


async def test_as_a_member_of_another_tenant_sees_neither_homes_nor_people(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    home = await client.post("/api/homes", json={"name": "Oak"}, headers=factories.bearer(ctx, manager))
    stranger = await factories.make_actor(ctx, "care_manager")
    headers = factories.bearer(ctx, stranger)
    assert (await client.get("/api/homes", headers=headers)).json()["items"] == []
    assert (await client.get(home.headers["location"], headers=headers)).status_code == 404
    assert (await client.get(f"/api/users/{manager.user_id}", headers=headers)).status_code == 404
    listed = (await client.get("/api/users", headers=headers)).json()["items"]
    assert [item["id"] for item in listed] == [str(stranger.user_id)]


async def test_an_inactive_person_is_let_in_no_more(client: httpx.AsyncClient, ctx: AppContext) -> None:
    worker = await factories.make_actor(ctx, "care_worker")
    headers = factories.bearer(ctx, worker)
    assert (await client.get("/api/sessions", headers=headers)).status_code == 200
    await factories.rows(ctx, worker, "update users set active = false where id = %s returning id", worker.user_id)
    assert (await client.get("/api/sessions", headers=headers)).status_code == 401
