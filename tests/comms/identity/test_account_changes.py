"""Tests of account changes: nobody can take over another person's account; privileged accounts need two people."""

from typing import Any

import httpx
import psycopg
import pytest

from comms.app.application import create_app
from comms.identity.accounts.operator_enrolment import enrol
from comms.kernel.access.roles import PRIVILEGED
from comms.kernel.database import Actor
from comms.kernel.settings import Settings
from comms.web.context import AppContext
from tests import factories
from tests.comms import recording_fixtures
from tests.comms.fake_smtp import MailServer, mail_server

pytestmark = pytest.mark.anyio

PASSWORD = "seven lanterns under water"


def slug_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition("/")[2]


async def names(ctx: AppContext, actor: Actor) -> dict[str, str]:
    """Returns the slugs with which the person signs in."""
    found = await factories.rows(
        ctx, actor, "select t.slug as tenant, u.slug as user from tenants t join users u on u.tenant_id = t.id "
        "where u.id = %s", actor.user_id,
    )  # fmt: skip
    return found[0]


class Staff:
    """A tenant with people who manage and approve accounts, and the client that sends their requests."""

    def __init__(self, client: httpx.AsyncClient, ctx: AppContext, people: dict[str, Actor]) -> None:
        self.client, self.ctx, self.people = client, ctx, people

    def __getitem__(self, role: str) -> Actor:
        return self.people[role]

    async def ask(self, role: str | Actor, method: str, path: str, json: Any = None) -> httpx.Response:
        actor = self.people[role] if isinstance(role, str) else role
        return await self.client.request(method, path, json=json, headers=factories.bearer(self.ctx, actor))

    async def waiting(self, role: str) -> list[dict[str, Any]]:
        answer = await self.ask(role, "GET", "/api/account-changes?state=waiting")
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["items"]
        return found

    async def approve(self, role: str | Actor, change: dict[str, Any]) -> httpx.Response:
        return await self.ask(role, "POST", f"/api/account-changes/{change['id']}/approve")


@pytest.fixture
async def staff(client: httpx.AsyncClient, ctx: AppContext) -> Staff:
    return await make_staff(client, ctx)


async def make_staff(client: httpx.AsyncClient, ctx: AppContext) -> Staff:
    admin = await factories.make_actor(ctx, "platform_admin")
    roles = ("data_protection_officer", "safeguarding_lead", "reviewer", "care_manager", "care_worker")
    people = {role: await factories.make_user(ctx, admin.tenant_id, role) for role in roles}
    return Staff(client, ctx, {**people, "platform_admin": admin})


async def redeem(client: httpx.AsyncClient, ctx: AppContext, person: Actor, code: str) -> httpx.Response:
    sent = {**await names(ctx, person), "code": code, "new_password": PASSWORD}
    return await client.post("/api/auth/password-reset", json=sent)


# --- codes ------------------------------------------------------------------------------------------------------------


async def test_a_printed_code_has_two_halves_and_neither_opens_anything_alone(
    client: httpx.AsyncClient, ctx: AppContext, staff: Staff
) -> None:
    carer = staff["care_worker"]
    made = await staff.ask("care_manager", "POST", f"/api/users/{carer.user_id}/password-reset")
    assert (made.status_code, made.json()["change"]["state"]) == (201, "waiting")
    first = made.json()["first_half"]
    before = await redeem(client, ctx, carer, f"{first} {first}")
    assert (before.status_code, slug_of(before)) == (401, "reset-invalid")
    assert slug_of(await staff.approve("care_manager", made.json()["change"])) == "change-asked-by-you"
    approved = await staff.approve("safeguarding_lead", made.json()["change"])
    assert approved.status_code == 200, approved.text
    second = approved.json()["second_half"]
    for guess in (f"{first} {first}", f"{second} {second}", first, second, ""):
        assert (await redeem(client, ctx, carer, guess)).status_code == 401, guess
    assert (await redeem(client, ctx, carer, f"{second.upper()} {first}")).status_code == 204
    assert (await redeem(client, ctx, carer, f"{first} {second}")).status_code == 401  # once
    signed_in = await client.post("/api/auth/sign-in", json={**await names(ctx, carer), "password": PASSWORD})
    assert signed_in.status_code == 200
    told = await staff.ask("care_worker", "GET", "/api/me/account-changes")
    assert [(item["kind"], item["state"], item["asked_by"], item["decided_by"]) for item in told.json()["items"]] == [
        ("password", "done", str(staff["care_manager"].user_id), str(staff["safeguarding_lead"].user_id))
    ]
    officers = await staff.ask("data_protection_officer", "GET", "/api/account-changes")
    assert officers.json()["items"] == told.json()["items"]
    page = await client.get("/", headers=factories.bearer(ctx, carer))
    assert "Your account was changed" in page.text


async def test_a_newer_reset_takes_the_place_of_the_older_and_a_withdrawn_one_opens_nothing(
    client: httpx.AsyncClient, ctx: AppContext, staff: Staff
) -> None:
    path = f"/api/users/{staff['care_worker'].user_id}/password-reset"
    older, newer = await staff.ask("care_manager", "POST", path), await staff.ask("care_manager", "POST", path)
    assert (await staff.approve("safeguarding_lead", older.json()["change"])).status_code == 404
    change = newer.json()["change"]
    withdrawn = await staff.ask("care_manager", "POST", f"/api/account-changes/{change['id']}/refuse")
    assert withdrawn.json()["state"] == "withdrawn"
    assert (await staff.approve("safeguarding_lead", change)).status_code == 404
    kept = await factories.rows(ctx, staff["care_manager"], "select 1 from enrolments")
    assert kept == []


async def test_a_carer_does_not_see_what_was_changed_of_who_made_them(ctx: AppContext, staff: Staff) -> None:
    manager = staff["care_manager"]
    made = await staff.ask("care_manager", "POST", "/api/users", {"display_name": "Bo", "role": "care_worker"})
    await staff.ask("platform_admin", "POST", f"/api/users/{manager.user_id}/password-reset")
    carer = Actor(manager.tenant_id, made.json()["id"], "care_worker")
    assert (await staff.ask(carer, "GET", "/api/me/account-changes")).json()["items"] == []
    assert await factories.rows(ctx, carer, "select 1 from account_changes") == []
    assert len((await staff.ask("care_manager", "GET", "/api/me/account-changes")).json()["items"]) == 1


async def test_a_release_ends_every_sign_in_of_the_person(ctx: AppContext, staff: Staff) -> None:
    inside = await factories.signed_in(ctx, staff["reviewer"])
    made = await staff.ask("safeguarding_lead", "POST", f"/api/users/{staff['reviewer'].user_id}/password-reset")
    assert (await staff.ask(inside, "GET", "/api/me")).status_code == 200
    assert (await staff.approve("data_protection_officer", made.json()["change"])).status_code == 200
    assert (await staff.ask(inside, "GET", "/api/me")).status_code == 401


async def test_the_database_shows_codes_to_nobody(ctx: AppContext, staff: Staff) -> None:
    await staff.ask("care_manager", "POST", f"/api/users/{staff['care_worker'].user_id}/password-reset")
    for actor in staff.people.values():
        assert await factories.rows(ctx, actor, "select 1 from enrolments") == []


# --- the second person ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", sorted(PRIVILEGED))
async def test_an_account_that_reads_alerts_or_manages_accounts_opens_when_a_second_person_approves(
    ctx: AppContext, staff: Staff, role: str
) -> None:
    made = await staff.ask("platform_admin", "POST", "/api/users", {"display_name": "New", "role": role})
    assert (made.status_code, made.json()["active"]) == (201, False)
    person = Actor(staff["platform_admin"].tenant_id, made.json()["id"], role)
    assert (await staff.ask(person, "GET", "/api/me")).status_code == 401
    (change,) = await staff.waiting("data_protection_officer")
    assert (change["kind"], change["user_id"]) == ("account", made.json()["id"])
    assert slug_of(await staff.approve("platform_admin", change)) == "change-asked-by-you"
    assert slug_of(await staff.approve("care_manager", change)) == "change-not-yours-to-approve"
    assert (await staff.approve("care_worker", change)).status_code == 403
    assert (await staff.approve("data_protection_officer", change)).status_code == 200
    assert (await staff.ask(person, "GET", "/api/me")).status_code == 200


async def test_a_role_is_raised_and_a_closed_account_opened_by_two(ctx: AppContext, staff: Staff) -> None:
    carer = staff["care_worker"]
    path = f"/api/users/{carer.user_id}"
    asked = await staff.ask("platform_admin", "PUT", path, {"role": "safeguarding_lead"})
    assert (asked.status_code, asked.json()["role"]) == (200, "care_worker")
    (change,) = await staff.waiting("data_protection_officer")
    assert (change["kind"], change["role"]) == ("role", "safeguarding_lead")
    assert (await staff.approve("data_protection_officer", change)).status_code == 200
    raised = await staff.ask("platform_admin", "GET", path)
    assert raised.json()["role"] == "safeguarding_lead"
    # closing takes effect at once; opening again does not
    assert (await staff.ask("platform_admin", "PUT", path, {"active": False})).json()["active"] is False
    assert (await staff.ask("platform_admin", "PUT", path, {"active": True})).json()["active"] is False
    (again,) = await staff.waiting("data_protection_officer")
    assert (again["kind"], (await staff.approve("data_protection_officer", again)).status_code) == ("account", 200)
    assert (await staff.ask("platform_admin", "GET", path)).json()["active"] is True


async def test_a_second_factor_comes_off_a_privileged_account_by_two(ctx: AppContext, staff: Staff) -> None:
    path = f"/api/users/{staff['reviewer'].user_id}/second-factor"
    asked = await staff.ask("safeguarding_lead", "DELETE", path)
    assert (asked.status_code, asked.json()["state"]) == (202, "waiting")
    inside = await factories.signed_in(ctx, staff["reviewer"])
    assert (await staff.approve("data_protection_officer", asked.json())).status_code == 200
    assert (await staff.ask(inside, "GET", "/api/me")).status_code == 401


async def test_nobody_approves_a_change_to_their_own_account(ctx: AppContext, staff: Staff) -> None:
    other = await factories.make_user(ctx, staff["platform_admin"].tenant_id, "platform_admin")
    officer = staff["data_protection_officer"]
    made = await staff.ask(other, "POST", f"/api/users/{officer.user_id}/password-reset")
    assert slug_of(await staff.approve("data_protection_officer", made.json()["change"])) == "change-asked-by-you"
    assert (await staff.approve("platform_admin", made.json()["change"])).status_code == 200


async def test_a_second_account_of_who_asked_is_no_second_person(ctx: AppContext, staff: Staff) -> None:
    admin = staff["platform_admin"]
    other = await factories.make_user(ctx, admin.tenant_id, "data_protection_officer")
    join = f"/api/users/{other.user_id}/person"
    joined = await staff.ask("platform_admin", "PUT", join, {"user_id": str(admin.user_id)})
    assert joined.status_code == 202
    assert (await staff.approve("data_protection_officer", joined.json())).status_code == 200
    made = await staff.ask("platform_admin", "POST", "/api/users", {"display_name": "New", "role": "reviewer"})
    assert made.status_code == 201
    (change,) = await staff.waiting("data_protection_officer")
    assert slug_of(await staff.approve(other, change)) == "change-asked-by-you"


async def test_a_refused_account_stays_closed(staff: Staff) -> None:
    made = await staff.ask("platform_admin", "POST", "/api/users", {"display_name": "New", "role": "reviewer"})
    (change,) = await staff.waiting("safeguarding_lead")
    refused = await staff.ask("safeguarding_lead", "POST", f"/api/account-changes/{change['id']}/refuse")
    assert (refused.status_code, refused.json()["state"]) == (200, "refused")
    assert (await staff.approve("data_protection_officer", change)).status_code == 404
    assert (await staff.ask("platform_admin", "GET", f"/api/users/{made.json()['id']}")).json()["active"] is False


async def test_closing_an_account_withdraws_what_waits_for_it(ctx: AppContext, staff: Staff) -> None:
    path = f"/api/users/{staff['care_worker'].user_id}"
    await staff.ask("platform_admin", "PUT", path, {"role": "safeguarding_lead"})
    await staff.ask("platform_admin", "POST", f"{path}/password-reset")
    waiting = await staff.waiting("data_protection_officer")
    assert sorted(change["kind"] for change in waiting) == ["password", "role"]
    assert (await staff.ask("care_manager", "PUT", path, {"active": False})).json()["active"] is False
    assert await staff.waiting("data_protection_officer") == []
    for change in waiting:
        assert (await staff.approve("data_protection_officer", change)).status_code == 404
    assert await factories.rows(ctx, staff["care_manager"], "select 1 from enrolments") == []
    assert (await staff.ask("platform_admin", "GET", path)).json()["active"] is False


async def test_an_account_that_waits_for_its_opening_is_closed_for_good_by_closing_it(staff: Staff) -> None:
    made = await staff.ask("platform_admin", "POST", "/api/users", {"display_name": "New", "role": "reviewer"})
    (change,) = await staff.waiting("data_protection_officer")
    path = f"/api/users/{made.json()['id']}"
    assert (await staff.ask("safeguarding_lead", "PUT", path, {"active": False})).status_code == 200
    assert (await staff.approve("data_protection_officer", change)).status_code == 404
    assert (await staff.ask("platform_admin", "GET", path)).json()["active"] is False


async def test_a_role_that_is_approved_opens_no_closed_account(staff: Staff) -> None:
    path = f"/api/users/{staff['care_worker'].user_id}"
    await staff.ask("care_manager", "PUT", path, {"active": False})
    await staff.ask("platform_admin", "PUT", path, {"role": "reviewer"})
    (change,) = await staff.waiting("data_protection_officer")
    assert (await staff.approve("data_protection_officer", change)).status_code == 200
    account = (await staff.ask("platform_admin", "GET", path)).json()
    assert (account["role"], account["active"]) == ("reviewer", False)


async def test_a_change_that_nobody_approved_in_time_is_over(ctx: AppContext, staff: Staff) -> None:
    made = await staff.ask("care_manager", "POST", f"/api/users/{staff['care_worker'].user_id}/password-reset")
    assert made.status_code == 201
    change = made.json()["change"]
    overdue = (
        "insert into account_changes (tenant_id, user_id, kind, role, state, asked_by, expires_at) select tenant_id, "
        "user_id, 'second_factor', role, 'waiting', asked_by, now() - interval '1 second' from account_changes "
        "where id = %s returning id"
    )
    (row,) = await factories.rows(ctx, staff["care_manager"], overdue, change["id"])
    assert (await staff.approve("data_protection_officer", {"id": row["id"]})).status_code == 404
    listed = await staff.ask("data_protection_officer", "GET", "/api/account-changes?state=expired")
    assert [item["id"] for item in listed.json()["items"]] == [str(row["id"])]


# --- people whom an alert is about ------------------------------------------------------------------------------------


async def name_in_an_alert(ctx: AppContext, worker_ctx: AppContext, client: httpx.AsyncClient, role: str) -> Staff:
    """A tenant with an open alert about its person with this role."""
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    roles = ("platform_admin", "data_protection_officer", "reviewer", "care_manager", "safeguarding_lead")
    people = {each: await factories.make_user(ctx, made.tenant_id, each) for each in roles}
    answer = await client.post(
        f"/api/alerts/{alert.id}/subjects", json={"user_id": str(people[role].user_id)},
        headers=factories.bearer(ctx, made.lead),
    )  # fmt: skip
    assert answer.status_code < 300, answer.text
    found = Staff(client, ctx, people)
    found.people["other_lead"] = made.lead
    return found


async def alerts_seen(staff: Staff, actor: Actor) -> int:
    answer = await staff.ask(actor, "GET", "/api/alerts")
    assert answer.status_code == 200, answer.text
    return len(answer.json()["items"])


async def test_what_a_lead_asks_for_while_an_alert_is_about_her_comes_to_nothing_and_does_not_say_why(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    staff = await name_in_an_alert(ctx, worker_ctx, client, "safeguarding_lead")
    assert await alerts_seen(staff, staff["other_lead"]) == 1
    assert await alerts_seen(staff, staff["safeguarding_lead"]) == 0
    made = await staff.ask("safeguarding_lead", "POST", "/api/users", {"display_name": "Me", "role": "reviewer"})
    reset = await staff.ask("safeguarding_lead", "POST", f"/api/users/{staff['reviewer'].user_id}/password-reset")
    assert (made.status_code, reset.status_code) == (201, 201)  # the same answer as for everybody
    for change in await staff.waiting("data_protection_officer"):
        refused = await staff.approve("data_protection_officer", change)
        assert (refused.status_code, slug_of(refused)) == (403, "asker-not-eligible")
        assert "alert" not in refused.text
    # and she may not approve either
    asked = await staff.ask("platform_admin", "POST", f"/api/users/{staff['reviewer'].user_id}/password-reset")
    hidden = await staff.approve("safeguarding_lead", asked.json()["change"])
    assert (hidden.status_code, slug_of(hidden)) == (404, "not-found")
    assert (await staff.approve("other_lead", asked.json()["change"])).status_code == 200


async def test_a_second_account_of_a_person_whom_an_alert_is_about_does_not_see_it(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    staff = await name_in_an_alert(ctx, worker_ctx, client, "reviewer")
    second = await factories.make_user(ctx, staff["reviewer"].tenant_id, "data_protection_officer")
    assert await alerts_seen(staff, second) == 1
    joined = await staff.ask(
        "platform_admin", "PUT", f"/api/users/{second.user_id}/person", {"user_id": str(staff["reviewer"].user_id)}
    )
    assert joined.status_code == 202
    assert (await staff.approve("data_protection_officer", joined.json())).status_code == 200
    assert await alerts_seen(staff, second) == 0
    alert_events = "select 1 from events where type like 'safeguarding.alert%%'"
    assert await factories.rows(ctx, second, alert_events) == []


async def persons(ctx: AppContext, reader: Actor, *accounts: Any) -> int:
    """Returns how many people own these accounts."""
    found = await factories.rows(
        ctx, reader, "select person_id from users where id = any(%s::uuid[])", [str(account) for account in accounts]
    )
    assert len(found) == len(accounts)
    return len({row["person_id"] for row in found})


async def test_an_account_with_the_same_address_is_the_same_persons_once_a_second_person_says_so(
    ctx: AppContext, staff: Staff
) -> None:
    both = {"display_name": "Ann", "email": "ann@oak.example"}
    first = await staff.ask("platform_admin", "POST", "/api/users", {**both, "role": "care_worker"})
    second = await staff.ask(
        "platform_admin", "POST", "/api/users", {**both, "role": "reviewer", "email": "ANN@oak.example"}
    )
    accounts = (first.json()["id"], second.json()["id"])
    assert await persons(ctx, staff["platform_admin"], *accounts) == 2
    opening, joining = sorted(await staff.waiting("data_protection_officer"), key=lambda change: change["kind"])
    assert (joining["kind"], joining["user_id"], joining["same_as"]) == ("person", accounts[1], accounts[0])
    # the account is not opened before it is decided who owns it
    early = await staff.approve("data_protection_officer", opening)
    assert (early.status_code, slug_of(early)) == (409, "person-undecided")
    assert (await staff.approve("data_protection_officer", joining)).status_code == 200
    assert await persons(ctx, staff["platform_admin"], *accounts) == 1
    assert (await staff.approve("data_protection_officer", opening)).status_code == 200


async def test_nobody_joins_a_lead_to_a_carer_by_typing_her_address(ctx: AppContext, staff: Staff) -> None:
    lead = staff["safeguarding_lead"]
    address = f"{factories.new_slug('lead')}@oak.example"
    await factories.rows(
        ctx, staff["platform_admin"], "update users set email = %s where id = %s returning id", address, lead.user_id
    )
    new = {"display_name": "X", "role": "care_worker", "email": address}
    made = await staff.ask("care_manager", "POST", "/api/users", new)
    assert (made.status_code, made.json()["active"]) == (201, True)
    assert await persons(ctx, lead, lead.user_id, made.json()["id"]) == 2
    (joining,) = await staff.waiting("data_protection_officer")
    assert slug_of(await staff.approve("care_manager", joining)) == "change-not-yours-to-approve"
    assert slug_of(await staff.approve("safeguarding_lead", joining)) == "change-not-yours-to-approve"
    # she can still approve what the manager requests
    reset = await staff.ask("care_manager", "POST", f"/api/users/{staff['care_worker'].user_id}/password-reset")
    assert (await staff.approve("safeguarding_lead", reset.json()["change"])).status_code == 200


async def test_through_a_carer_whom_she_made_alone_a_manager_breaks_no_glass_of_an_alert_about_herself(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    staff = await name_in_an_alert(ctx, worker_ctx, client, "care_manager")
    alert = (await staff.ask("other_lead", "GET", "/api/alerts")).json()["items"][0]["id"]
    made = await staff.ask("care_manager", "POST", "/api/users", {"display_name": "Me", "role": "care_worker"})
    other = await staff.ask("platform_admin", "POST", "/api/users", {"display_name": "Bo", "role": "care_worker"})
    need = {"object_kind": "alert", "object_id": alert, "reason": "Now.", "minutes": 5}
    tenant = staff["care_manager"].tenant_id
    through_her = await staff.ask(Actor(tenant, made.json()["id"], "care_worker"), "POST", "/api/break-glass", need)
    assert (through_her.status_code, slug_of(through_her)) == (404, "not-found")
    another = await staff.ask(Actor(tenant, other.json()["id"], "care_worker"), "POST", "/api/break-glass", need)
    assert another.status_code == 201


async def test_a_key_that_reads_alerts_waits_for_a_second_person_and_does_not_see_what_is_about_its_maker(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    staff = await name_in_an_alert(ctx, worker_ctx, client, "care_manager")
    made = await staff.ask("platform_admin", "POST", "/api/service-accounts", key_for("alerts.read"))
    assert (made.status_code, made.json()["active"]) == (201, False)
    key = {"Authorization": f"Bearer {made.json()['key']}"}
    assert (await client.get("/api/alerts", headers=key)).status_code == 401
    (change,) = await staff.waiting("data_protection_officer")
    assert (await staff.approve("data_protection_officer", change)).status_code == 200
    answer = await client.get("/api/alerts", headers=key)
    assert (answer.status_code, len(answer.json()["items"])) == (200, 1)
    # from now on, an alert is about the creator
    alert = answer.json()["items"][0]["id"]
    named = {"user_id": str(staff["platform_admin"].user_id)}
    assert (await staff.ask("other_lead", "POST", f"/api/alerts/{alert}/subjects", named)).status_code < 300
    assert (await client.get("/api/alerts", headers=key)).json()["items"] == []


def key_for(*scopes: str) -> dict[str, Any]:
    return {"name": "Rota", "scopes": list(scopes), "expires_at": factories.tomorrow()}


async def test_a_program_gets_no_password_and_nobody_gets_its_role(ctx: AppContext, staff: Staff) -> None:
    made = await staff.ask("platform_admin", "POST", "/api/service-accounts", key_for("homes.read"))
    path = f"/api/users/{made.json()['id']}"
    reset = await staff.ask("platform_admin", "POST", f"{path}/password-reset")
    assert (reset.status_code, slug_of(reset)) == (403, "service-has-no-password")
    for answer in (
        await staff.ask("platform_admin", "POST", "/api/users", {"display_name": "X", "role": "service"}),
        await staff.ask("platform_admin", "PUT", f"/api/users/{staff['care_worker'].user_id}", {"role": "service"}),
    ):
        assert (answer.status_code, slug_of(answer)) == (403, "role-not-yours-to-give")
    program = Actor(staff["platform_admin"].tenant_id, made.json()["id"], "care_worker")
    own = await staff.ask(program, "PUT", "/api/me/password", {"new_password": PASSWORD})
    assert (own.status_code, slug_of(own)) == (403, "service-has-no-password")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await factories.rows(
            ctx, program, "insert into passwords (tenant_id, user_id, hash) values (%s, %s, 'x') returning 1",
            program.tenant_id, program.user_id,
        )  # fmt: skip


# --- e-mail and the operator ------------------------------------------------------------------------------------------


@pytest.fixture
async def post() -> Any:
    async with mail_server() as open_letters:
        yield open_letters


async def test_where_e_mail_is_set_up_the_code_goes_to_the_person_and_to_nobody_else(
    settings: Settings, ctx: AppContext, post: MailServer
) -> None:
    mailing = create_app(settings.model_copy(update=post.settings))
    transport = httpx.ASGITransport(app=mailing, client=(factories.new_address(), 4711))
    async with (
        mailing.router.lifespan_context(mailing),
        httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as client,
    ):
        staff = await make_staff(client, ctx)
        person = {"display_name": "Ann", "role": "care_worker", "email": "ann@oak.example"}
        made = (await staff.ask("care_manager", "POST", "/api/users", person)).json()
        carer = Actor(staff["care_manager"].tenant_id, made["id"], "care_worker")
        reset = await staff.ask("care_manager", "POST", f"/api/users/{made['id']}/password-reset")
        assert (reset.json()["change"]["state"], reset.json()["first_half"]) == ("done", None)
        letter = post.received[0]
        assert letter["To"] == "ann@oak.example"
        code = letter.get_content().partition("Code")[2].split()[0]
        assert code not in reset.text
        assert (await redeem(client, ctx, carer, code)).status_code == 204
        # for a privileged account, a second person must approve first
        lead = {"display_name": "Bo", "role": "reviewer", "email": "bo@oak.example"}
        made = (await staff.ask("safeguarding_lead", "POST", "/api/users", lead)).json()
        (opening,) = await staff.waiting("data_protection_officer")
        assert (await staff.approve("data_protection_officer", opening)).status_code == 200
        reset = await staff.ask("safeguarding_lead", "POST", f"/api/users/{made['id']}/password-reset")
        assert (reset.json()["change"]["state"], reset.json()["first_half"]) == ("waiting", None)
        assert "Code" not in post.received[-1].get_content()
        approved = await staff.approve("data_protection_officer", reset.json()["change"])
        assert approved.json()["second_half"] is None
        told = [(mail["To"], "Code" in mail.get_content()) for mail in post.received[-2:]]
        assert told == [("bo@oak.example", True), ("bo@oak.example", False)]


async def test_a_server_that_does_not_take_the_e_mail_undoes_the_reset(settings: Settings, ctx: AppContext) -> None:
    nowhere = {"smtp_host": "127.0.0.1", "smtp_port": 1, "smtp_security": "none"}
    mailing = create_app(settings.model_copy(update=nowhere))
    transport = httpx.ASGITransport(app=mailing, raise_app_exceptions=False)
    async with (
        mailing.router.lifespan_context(mailing),
        httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as client,
    ):
        staff = await make_staff(client, ctx)
        person = {"display_name": "Ann", "role": "care_worker", "email": "ann@oak.example"}
        made = (await staff.ask("care_manager", "POST", "/api/users", person)).json()
        reset = await staff.ask("care_manager", "POST", f"/api/users/{made['id']}/password-reset")
        assert (reset.status_code, slug_of(reset)) == (503, "mail-unavailable")
        listed = await staff.ask("data_protection_officer", "GET", "/api/account-changes")
        assert listed.json()["items"] == []


async def test_whoever_runs_the_machine_lets_the_first_people_of_a_tenant_in(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    tenant, user = factories.new_slug("tenant"), factories.new_slug("lead")
    code = await enrol(ctx.database, tenant, user, "safeguarding_lead")
    sent = {"tenant": tenant, "user": user, "code": str(code), "new_password": PASSWORD}
    assert (await client.post("/api/auth/password-reset", json=sent)).status_code == 204
    inside = await client.post("/api/auth/sign-in", json={"tenant": tenant, "user": user, "password": PASSWORD})
    assert inside.status_code == 200
    headers = {"Authorization": f"Bearer {inside.json()['access_token']}"}
    told = (await client.get("/api/me/account-changes", headers=headers)).json()["items"]
    assert [(item["kind"], item["asked_by"]) for item in told] == [("password", None)]


async def test_an_account_that_waits_is_opened_by_whoever_runs_the_machine(ctx: AppContext, staff: Staff) -> None:
    new = {"display_name": "New", "role": "reviewer", "slug": factories.new_slug("new")}
    made = (await staff.ask("platform_admin", "POST", "/api/users", new)).json()
    tenant = (await names(ctx, staff["platform_admin"]))["tenant"]
    await enrol(ctx.database, tenant, new["slug"], "reviewer")
    assert (await staff.ask("platform_admin", "GET", f"/api/users/{made['id']}")).json()["active"] is True
    assert await staff.waiting("data_protection_officer") == []
