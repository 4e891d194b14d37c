"""Tests of throttling: wrong attempts are delayed, no account is locked, and a known browser is never delayed by
others."""

import ipaddress

import httpx
import pytest

from comms.app.application import create_app
from comms.identity.authentication import throttling
from comms.identity.authentication.throttling import ThrottleKey, ThrottleKeys, TooManyAttempts
from comms.kernel.access.system_actor import system_actor
from comms.kernel.database import Actor
from comms.kernel.settings import Settings
from comms.web.context import AppContext
from comms.web.rate_limits.client_addresses import client_address, network_of
from tests import factories

pytestmark = pytest.mark.anyio

PASSWORD = "seven lanterns under water"
WRONG = "not the password at all"


async def attempts_left(ctx: AppContext, throttle_keys: ThrottleKeys, most: int = 300) -> int:
    """Returns how many wrong attempts are allowed before one has to wait."""
    for passed in range(most):
        try:
            async with ctx.database.acting_as(system_actor()) as conn:
                await throttling.count_attempt(conn, throttle_keys)
        except TooManyAttempts:
            return passed
    return most


async def with_password(client: httpx.AsyncClient, ctx: AppContext) -> tuple[Actor, dict[str, str]]:
    person = await factories.make_actor(ctx)
    headers = factories.bearer(ctx, person)
    set_it = await client.put("/api/me/password", json={"new_password": PASSWORD}, headers=headers)
    assert set_it.status_code == 204
    found = await factories.rows(
        ctx, person, "select t.slug as tenant, u.slug as user from tenants t join users u on u.tenant_id = t.id"
    )
    return person, found[0]


def slug_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).rpartition("/")[2]


# --- free attempts ----------------------------------------------------------------------------------------------------


async def test_ten_wrong_tries_at_an_account_from_an_address_are_free_then_one_in_two_minutes(ctx: AppContext) -> None:
    throttle_keys = throttling.throttle_keys_of("oak", factories.new_slug("ann"), factories.new_address(), None)
    assert await attempts_left(ctx, throttle_keys) == 10
    with pytest.raises(TooManyAttempts) as refusal:
        async with ctx.database.acting_as(system_actor()) as conn:
            await throttling.count_attempt(conn, throttle_keys)
    assert refusal.value.retry_after_seconds is not None
    assert 100 < refusal.value.retry_after_seconds <= 120
    await two_minutes_later(ctx, throttle_keys)
    assert await attempts_left(ctx, throttle_keys) == 1


async def two_minutes_later(ctx: AppContext, throttle_keys: ThrottleKeys) -> None:
    """Changes the counters as if two minutes had passed."""
    async with ctx.database.acting_as(system_actor()) as conn:
        for key in throttle_keys.enforced:
            await conn.execute(
                "update sign_in_tries set paid_until = paid_until - interval '2 minutes' where subject_hash = %s",
                (key.hash,),
            )


async def test_forty_people_behind_one_address_make_thirty_one_wrong_tries_and_go_on(ctx: AppContext) -> None:
    address = factories.new_address()
    for person in range(40):
        assert (
            await attempts_left(ctx, throttling.throttle_keys_of("oak", f"person-{person}", address, None), most=1) == 1
        )
    everybody = throttling.throttle_keys_of("oak", factories.new_slug("late"), address, None)
    assert await attempts_left(ctx, everybody, most=2) == 2


async def test_an_address_that_tries_many_accounts_waits_too(ctx: AppContext) -> None:
    address = factories.new_address()
    passed = 0
    while (
        await attempts_left(ctx, throttling.throttle_keys_of("oak", factories.new_slug("ann"), address, None), most=1)
        == 1
    ):
        passed += 1
    # one more for each interval of six seconds that the attempts took
    assert 100 <= passed < 150


async def test_tries_from_everywhere_never_keep_an_address_from_its_first_try(ctx: AppContext) -> None:
    account = factories.new_slug("ann")
    for _ in range(60):
        await attempts_left(ctx, throttling.throttle_keys_of("oak", account, factories.new_address(), None), most=1)
    # the account is under attack: every further address has one attempt, also the person's
    assert await attempts_left(ctx, throttling.throttle_keys_of("oak", account, factories.new_address(), None)) == 1
    assert await attempts_left(ctx, throttling.throttle_keys_of("oak", account, factories.new_address(), None)) == 1


async def test_a_known_browser_is_counted_for_itself_alone(ctx: AppContext) -> None:
    account, address = factories.new_slug("ann"), factories.new_address()
    assert await attempts_left(ctx, throttling.throttle_keys_of("oak", account, address, None)) == 10
    assert (
        await attempts_left(ctx, throttling.throttle_keys_of("oak", account, address, factories.new_slug("nonce")))
        == 10
    )


async def test_a_try_that_was_no_guess_is_taken_back(ctx: AppContext) -> None:
    throttle_keys = throttling.throttle_keys_of("oak", factories.new_slug("ann"), factories.new_address(), None)
    await attempts_left(ctx, throttle_keys, most=9)
    async with ctx.database.acting_as(system_actor()) as conn:
        for _ in range(9):
            await throttling.refund_attempt(conn, throttle_keys)
    assert await attempts_left(ctx, throttle_keys) == 10


async def test_what_is_paid_off_is_forgotten_and_what_waits_is_not(ctx: AppContext) -> None:
    paid, waits = (
        throttling.throttle_keys_of("oak", factories.new_slug("ann"), factories.new_address(), None) for _ in range(2)
    )
    for throttle_keys in (paid, waits):
        assert await attempts_left(ctx, throttle_keys, most=1) == 1
    await two_minutes_later(ctx, paid)
    await throttling.delete_expired_counts(ctx.database)
    async with ctx.database.acting_as(system_actor()) as conn:
        left = await conn.execute(
            "select subject_hash from sign_in_tries where subject_hash = any(%s)",
            ([throttle_keys.enforced[0].hash for throttle_keys in (paid, waits)],),
        )
        assert [bytes(row["subject_hash"]) for row in await left.fetchall()] == [waits.enforced[0].hash]


# --- over HTTP --------------------------------------------------------------------------------------------------------


async def exhaust_attempts(ctx: AppContext, names: dict[str, str], address: str) -> None:
    """Uses up the free wrong attempts from that address."""
    await attempts_left(ctx, throttling.throttle_keys_of(names["tenant"], names["user"], address, None))


def at_address(client: httpx.AsyncClient) -> str:
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    return transport.client[0]


async def test_a_stranger_who_guesses_at_the_same_address_does_not_keep_a_known_browser_out(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    _, names = await with_password(client, ctx)
    first = await client.post("/sign-in", data={**names, "password": PASSWORD, "code": ""})
    assert first.status_code == 303
    await exhaust_attempts(ctx, names, at_address(client))
    known = dict(client.cookies)
    client.cookies.clear()
    slowed = await client.post("/api/auth/sign-in", json={**names, "password": PASSWORD})
    assert (slowed.status_code, slug_of(slowed)) == (429, "too-many-requests")
    assert 1 <= int(slowed.headers["retry-after"]) <= 120
    client.cookies.update(known)
    back = await client.post("/api/auth/sign-in", json={**names, "password": PASSWORD})
    assert back.status_code == 200
    # a forged cookie, or another person's, does not count
    name = next(name for name in known if name.startswith("wcc_browser_"))
    client.cookies.clear()
    client.cookies.set(name, known[name][:-4] + "AAAA")
    assert (await client.post("/api/auth/sign-in", json={**names, "password": PASSWORD})).status_code == 429


async def test_the_log_of_acts_hears_of_refusals_once_in_a_quarter_of_an_hour(
    client: httpx.AsyncClient, ctx: AppContext
) -> None:
    person, names = await with_password(client, ctx)
    await exhaust_attempts(ctx, names, at_address(client))
    for _ in range(5):
        answer = await client.post("/api/auth/sign-in", json={**names, "password": WRONG})
        assert answer.status_code == 429
    officer = Actor(person.tenant_id, person.user_id, "data_protection_officer")
    acts = await factories.rows(ctx, officer, "select details from audit_log where action = 'sign_in.slowed'")
    assert acts == [{"details": {"by": "account_from_address"}}]


async def test_a_name_of_what_is_counted_is_not_kept(ctx: AppContext) -> None:
    key = ThrottleKey("account", factories.new_slug("ann"), burst=1, interval_seconds=1)
    assert key.name not in repr(key)
    assert key.name.encode() not in key.hash


# --- where a request comes from ---------------------------------------------------------------------------------------


PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "hops", "address"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # not a trusted proxy: its header is ignored
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["127.0.0.1", "198.51.100.1"], "198.51.100.1"),  # the caller invented the first address
        ("10.0.0.1", ["127.0.0.1", "198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        ("fd00::1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1", "unknown"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3", "10.0.0.2"], "10.0.0.3"),
        ("a-socket", ["198.51.100.1"], "a-socket"),
    ],
)
def test_only_what_a_proxy_of_ours_wrote_is_believed(peer: str, hops: list[str], address: str) -> None:
    assert client_address(peer, hops, PROXIES) == address


def test_a_customers_ipv6_addresses_are_one_caller() -> None:
    assert network_of("2001:db8:0:7::1") == network_of("2001:db8:0:7:ffff::2") == "2001:db8:0:7::/64"
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of(None) == network_of("a-socket") == "unknown"


@pytest.mark.parametrize(
    ("header", "sent"),
    [
        ("x-forwarded-for", {"X-Forwarded-For": "127.0.0.1, 198.51.100.7"}),
        ("forwarded", {"Forwarded": 'for=127.0.0.1, For="198.51.100.7:80";proto=https'}),
        # the header that the proxy does not write comes from the caller
        ("x-forwarded-for", {"X-Forwarded-For": "198.51.100.7", "Forwarded": "for=127.0.0.1"}),
    ],
)
async def test_the_log_of_acts_has_the_callers_address_behind_a_proxy(
    settings: Settings, ctx: AppContext, header: str, sent: dict[str, str]
) -> None:
    behind = create_app(settings.model_copy(update={"trusted_proxies": PROXIES, "proxy_header": header}))
    transport = httpx.ASGITransport(app=behind, client=("10.1.2.3", 4711))
    manager = await factories.make_actor(ctx, "care_manager")
    async with (
        behind.router.lifespan_context(behind),
        httpx.AsyncClient(transport=transport, base_url="http://writecare.test") as client,
    ):
        headers = factories.bearer(ctx, manager) | sent
        made = await client.post("/api/users", json={"display_name": "Bo", "role": "care_worker"}, headers=headers)
        assert made.status_code == 201
    officer = Actor(manager.tenant_id, manager.user_id, "data_protection_officer")
    acts = await factories.rows(
        ctx, officer, "select host(address) as address from audit_log where action = 'user.created' "
        "and object_id = %s", made.json()["id"],
    )  # fmt: skip
    assert acts == [{"address": "198.51.100.7"}]
