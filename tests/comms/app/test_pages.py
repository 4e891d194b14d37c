"""Tests of the HTML pages: start page, visitor page, forms."""

import re
from html.parser import HTMLParser
from typing import get_args

import httpx
import pyotp
import pytest

from comms.app.pages.routes import COOKIE
from comms.identity.accounts.operator_enrolment import enrol
from comms.kernel.access.roles import Role
from comms.kernel.database import Actor
from comms.web.context import AppContext
from tests import factories
from tests.comms import recording_fixtures

pytestmark = pytest.mark.anyio


class _Landmarks(HTMLParser):
    """Collects what a screen reader needs: landmarks, headings, labels; checks that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def count(self, tag: str) -> int:
        return sum(found == tag for found, _ in self.tags)


async def front(client: httpx.AsyncClient, ctx: AppContext, actor: Actor) -> str:
    answer = await client.get("/", headers=factories.bearer(ctx, actor))
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.headers["content-type"].startswith("text/html")
    return answer.text


def held(text: str) -> dict[str, str]:
    return dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", text))


async def test_a_visitor_is_told_what_this_is_and_how_to_come_in(client: httpx.AsyncClient, ctx: AppContext) -> None:
    actor = await factories.make_actor(ctx)
    for headers in ({}, {"Authorization": "Bearer nonsense"}, factories.bearer(ctx, actor, lifetime=-60)):
        answer = await client.get("/", headers=headers)
        assert answer.status_code == 200
        assert "You are not signed in" in answer.text
        assert 'href="/docs"' in answer.text


async def test_who_is_signed_in_reads_who_they_are_and_what_their_tenant_holds(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, _ = await recording_fixtures.make_alert(ctx, worker_ctx)
    text = await front(client, ctx, made.lead)
    assert "<strong>safeguarding lead</strong>" in text
    assert "decide on safeguarding alerts" in text
    assert 'href="/docs"' in text
    assert held(text) == {
        "Open safeguarding alerts": "1", "Homes": "0", "People": "6", "Recordings": "1",
        "Calls and meetings": "1 ended",
    }  # fmt: skip
    assert "Open safeguarding alerts" not in await front(client, ctx, made.people["S1"])


async def test_a_browsers_cookie_is_as_good_as_the_header(client: httpx.AsyncClient, ctx: AppContext) -> None:
    actor = await factories.make_actor(ctx, "care_manager")
    token = factories.bearer(ctx, actor)["Authorization"].removeprefix("Bearer ")
    client.cookies.set(COOKIE, token)
    assert "<strong>care manager</strong>" in (await client.get("/")).text


async def test_as_the_person_an_alert_is_about_counts_it_among_nothing(
    client: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    subject = await factories.make_user(ctx, made.tenant_id, "reviewer")
    assert held(await front(client, ctx, subject))["Open safeguarding alerts"] == "1"
    await client.post(
        f"/api/alerts/{alert.id}/subjects", json={"user_id": str(subject.user_id)},
        headers=factories.bearer(ctx, made.lead),
    )  # fmt: skip
    shown = held(await front(client, ctx, subject))
    assert (shown["Open safeguarding alerts"], shown["Recordings"]) == ("0", "0")


async def test_broken_glass_stays_on_the_page_of_those_responsible_until_it_is_acknowledged(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    carer = await factories.make_actor(ctx)
    lead = await factories.make_user(ctx, carer.tenant_id, "safeguarding_lead")
    session_id = await factories.make_session(ctx, lead)
    wanted = {"object_kind": "care_context", "object_id": str(session_id), "reason": "<b>Fire</b>", "minutes": 5}
    glass = (await client.post("/api/break-glass", json=wanted, headers=factories.bearer(ctx, carer))).json()
    text = await front(client, ctx, lead)
    assert "The glass was broken" in text
    assert "&lt;b&gt;Fire&lt;/b&gt;" in text
    assert "The glass was broken" not in await front(client, ctx, carer)
    await client.post(f"/api/break-glass/{glass['id']}/acknowledge", headers=factories.bearer(ctx, lead))
    assert "The glass was broken" not in await front(client, ctx, lead)


@pytest.mark.parametrize("role", get_args(Role))
async def test_every_role_has_a_page_that_a_screen_reader_can_steer_by(
    client: httpx.AsyncClient, ctx: AppContext, role: str
) -> None:
    actor = await factories.make_actor(ctx, role)
    await factories.rows(
        ctx, actor, "update users set display_name = '<script>x</script>' where id = %s returning id", actor.user_id
    )
    text = await front(client, ctx, actor)
    page = _Landmarks(text)
    assert page.open == []
    assert (page.count("main"), page.count("h1"), page.count("script"), page.count("table")) == (1, 1, 0, 0)
    assert ("html", {"lang": "en-GB"}) in page.tags
    labelled = {attributes["aria-labelledby"] for tag, attributes in page.tags if tag == "section"}
    assert labelled == {attributes.get("id") for tag, attributes in page.tags if tag == "h2"}
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"<li>[a-z_]+\.[a-z_]+</li>", text), "a permission without words of its own"


async def test_a_guests_page_speaks_of_their_call_alone(client: httpx.AsyncClient, ctx: AppContext) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    session_id = await factories.make_session(ctx, manager, session_type="video_call")
    guest = await factories.make_user(ctx, manager.tenant_id, "external")
    narrowed = Actor(guest.tenant_id, guest.user_id, "external", session_id=session_id)
    text = await front(client, ctx, narrowed)
    assert "the one call that you were invited to" in text
    assert held(text) == {"Calls and meetings": "none"}  # they have not joined the call yet


async def given_a_password(client: httpx.AsyncClient, ctx: AppContext) -> tuple[Actor, dict[str, str]]:
    """A user with an enrolled password, and what they enter in the form."""
    actor = await factories.make_actor(ctx, "care_manager")
    words = "a sentence that nobody guesses"
    headers = factories.bearer(ctx, actor)
    assert (await client.put("/api/me/password", json={"new_password": words}, headers=headers)).status_code == 204
    named = await factories.rows(
        ctx, actor, "select t.slug as tenant, u.slug as user from users u join tenants t on t.id = u.tenant_id "
        "where u.id = %s", actor.user_id,
    )  # fmt: skip
    return actor, {**named[0], "password": words, "code": ""}


async def test_a_person_signs_in_by_the_form_is_known_on_the_page_and_signs_out(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    _, typed = await given_a_password(client, ctx)
    answer = await client.post("/sign-in", data=typed)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    for cookie in answer.headers.get_list("set-cookie"):
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
    assert "<strong>care manager</strong>" in (await client.get("/")).text
    token = client.cookies[COOKIE]
    assert (await client.post("/sign-out")).status_code == 303
    assert "You are not signed in" in (await client.get("/")).text
    answer = await client.get("/api/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


async def test_a_wrong_password_leaves_the_form_with_what_to_do_and_without_the_password(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    _, typed = await given_a_password(client, ctx)
    answer = await client.post("/sign-in", data=typed | {"password": "another <b>word</b>"})
    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert f'value="{typed["user"]}"' in answer.text
    assert "word</b>" not in answer.text
    assert COOKIE not in answer.headers.get("set-cookie", "")
    page = _Landmarks(answer.text)
    assert page.open == []
    labelled = {attrs["for"] for tag, attrs in page.tags if tag == "label"}
    assert labelled == {attrs["id"] for tag, attrs in page.tags if tag == "input"}


async def test_a_page_of_another_address_signs_nobody_in(client: httpx.AsyncClient, ctx: AppContext) -> None:
    _, typed = await given_a_password(client, ctx)
    answer = await client.post("/sign-in", data=typed, headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


async def test_a_person_sets_their_password_with_a_code_and_a_second_factor_before_anything_else(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    tenant, user = factories.new_slug("tenant"), factories.new_slug("lead")
    code = await enrol(ctx.database, tenant, user, "safeguarding_lead")
    typed = {"tenant": tenant, "user": user, "code": str(code)}
    short = await client.post("/set-password", data=typed | {"new_password": "short"})
    assert (short.status_code, "12 characters" in short.text) == (422, True)
    common = await client.post("/set-password", data=typed | {"new_password": "passwordpassword"})
    assert (common.status_code, "too easy to guess" in common.text) == (422, True)
    words = "seven lanterns under water"
    done = await client.post("/set-password", data=typed | {"new_password": words})
    assert (done.status_code, done.headers["location"]) == (303, "/sign-in")
    assert (await client.post("/sign-in", data=typed | {"password": words, "code": ""})).status_code == 303
    first = (await client.get("/")).text
    assert "Set up your second factor" in first
    assert "Open safeguarding alerts" not in first
    begun = await client.post("/second-factor", data={"code": ""})
    key = re.search(r"<code>([A-Z2-7]{32})</code>", begun.text)
    assert key is not None
    wrong = await client.post("/second-factor/confirm", data={"code": "000000"})
    assert (wrong.status_code, 'role="alert"' in wrong.text) == (422, True)
    on = await client.post("/second-factor/confirm", data={"code": pyotp.TOTP(key[1]).now()})
    assert (on.status_code, on.text.count("<li><code>")) == (200, 10)
    after = (await client.get("/")).text
    assert "Set up your second factor" not in after
    assert held(after)["Open safeguarding alerts"] == "0"
    assert "Your account was changed" in after  # by the operator of the machine


@pytest.mark.parametrize("path", ["/sign-in", "/set-password", "/second-factor"])
async def test_every_form_has_a_label_for_each_field_and_works_without_scripts(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)
    page = _Landmarks(answer.text)
    assert (answer.status_code, page.open, page.count("main"), page.count("h1"), page.count("script")) == (
        200, [], 1, 1, 0,
    )  # fmt: skip
    labelled = {attrs["for"] for tag, attrs in page.tags if tag == "label"}
    assert labelled == {attrs["id"] for tag, attrs in page.tags if tag == "input"}


@pytest.mark.parametrize("path", ["/set-password", "/second-factor", "/second-factor/confirm"])
async def test_a_page_of_another_address_changes_nobodys_account(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, data={"code": "000000"}, headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 403


async def test_who_may_approve_reads_what_waits_on_their_page(client: httpx.AsyncClient, ctx: AppContext) -> None:
    admin = await factories.make_actor(ctx, "platform_admin")
    officer = await factories.make_user(ctx, admin.tenant_id, "data_protection_officer")
    new = {"display_name": "<b>Bo</b>", "role": "reviewer"}
    await client.post("/api/users", json=new, headers=factories.bearer(ctx, admin))
    text = await front(client, ctx, officer)
    assert "Accounts that want a second person" in text
    assert "&lt;b&gt;Bo&lt;/b&gt;" in text
    carer = await factories.make_user(ctx, admin.tenant_id, "care_worker")
    assert "Accounts that want a second person" not in await front(client, ctx, carer)
