"""Tests of local accounts: who can sign in with a password and a code, and that a refusal shows no reason."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import argon2
import httpx
import pyotp
import pytest

from comms.kernel.database import Actor
from comms.web.context import AppContext
from tests import factories

pytestmark = pytest.mark.anyio

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Person:
    """A person with a password, and the slugs with which they sign in."""

    actor: Actor
    tenant: str
    user: str

    def credentials(self, password: str = PASSWORD, **more: Any) -> dict[str, Any]:
        return {"tenant": self.tenant, "user": self.user, "password": password, **more}


async def slugs(ctx: AppContext, actor: Actor) -> tuple[str, str]:
    found = await factories.rows(
        ctx, actor, "select t.slug as tenant, u.slug as person from tenants t join users u on u.tenant_id = t.id "
        "where u.id = %s", actor.user_id,
    )  # fmt: skip
    return found[0]["tenant"], found[0]["person"]


async def with_password(client: httpx.AsyncClient, ctx: AppContext, role: str = "care_worker") -> Person:
    actor = await factories.make_actor(ctx, role)
    headers = factories.bearer(ctx, actor)
    answer = await client.put("/api/me/password", json={"new_password": PASSWORD}, headers=headers)
    assert answer.status_code == 204, answer.text
    return Person(actor, *await slugs(ctx, actor))


async def sign_in(client: httpx.AsyncClient, person: Person, password: str = PASSWORD, **more: Any) -> httpx.Response:
    return await client.post("/api/auth/sign-in", json=person.credentials(password, **more))


def bearer_of(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def slug_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition("/")[2]


async def acts(ctx: AppContext, actor: Actor) -> list[tuple[str, dict[str, Any]]]:
    officer = Actor(actor.tenant_id, actor.user_id, "data_protection_officer")
    found = await factories.rows(ctx, officer, "select action, details from audit_log order by id")
    return [(row["action"], row["details"]) for row in found]


# --- passwords --------------------------------------------------------------------------------------------------------


async def test_a_person_comes_in_with_their_password(client: httpx.AsyncClient, ctx: AppContext) -> None:
    person = await with_password(client, ctx)
    answer = await sign_in(client, person)
    assert answer.json()["expires_in"] == ctx.settings.access_token_seconds
    me = (await client.get("/api/me", headers=bearer_of(answer))).json()
    assert me["user_id"] == str(person.actor.user_id)
    listed = (await client.get("/api/me/sign-ins", headers=bearer_of(answer))).json()["items"]
    assert [(item["id"], item["kind"]) for item in listed] == [(me["sign_in_id"], "local")]


async def test_whoever_is_refused_is_told_the_same(client: httpx.AsyncClient, ctx: AppContext) -> None:
    person = await with_password(client, ctx)
    closed = await with_password(client, ctx)
    await factories.rows(
        ctx, closed.actor, "update users set active = false where id = %s returning id", closed.actor.user_id
    )
    refused = [
        await sign_in(client, person, "not the password at all"),
        await sign_in(client, closed),
        await sign_in(client, Person(person.actor, person.tenant, factories.new_slug("nobody"))),
        await sign_in(client, Person(person.actor, factories.new_slug("nowhere"), person.user)),
    ]
    shapes = {(answer.status_code, *sorted((k, v) for k, v in answer.json().items() if k != "request_id"))
              for answer in refused}  # fmt: skip
    assert len(shapes) == 1
    assert (refused[0].status_code, slug_of(refused[0])) == (401, "sign-in-refused")
    assert ("sign_in.refused", {"lacking": "password"}) in await acts(ctx, person.actor)


async def test_a_password_is_long_and_otherwise_as_one_likes(client: httpx.AsyncClient, ctx: AppContext) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx))
    short = await client.put("/api/me/password", json={"new_password": "Sh0rt!"}, headers=headers)
    assert (short.status_code, slug_of(short)) == (422, "request-invalid")
    assert "Sh0rt!" not in short.text
    spaces = await client.put("/api/me/password", json={"new_password": "only words and spaces"}, headers=headers)
    assert spaces.status_code == 204


async def test_the_same_letters_from_another_keyboard_are_the_same_password(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    person = await with_password(client, ctx)
    change = {"current_password": PASSWORD, "new_password": "a café in Cardiff"}
    headers = factories.bearer(ctx, person.actor)
    assert (await client.put("/api/me/password", json=change, headers=headers)).status_code == 204
    assert (await sign_in(client, person, "a café in Cardiff")).status_code == 200


async def test_a_new_password_wants_the_old_one_and_ends_the_other_sign_ins(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    person = await with_password(client, ctx)
    here, there = bearer_of(await sign_in(client, person)), bearer_of(await sign_in(client, person))
    new = {"new_password": "another horse entirely"}
    wrong = await client.put("/api/me/password", json=new, headers=here)
    assert (wrong.status_code, slug_of(wrong)) == (403, "password-wrong")
    right = await client.put("/api/me/password", json={"current_password": PASSWORD, **new}, headers=here)
    assert right.status_code == 204
    assert (await client.get("/api/me", headers=here)).status_code == 200
    assert (await client.get("/api/me", headers=there)).status_code == 401
    assert (await sign_in(client, person)).status_code == 401
    assert (await sign_in(client, person, "another horse entirely")).status_code == 200


async def test_a_hash_of_other_parameters_is_renewed_at_the_next_sign_in(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    person = await with_password(client, ctx)
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    await factories.rows(ctx, person.actor, "update passwords set hash = %s returning 1", weak)
    assert (await sign_in(client, person)).status_code == 200
    kept = (await factories.rows(ctx, person.actor, "select hash from passwords"))[0]["hash"]
    assert kept.startswith("$argon2id$")
    assert not ctx.passwords.is_outdated(kept)


async def test_nobody_resets_the_password_of_someone_trusted_with_more(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    manager = await factories.make_actor(ctx, "care_manager")
    lead = await factories.make_user(ctx, manager.tenant_id, "safeguarding_lead")
    headers = factories.bearer(ctx, manager)
    for path in ("password-reset", "sign-ins", "second-factor"):
        method = "POST" if path == "password-reset" else "DELETE"
        answer = await client.request(method, f"/api/users/{lead.user_id}/{path}", headers=headers)
        assert (answer.status_code, slug_of(answer)) == (403, "person-not-yours-to-manage"), path
    changed = await client.put(f"/api/users/{lead.user_id}", json={"role": "care_worker"}, headers=headers)
    assert (changed.status_code, slug_of(changed)) == (403, "person-not-yours-to-manage")
    stranger = await factories.make_actor(ctx, "care_worker")
    assert (await client.post(f"/api/users/{stranger.user_id}/password-reset", headers=headers)).status_code == 404


# --- second factor ----------------------------------------------------------------------------------------------------


async def with_second_factor(
    client: httpx.AsyncClient, ctx: AppContext, role: str = "care_worker"
) -> tuple[Person, pyotp.TOTP, list[str]]:
    """Returns a person, their authenticator and their recovery codes. The code of the current time step is used up."""
    person = await with_password(client, ctx, role)
    headers = factories.bearer(ctx, person.actor)
    enrolled = await client.post("/api/me/second-factor", json={}, headers=headers)
    assert enrolled.status_code == 201
    authenticator = authenticator_of(enrolled)
    confirmed = await client.post(
        "/api/me/second-factor/confirm", json={"code": at(authenticator, -1)}, headers=headers
    )
    assert confirmed.status_code == 200, confirmed.text
    return person, authenticator, confirmed.json()["recovery_codes"]


def authenticator_of(enrolled: httpx.Response) -> pyotp.TOTP:
    found = pyotp.parse_uri(enrolled.json()["otpauth_uri"])
    assert isinstance(found, pyotp.TOTP)
    return found


def at(authenticator: pyotp.TOTP, steps: int) -> str:
    """Returns the code of now, or of that many half minutes later or earlier."""
    return authenticator.at(int(time.time()), counter_offset=steps)


async def test_once_confirmed_a_code_is_asked_for_and_is_good_once(client: httpx.AsyncClient, ctx: AppContext) -> None:
    person, authenticator, _ = await with_second_factor(client, ctx)
    without = await sign_in(client, person)
    assert (without.status_code, slug_of(without)) == (401, "code-needed")
    code = at(authenticator, 0)
    assert (await sign_in(client, person, code=code)).status_code == 200
    again = await sign_in(client, person, code=code)
    assert (again.status_code, slug_of(again)) == (401, "sign-in-refused")
    assert ("sign_in.refused", {"lacking": "code"}) in await acts(ctx, person.actor)
    # the answer to a wrong password shows nothing about the second factor
    wrong = await sign_in(client, person, "not the password at all", code=at(authenticator, 1))
    assert slug_of(wrong) == "sign-in-refused"


async def test_one_code_brought_twice_at_once_lets_one_in(client: httpx.AsyncClient, ctx: AppContext) -> None:
    person, authenticator, _ = await with_second_factor(client, ctx)
    code = at(authenticator, 0)
    answers = await asyncio.gather(*(sign_in(client, person, code=code) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]


async def test_guessing_codes_with_the_right_password_is_slowed_too(client: httpx.AsyncClient, ctx: AppContext) -> None:
    person, _, _ = await with_second_factor(client, ctx)
    codes = []
    for guess in range(11):
        codes.append((await sign_in(client, person, code=f"wrong{guess}")).status_code)
        if guess == 4:
            await sign_in(client, person)  # the right password without a code refunds nothing
    assert codes == [401] * 10 + [429]


async def test_a_code_to_recover_with_is_good_once_and_kept_as_a_hash(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    person, _, recovery = await with_second_factor(client, ctx)
    assert (await sign_in(client, person, code=f" {recovery[0].upper()} ")).status_code == 200
    assert (await sign_in(client, person, code=recovery[0])).status_code == 401
    kept = await factories.rows(ctx, person.actor, "select code_hash from recovery_codes")
    assert len(kept) == len(recovery) - 1 == 9
    # 128 random bits in base 32: fewer bits would need a slow hash (OWASP ASVS 5.0.0, 6.5.2)
    assert {len(code.replace("-", "")) for code in recovery} == {26}
    assert len(set(recovery)) == 10
    assert all(code.encode() not in bytes(row["code_hash"]) for code in recovery for row in kept)


async def test_an_authenticator_is_replaced_with_a_code_of_the_one_before(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    person, _, recovery = await with_second_factor(client, ctx)
    headers = factories.bearer(ctx, person.actor)
    refused = await client.post("/api/me/second-factor", json={}, headers=headers)
    assert (refused.status_code, slug_of(refused)) == (422, "code-wrong")
    replaced = await client.post("/api/me/second-factor", json={"code": recovery[0]}, headers=headers)
    assert replaced.status_code == 201
    fresh = at(authenticator_of(replaced), -1)
    confirmed = await client.post("/api/me/second-factor/confirm", json={"code": fresh}, headers=headers)
    assert confirmed.status_code == 200
    assert (await sign_in(client, person, code=recovery[1])).status_code == 401  # a code of the old authenticator
    assert (await sign_in(client, person, code=at(authenticator_of(replaced), 0))).status_code == 200


async def test_a_lost_authenticator_is_taken_off_by_who_manages_the_account(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    person, _, _ = await with_second_factor(client, ctx)
    manager = await factories.make_user(ctx, person.actor.tenant_id, "care_manager")
    assert await factories.rows(ctx, manager, "select 1 from second_factors") == []  # not visible to them
    path = f"/api/users/{person.actor.user_id}/second-factor"
    assert (await client.delete(path, headers=factories.bearer(ctx, manager))).status_code == 204
    assert (await sign_in(client, person)).status_code == 200


async def test_an_authenticators_secret_lies_wrapped(client: httpx.AsyncClient, ctx: AppContext) -> None:
    person = await with_password(client, ctx)
    enrolled = await client.post("/api/me/second-factor", json={}, headers=factories.bearer(ctx, person.actor))
    secret = parse_qs(urlsplit(enrolled.json()["otpauth_uri"]).query)["secret"][0]
    kept = (await factories.rows(ctx, person.actor, "select wrapped_secret from second_factors"))[0]
    assert pyotp.TOTP(secret).byte_secret() not in bytes(kept["wrapped_secret"])


async def test_who_reads_alerts_does_nothing_before_they_have_a_second_factor(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    person = await with_password(client, ctx, "reviewer")
    answer = await sign_in(client, person)
    assert answer.json()["second_factor_due"] is True
    headers = bearer_of(answer)
    refused = await client.get("/api/alerts", headers=headers)
    assert (refused.status_code, slug_of(refused)) == (403, "scope-lacks-permission")
    authenticator = authenticator_of(await client.post("/api/me/second-factor", json={}, headers=headers))
    confirmed = await client.post(
        "/api/me/second-factor/confirm", json={"code": at(authenticator, -1)}, headers=headers
    )
    assert confirmed.status_code == 200
    fresh = await client.post("/api/auth/refresh", json={"refresh_token": answer.json()["refresh_token"]})
    assert fresh.json()["second_factor_due"] is False
    assert (await client.get("/api/alerts", headers=bearer_of(fresh))).status_code == 200
