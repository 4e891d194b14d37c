"""Tests of single sign-on against a real provider: the normal flow, rotated keys, and attacks."""

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from pydantic import SecretStr

from comms.app.application import create_app
from comms.identity.single_sign_on.oidc_client import open_provider
from comms.identity.single_sign_on.queries import read_claims
from comms.kernel.settings import Settings
from comms.web.context import AppContext
from models.contract.errors import Kind, WriteCareError
from tests import factories
from tests.comms.fake_oidc_provider import FakeOidcProvider, fake_oidc_provider, with_claims

pytestmark = pytest.mark.anyio

HERE = "http://writecare.test"


@pytest.fixture
def provider() -> Iterator[FakeOidcProvider]:
    with fake_oidc_provider() as working:
        yield working


@pytest.fixture
def signing_on(settings: Settings, provider: FakeOidcProvider) -> Settings:
    return settings.model_copy(
        update={
            "public_url": HERE, "oidc_issuer": provider.issuer, "oidc_client_id": "connect",
            "oidc_client_secret": SecretStr("agreed"),
            "oidc_roles": {"senior-carer": "care_worker", "lead": "safeguarding_lead"},
        }
    )  # fmt: skip


@pytest.fixture
async def application(signing_on: Settings) -> AsyncIterator[FastAPI]:
    opened = create_app(signing_on)
    async with opened.router.lifespan_context(opened):
        yield opened


@dataclass
class Browser:
    """A browser that is redirected between the application and the provider."""

    here: httpx.AsyncClient
    there: httpx.AsyncClient
    subject: str

    async def set_out(self) -> str:
        """Returns the URL to which the provider redirects the browser."""
        away = await self.here.get("/api/auth/oidc/start")
        assert away.status_code == 303, away.text
        back = await self.there.post(away.headers["location"], data={"sub": self.subject})
        assert back.status_code == 302, back.text
        return back.headers["location"]

    async def sign_on(self) -> httpx.Response:
        return await self.here.get(await self.set_out())


@pytest.fixture
async def browser(application: FastAPI) -> AsyncIterator[Browser]:
    async with new_browser(application) as opened, httpx.AsyncClient(trust_env=False) as there:
        yield Browser(opened, there, factories.new_slug("subject"))


def new_browser(application: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=application, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=HERE)


@dataclass(frozen=True)
class Known:
    """What the provider knows about the browser's person."""

    tenant: str
    user: str
    reader: Any


async def introduce(ctx: AppContext, provider: FakeOidcProvider, browser: Browser, **more: Any) -> Known:
    """Registers the browser's person with the provider, in a tenant that exists here."""
    reader = await factories.make_actor(ctx, "care_manager")
    tenant = (await factories.rows(ctx, reader, "select slug from tenants"))[0]["slug"]
    user = factories.new_slug("ann")
    claims = {"tenant": tenant, "preferred_username": user, "name": "Ann", "role": "senior-carer", **more}
    await browser.there.put(f"{provider.issuer}/users/{browser.subject}", json=claims)
    return Known(tenant, user, reader)


def slug_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition("/")[2]


async def token_of(browser: Browser) -> dict[str, str]:
    fresh = await browser.here.post("/api/auth/refresh", json={})
    assert fresh.status_code == 200, fresh.text
    return {"Authorization": f"Bearer {fresh.json()['access_token']}"}


async def test_a_person_signs_on_and_is_made_here_in_the_role_that_the_table_gives(
    ctx: AppContext, provider: FakeOidcProvider, browser: Browser
) -> None:
    known = await introduce(ctx, provider, browser)
    home = await browser.sign_on()
    assert (home.status_code, home.headers["location"]) == (303, "/")
    me = (await browser.here.get("/api/me", headers=await token_of(browser))).json()
    assert me["role"] == "care_worker"
    made = await factories.rows(ctx, known.reader, "select slug, display_name from users where id = %s", me["user_id"])
    assert made == [{"slug": known.user, "display_name": "Ann"}]
    again = await browser.sign_on()
    assert again.status_code == 303
    assert (await browser.here.get("/api/me", headers=await token_of(browser))).json()["user_id"] == me["user_id"]


async def test_the_browser_is_sent_with_pkce_and_its_cookie_is_out_of_scripts_reach(browser: Browser) -> None:
    away = await browser.here.get("/api/auth/oidc/start")
    asked = parse_qs(urlsplit(away.headers["location"]).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == [f"{HERE}/api/auth/oidc/callback"]
    cookie = away.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert asked["state"][0] not in cookie


async def test_a_role_given_otherwise_by_the_provider_is_taken_over_and_ends_older_sign_ins(
    ctx: AppContext, provider: FakeOidcProvider, browser: Browser
) -> None:
    known = await introduce(ctx, provider, browser)
    await browser.sign_on()
    older = await token_of(browser)
    claims = {"tenant": known.tenant, "preferred_username": known.user, "role": ["staff", "lead"]}
    await browser.there.put(f"{provider.issuer}/users/{browser.subject}", json=claims)
    provider.twist = with_claims(amr=["mfa"])
    assert (await browser.sign_on()).status_code == 303
    assert (await browser.here.get("/api/me", headers=older)).status_code == 401
    assert (await browser.here.get("/api/me", headers=await token_of(browser))).json()["role"] == "safeguarding_lead"


@pytest.mark.parametrize(
    "more",
    [
        {"role": "emperor"},
        {"role": None},
        {"role": ["lead", "senior-carer"]},
        {"tenant": "nowhere-at-all"},
        {"tenant": 7},
    ],
)
async def test_what_the_table_does_not_name_lets_nobody_in(
    ctx: AppContext, provider: FakeOidcProvider, browser: Browser, more: dict[str, Any]
) -> None:
    known = await introduce(ctx, provider, browser, **more)
    refused = await browser.sign_on()
    assert (refused.status_code, slug_of(refused)) == (403, "sign-on-claims")
    assert await factories.rows(ctx, known.reader, "select 1 from users where slug = %s", known.user) == []


async def test_a_user_name_given_to_somebody_else_opens_nothing(
    application: FastAPI, ctx: AppContext, provider: FakeOidcProvider, browser: Browser
) -> None:
    known = await introduce(ctx, provider, browser)
    assert (await browser.sign_on()).status_code == 303
    async with new_browser(application) as elsewhere:
        successor = Browser(elsewhere, browser.there, factories.new_slug("subject"))
        provider.twist = with_claims(amr=["mfa"])
        claims = {"tenant": known.tenant, "preferred_username": known.user, "role": "lead"}
        await browser.there.put(f"{provider.issuer}/users/{successor.subject}", json=claims)
        refused = await successor.sign_on()
    assert refused.status_code == 403, refused.headers
    assert slug_of(refused) == "sign-on-name-taken"


async def test_an_account_with_a_password_of_its_own_is_not_taken_over(
    client: httpx.AsyncClient, ctx: AppContext, provider: FakeOidcProvider, browser: Browser
) -> None:
    known = await introduce(ctx, provider, browser)
    local = await factories.make_user(ctx, known.reader.tenant_id, "safeguarding_lead")
    headers = factories.bearer(ctx, local)
    await client.put("/api/me/password", json={"new_password": "correct horse battery"}, headers=headers)
    slug = (await factories.rows(ctx, local, "select slug from users where id = %s", local.user_id))[0]["slug"]
    claims = {"tenant": known.tenant, "preferred_username": slug, "role": "senior-carer"}
    await browser.there.put(f"{provider.issuer}/users/{browser.subject}", json=claims)
    assert slug_of(await browser.sign_on()) == "sign-on-name-taken"


async def test_whoever_signs_on_there_sets_no_password_here(
    ctx: AppContext, provider: FakeOidcProvider, browser: Browser
) -> None:
    await introduce(ctx, provider, browser)
    await browser.sign_on()
    password = {"new_password": "correct horse battery"}
    refused = await browser.here.put("/api/me/password", json=password, headers=await token_of(browser))
    assert (refused.status_code, slug_of(refused)) == (403, "signs-on-elsewhere")


async def test_nobody_makes_a_local_password_for_who_signs_on_there(
    application: FastAPI, ctx: AppContext, provider: FakeOidcProvider, browser: Browser
) -> None:
    known = await introduce(ctx, provider, browser)
    await browser.sign_on()
    (person,) = await factories.rows(ctx, known.reader, "select id from users where slug = %s", known.user)
    path = f"/api/users/{person['id']}/password-reset"
    refused = await browser.here.post(path, headers=factories.bearer(ctx, known.reader))
    assert (refused.status_code, slug_of(refused)) == (403, "signs-on-elsewhere")


@pytest.mark.parametrize(
    ("verified", "role", "persons", "waiting"),
    [(True, "reviewer", 1, 0), (True, "care_worker", 2, 1), (False, "reviewer", 2, 0), (False, "care_worker", 2, 0)],
)
async def test_an_address_that_the_provider_has_verified_says_whose_second_account_it_is(
    ctx: AppContext, provider: FakeOidcProvider, browser: Browser, verified: bool, role: str, persons: int, waiting: int
) -> None:
    # at once if two people created the older account; an address that one person typed waits for a second
    email = f"{factories.new_slug('ann')}@oak.example"
    known = await introduce(ctx, provider, browser, email=email, email_verified=verified)
    admin = await factories.make_user(ctx, known.reader.tenant_id, "platform_admin")
    new = {"display_name": "Ann", "role": role, "email": email.upper()}
    made = await browser.here.post("/api/users", json=new, headers=factories.bearer(ctx, admin))
    assert made.status_code == 201
    await browser.sign_on()
    found = await factories.rows(
        ctx, known.reader, "select person_id from users where slug = %s or id = %s", known.user, made.json()["id"]
    )
    assert (len(found), len({row["person_id"] for row in found})) == (2, persons)
    asked = await factories.rows(
        ctx, admin, "select same_as, asked_by from account_changes where kind = 'person' and state = 'waiting'"
    )
    assert [(str(row["same_as"]), row["asked_by"]) for row in asked] == [(made.json()["id"], None)] * waiting


@pytest.mark.parametrize(
    ("more", "settings_of_it", "enough"),
    [
        ({}, {}, False),
        ({"amr": ["pwd"]}, {}, False),
        ({"amr": ["pwd", "pin"]}, {}, False),  # both are things that the person knows
        ({"amr": "mfa"}, {}, False),  # not a list
        ({"amr": [{"mfa": 1}, 7]}, {}, False),
        ({"acr": "urn:two"}, {}, False),
        ({"acr": "urn:one"}, {"oidc_second_factor_acr": ("urn:two",)}, False),
        ({"acr": ["urn:two"]}, {"oidc_second_factor_acr": ("urn:two",)}, False),
        ({"amr": ["mfa"]}, {}, True),
        ({"amr": ["pwd", "otp"]}, {}, True),
        ({"amr": ["hwk", "face"]}, {}, True),
        ({"acr": "urn:two"}, {"oidc_second_factor_acr": ("urn:two",)}, True),
        ({}, {"oidc_provider_checks_second_factor": True}, True),
        ({}, {"second_factor_roles": frozenset()}, True),
    ],
)
def test_who_reads_alerts_signs_on_with_two_factors_of_which_the_provider_says_so(
    settings: Settings, more: dict[str, Any], settings_of_it: dict[str, Any], enough: bool
) -> None:
    table = {"lead": "safeguarding_lead", "senior-carer": "care_worker"}
    named = settings.model_copy(update={"oidc_roles": table, **settings_of_it})
    claims = {"sub": "s", "tenant": "t", "preferred_username": "ann", **more}
    assert read_claims(named, {**claims, "role": "senior-carer"}).role == "care_worker"
    if enough:
        assert read_claims(named, {**claims, "role": "lead"}).role == "safeguarding_lead"
        return
    with pytest.raises(WriteCareError) as refused:
        read_claims(named, {**claims, "role": "lead"})
    assert (refused.value.kind, refused.value.slug) == (Kind.REFUSED, "sign-on-one-factor")


async def test_a_lead_with_one_factor_at_the_provider_is_not_let_in(
    ctx: AppContext, provider: FakeOidcProvider, browser: Browser
) -> None:
    known = await introduce(ctx, provider, browser, role="lead")
    refused = await browser.sign_on()
    assert (refused.status_code, slug_of(refused)) == (403, "sign-on-one-factor")
    assert (await browser.here.post("/api/auth/refresh", json={})).status_code == 401
    assert await factories.rows(ctx, known.reader, "select 1 from users where slug = %s", known.user) == []
    provider.twist = with_claims(amr=["pwd", "otp"])
    assert (await browser.sign_on()).status_code == 303


async def test_the_provider_is_asked_for_the_kinds_of_sign_on_that_have_two_factors(signing_on: Settings) -> None:
    asking = create_app(signing_on.model_copy(update={"oidc_second_factor_acr": ("urn:two", "urn:three")}))
    async with asking.router.lifespan_context(asking), new_browser(asking) as visitor:
        away = await visitor.get("/api/auth/oidc/start")
    assert parse_qs(urlsplit(away.headers["location"]).query)["acr_values"] == ["urn:two urn:three"]


async def test_a_closed_account_stays_closed(ctx: AppContext, provider: FakeOidcProvider, browser: Browser) -> None:
    known = await introduce(ctx, provider, browser)
    await browser.sign_on()
    await factories.rows(ctx, known.reader, "update users set active = false where slug = %s returning id", known.user)
    assert slug_of(await browser.sign_on()) == "account-closed"


# --- the provider's keys ----------------------------------------------------------------------------------------------


async def test_keys_that_the_provider_turned_over_are_fetched_anew(
    application: FastAPI, signing_on: Settings, ctx: AppContext, provider: FakeOidcProvider, browser: Browser
) -> None:
    await introduce(ctx, provider, browser)
    async with open_provider(signing_on, keys_again_seconds=0.0) as impatient:
        application.state.provider = impatient
        assert (await browser.sign_on()).status_code == 303
        provider.rotate_keys()
        assert (await browser.sign_on()).status_code == 303
    assert provider.key_requests == 2


async def test_forged_tokens_are_no_stream_of_requests_for_keys(
    ctx: AppContext, provider: FakeOidcProvider, browser: Browser
) -> None:
    await introduce(ctx, provider, browser)
    assert (await browser.sign_on()).status_code == 303
    stranger = RSAKey.generate_key(2048)
    provider.twist = lambda claims, _: jwt.encode({"alg": "RS256", "kid": "unknown"}, claims, stranger)
    for _ in range(3):
        assert slug_of(await browser.sign_on()) == "sign-on-invalid"
    assert provider.key_requests == 1


# --- attacks ----------------------------------------------------------------------------------------------------------


def encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def unsigned(claims: dict[str, Any], _key: RSAKey) -> str:
    """RFC 8725, 3.1: 'none' as the algorithm."""
    return f"{encoded({'alg': 'none'})}.{encoded(claims)}."


def signed_with_the_public_key(claims: dict[str, Any], key: RSAKey) -> str:
    """RFC 8725, 2.1: HS256 with the provider's public key as the secret. Signed by hand, since joserfc refuses to."""
    signed = f"{encoded({'alg': 'HS256'})}.{encoded(claims)}"
    mark = hmac.digest(key.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(mark).rstrip(b'=').decode()}"


def signed_with_the_clients_secret(claims: dict[str, Any], _key: RSAKey) -> str:
    """HS256 with the client's secret. OpenID Connect allows it, but a reader of our settings could sign tokens."""
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key("agreed"), algorithms=["HS256"])


@pytest.mark.parametrize(
    "twist",
    [
        with_claims(nonce="another-nonce"), with_claims(nonce=None),
        with_claims(aud="another-client"), with_claims(aud=["connect", "another-client"]),
        with_claims(azp="another-client"),
        with_claims(iss="https://elsewhere.example"), with_claims(sub=None),
        with_claims(exp=int(time.time()) - 3600), with_claims(exp=None), with_claims(iat=int(time.time()) + 3600),
        with_claims(at_hash="AAAAAAAAAAAAAAAAAAAAAA"),
        unsigned, signed_with_the_public_key, signed_with_the_clients_secret,
        lambda claims, key: with_claims()(claims, key)[:-8] + "AAAAAAAA",
        lambda claims, key: "not-a-token",
    ],
)  # fmt: skip
async def test_a_token_that_is_not_for_this_journey_is_refused(
    ctx: AppContext, provider: FakeOidcProvider, browser: Browser, twist: Any
) -> None:
    await introduce(ctx, provider, browser)
    provider.twist = twist
    refused = await browser.sign_on()
    assert (refused.status_code, slug_of(refused)) == (401, "sign-on-invalid")
    assert provider.twisted == 1
    assert (await browser.here.post("/api/auth/refresh", json={})).status_code == 401


async def test_the_twist_alone_is_what_was_refused(
    ctx: AppContext, provider: FakeOidcProvider, browser: Browser
) -> None:
    await introduce(ctx, provider, browser)
    provider.twist = with_claims(aud=["connect"], azp="connect")
    assert (await browser.sign_on()).status_code == 303


async def test_a_state_is_good_once(ctx: AppContext, provider: FakeOidcProvider, browser: Browser) -> None:
    await introduce(ctx, provider, browser)
    back = await browser.set_out()
    cookie = browser.here.cookies["wcc_sso"]
    assert (await browser.here.get(back)).status_code == 303
    replayed = await browser.here.get(back, headers={"Cookie": f"wcc_sso={cookie}"})
    assert (replayed.status_code, slug_of(replayed)) == (401, "sign-on-invalid")


async def test_a_journey_ends_in_the_browser_that_it_began_in(
    application: FastAPI, ctx: AppContext, provider: FakeOidcProvider, browser: Browser
) -> None:
    await introduce(ctx, provider, browser)
    back = await browser.set_out()
    async with new_browser(application) as victim:  # the victim, to whom the attacker sent the URL
        assert slug_of(await victim.get(back)) == "sign-on-invalid"
        await victim.get("/api/auth/oidc/start")
        assert slug_of(await victim.get(back)) == "sign-on-invalid"


async def test_a_code_stolen_on_the_way_is_no_use_without_the_verifier(
    application: FastAPI, ctx: AppContext, provider: FakeOidcProvider, browser: Browser
) -> None:
    await introduce(ctx, provider, browser)
    stolen = parse_qs(urlsplit(await browser.set_out()).query)["code"][0]
    async with new_browser(application) as thief:
        away = await thief.get("/api/auth/oidc/start")
        state = parse_qs(urlsplit(away.headers["location"]).query)["state"][0]
        refused = await thief.get("/api/auth/oidc/callback", params={"code": stolen, "state": state})
    assert (refused.status_code, slug_of(refused)) == (401, "sign-on-invalid")


async def test_without_a_provider_there_is_nothing_to_start(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/auth/oidc/start")
    assert (answer.status_code, slug_of(answer)) == (404, "not-found")


async def test_a_provider_that_does_not_answer_is_said_to_be_silent(settings: Settings) -> None:
    deaf = settings.model_copy(update={"oidc_issuer": "http://localhost:1", "oidc_client_id": "connect"})
    opened = create_app(deaf)
    async with opened.router.lifespan_context(opened), new_browser(opened) as visitor:
        answer = await visitor.get("/api/auth/oidc/start")
    assert (answer.status_code, slug_of(answer)) == (503, "sign-on-provider-silent")
