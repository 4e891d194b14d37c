"""Webhooks: every subscribed event arrives, signed and in order, and no webhook reaches a forbidden network."""

import asyncio
import ipaddress
import signal
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
from starlette.responses import RedirectResponse, Response

from comms.delivery.webhooks.destinations import SystemResolver, destination, is_public
from comms.kernel.database import Actor
from comms.web.context import AppContext
from instance.provisioning import Databases
from models.contract.errors import WriteCareError
from tests import factories
from tests.comms import outbox_helpers
from tests.comms.webhook_receiver import FAST_RETRIES, Message, reaching_loopback, receiving, sending, start_sender

pytestmark = pytest.mark.anyio

STUBBORN = replace(FAST_RETRIES, attempts=1000, dead_in_a_row=1000)


@pytest.fixture(scope="module")
async def api(ctx: AppContext, databases: Databases) -> AsyncIterator[httpx.AsyncClient]:
    """The application with settings that let webhooks reach loopback, and a running relay."""
    async with reaching_loopback(ctx, databases) as opened:
        yield opened


async def made(
    api: httpx.AsyncClient, ctx: AppContext, url: str, actor: Actor | None = None
) -> tuple[Actor, dict[str, Any]]:
    """Creates a webhook for recording events; returns its owner and the webhook."""
    actor = actor or await factories.make_actor(ctx, "service")
    body = {"url": url, "event_types": ["recording.processed"]}
    answer = await api.post("/api/webhooks", json=body, headers=factories.bearer(ctx, actor))
    assert answer.status_code == 201, answer.text
    return actor, answer.json()


async def tell(ctx: AppContext, actor: Actor, versions: Sequence[int], recording: uuid.UUID | None = None) -> uuid.UUID:
    recording = recording or uuid.uuid4()
    data = {"recording_id": str(recording)}
    for version in versions:
        await outbox_helpers.write(ctx, actor, ("recording.processed", recording, version, data))
    return recording


async def deliveries(databases: Databases, webhook: dict[str, Any], state: str | None = None) -> list[dict[str, Any]]:
    """The deliveries of the webhook that the administrator sees, in the order of their events."""
    return await outbox_helpers.query_as_admin(
        databases,
        "select * from webhook_deliveries where webhook_id = %s and (%s::text is null or state = %s) order by position",
        webhook["id"], state, state,
    )  # fmt: skip


async def reach(databases: Databases, webhook: dict[str, Any], state: str, how_many: int) -> list[dict[str, Any]]:
    """Waits until this many deliveries have the state, and returns them."""

    async def there() -> bool:
        return len(await deliveries(databases, webhook, state)) >= how_many

    await outbox_helpers.until(there)
    return await deliveries(databases, webhook, state)


# --- what arrives ----------------------------------------------------------------------------------------------------


async def test_an_event_arrives_signed_as_the_standard_says_with_ids_alone(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    async with receiving() as receiver, sending(ctx, databases):
        actor, webhook = await made(api, ctx, receiver.url)
        recording = await tell(ctx, actor, [1])
        await outbox_helpers.write(ctx, actor, ("transcript.ready", recording, 2, {}))  # not asked for
        found = await reach(databases, webhook, "delivered", 1)
    (message,) = receiver.messages
    assert message.signed_with(webhook["secret"])
    assert not message.signed_with("whsec_" + "A" * 43 + "=")
    assert message.headers["webhook-id"] == message.event["id"] == str(found[0]["event_id"])
    assert message.event["type"] == "communication.writecarenotes.com.recording.processed"
    assert message.event["data"] == {"recording_id": str(recording)}
    assert (found[0]["attempts"], found[0]["last_status"]) == (1, 204)


async def test_events_of_an_aggregate_arrive_in_order_though_the_receiver_fails_now_and_then(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    answered = 0

    async def every_third_fails(_: Message) -> Response:
        nonlocal answered
        answered += 1
        return Response(status_code=500 if answered % 3 == 0 else 200)

    # No limit of attempts: of two interleaved aggregates, one may get every third response again and again.
    async with receiving(every_third_fails) as receiver, sending(ctx, databases, retry_policy=STUBBORN):
        actor, webhook = await made(api, ctx, receiver.url)
        first = await tell(ctx, actor, range(1, 8))
        second = await tell(ctx, actor, range(1, 8))
        await reach(databases, webhook, "delivered", 14)
    for recording in (first, second):
        mine = [m.event["version"] for m in receiver.messages if m.event["subject"] == f"recording/{recording}"]
        assert mine == sorted(mine)
        assert set(mine) == set(range(1, 8))


async def test_a_try_that_failed_is_repeated_under_the_same_id_until_it_arrives(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    async def third_time_lucky(_: Message) -> Response:
        if len(receiver.messages) == 1:
            await asyncio.sleep(30)  # longer than the sender waits
        return Response(status_code=500 if len(receiver.messages) == 2 else 200)

    async with receiving(third_time_lucky) as receiver, sending(
        # No limit of attempts: on a busy machine, a good response, too, may arrive after the short time-out.
        ctx, databases, retry_policy=STUBBORN, timeout_seconds=0.3,
    ):  # fmt: skip
        actor, webhook = await made(api, ctx, receiver.url)
        await tell(ctx, actor, [1])
        found = await reach(databases, webhook, "delivered", 1)
    assert found[0]["attempts"] >= 3
    assert len({message.headers["webhook-id"] for message in receiver.messages}) == 1


async def test_a_receiver_that_never_answers_holds_up_no_other(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    async def sleep(_: Message) -> Response:
        await asyncio.sleep(600)
        return Response()

    async with receiving(sleep) as slow, receiving() as quick, sending(ctx, databases, timeout_seconds=300):
        theirs, stuck = await made(api, ctx, slow.url)
        ours, webhook = await made(api, ctx, quick.url)
        for _ in range(10):
            await tell(ctx, theirs, [1])
        await tell(ctx, ours, range(1, 4))
        await reach(databases, webhook, "delivered", 3)
        assert len(await deliveries(databases, stuck, "waiting")) == 10


# --- what does not arrive --------------------------------------------------------------------------------------------


async def test_a_delivery_that_keeps_failing_is_given_up_and_the_webhook_after_it_which_the_log_tells(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    async def fail(_: Message) -> Response:
        return Response(status_code=503)

    async with receiving(fail) as receiver, sending(ctx, databases):
        actor, webhook = await made(api, ctx, receiver.url)
        for _ in range(3):
            await tell(ctx, actor, [1])
        dead = await reach(databases, webhook, "dead", 2)
        headers = factories.bearer(ctx, actor)
        shown = (await api.get(f"/api/webhooks/{webhook['id']}", headers=headers)).json()
        assert shown["state"] == "disabled"
        assert {(delivery["attempts"], delivery["last_status"]) for delivery in dead[:2]} == {(4, 503)}
        acts = await outbox_helpers.query_as_admin(
            databases, "select details from audit_log where action = 'webhook.disabled' and object_id = %s",
            webhook["id"],
        )  # fmt: skip
        assert [act["details"] for act in acts] == [{"status": 503, "failure": None}]


async def test_what_was_missed_while_disabled_is_replayed_as_a_range(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    async def fail(_: Message) -> Response:
        return Response(status_code=410 if len(receiver.messages) == 1 else 200)

    async with receiving(fail) as receiver, sending(ctx, databases):
        actor, webhook = await made(api, ctx, receiver.url)
        headers, path = factories.bearer(ctx, actor), f"/api/webhooks/{webhook['id']}"
        await tell(ctx, actor, [1])
        await reach(databases, webhook, "dead", 1)  # 410: the receiver asks for no more events
        await tell(ctx, actor, [2, 3])

        async def sent() -> bool:
            return await outbox_helpers.unsent(databases) == 0

        await outbox_helpers.until(sent)
        assert len(await deliveries(databases, webhook)) == 1
        await api.put(path, json={"state": "active"}, headers=headers)
        answer = await api.post(f"{path}/replay", json={"after": 0, "until": 2**62}, headers=headers)
        assert answer.json() == {"deliveries": 3}
        await reach(databases, webhook, "delivered", 3)
    assert sorted(receiver.versions) == [1, 1, 2, 3]


async def test_one_delivery_is_replayed_under_its_old_id(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    async with receiving() as receiver, sending(ctx, databases):
        actor, webhook = await made(api, ctx, receiver.url)
        headers, path = factories.bearer(ctx, actor), f"/api/webhooks/{webhook['id']}/deliveries"
        await tell(ctx, actor, [1])
        await reach(databases, webhook, "delivered", 1)
        (shown,) = (await api.get(path, headers=headers)).json()["items"]
        again = await api.post(f"{path}/{shown['id']}/replay", headers=headers)
        assert (again.status_code, again.json()["state"], again.json()["attempts"]) == (200, "waiting", 0)

        async def twice() -> bool:
            return len(receiver.messages) == 2

        await outbox_helpers.until(twice)
    assert len({message.headers["webhook-id"] for message in receiver.messages}) == 1


async def test_a_sender_killed_in_the_middle_of_a_try_loses_nothing(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    async def hang_at_first(_: Message) -> Response:
        if len(receiver.messages) == 1:
            await asyncio.sleep(600)
        return Response()

    async with receiving(hang_at_first) as receiver:
        actor, webhook = await made(api, ctx, receiver.url)
        victim = start_sender(ctx, databases)
        try:
            await tell(ctx, actor, [1, 2])

            async def under_way() -> bool:
                assert victim.poll() is None
                return len(receiver.messages) == 1

            await outbox_helpers.until(under_way)
        finally:
            victim.send_signal(signal.SIGKILL)
            victim.wait()
        successor = start_sender(ctx, databases)
        try:
            await reach(databases, webhook, "delivered", 2)
        finally:
            successor.terminate()
            assert successor.wait() == 0
    assert receiver.versions == [1, 1, 2]
    assert receiver.messages[0].headers["webhook-id"] == receiver.messages[1].headers["webhook-id"]


# --- forbidden destinations ------------------------------------------------------------------------------------------


class Names:
    """A resolver with names that the test defines."""

    def __init__(self, **names: list[str]) -> None:
        self._names = names

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        return self._names[host.partition(".")[0]]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "10.1.2.3", "172.16.0.9", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "[::1]", "[::]", "[fe80::1]",
        "[fd00:ec2::254]", "[::ffff:127.0.0.1]", "[::ffff:169.254.169.254]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
        "[ff02::1]", "[::127.0.0.1]", "[fec0::1]",
    ],
)  # fmt: skip
async def test_an_address_inside_is_refused_however_it_is_spelt(host: str) -> None:
    with pytest.raises(WriteCareError) as refused:
        await destination(f"https://{host}/hook", SystemResolver(), ())
    assert refused.value.slug == "webhook-address-refused"


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "203.0.114.1", "2606:4700::1111", "2a00:1450:4009::1"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


# IANA's registries of special-purpose addresses (IPv4 and IPv6, of October 2025) and of address space outside them.
SPECIAL_PURPOSE = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
    "::1/128", "::/128", "::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64",
    "2001::/23", "2001::/32", "2001:1::1/128", "2001:2::/48", "2001:3::/32", "2001:4:112::/48", "2001:10::/28",
    "2001:20::/28", "2001:30::/28", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20", "5f00::/16",
    "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
)  # fmt: skip
# A public IPv4 address in an IPv6 address: the local network of the sender decides where it leads.
EMBEDDING_PUBLIC = ("::ffff:8.8.8.8", "::8.8.8.8", "64:ff9b::808:808", "64:ff9b:1::808:808", "2002:808:808::1",
                    "2001:0:808:808::f7f7:f7f7", "::ffff:0:808:808")  # fmt: skip


@pytest.mark.parametrize("network", SPECIAL_PURPOSE)
def test_no_address_of_a_special_purpose_range_is_public(network: str) -> None:
    whole = ipaddress.ip_network(network)
    first, last = int(whole.network_address), int(whole.broadcast_address)
    for number in {first, min(first + 1, last), (first + last) // 2, last}:
        assert not is_public(type(whole.network_address)(number)), number


@pytest.mark.parametrize("address", EMBEDDING_PUBLIC)
def test_an_address_that_holds_another_is_not_public_whatever_it_holds(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


async def test_a_name_is_refused_where_any_of_its_addresses_lies_inside() -> None:
    names = Names(good=["8.8.8.8"], inside=["10.0.0.5"], both=["8.8.8.8", "169.254.169.254"])
    to = await destination("https://good.example:8443/hook?a=b", names, ())
    assert (to.url, to.host, to.server_name) == ("https://8.8.8.8:8443/hook?a=b", "good.example:8443", "good.example")
    for name in ("inside", "both"):
        with pytest.raises(WriteCareError) as refused:
            await destination(f"https://{name}.example/hook", names, ())
        assert refused.value.slug == "webhook-address-refused"


async def test_nothing_is_sent_to_a_name_that_leads_inside_and_the_delivery_says_why(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    names = Names(rebound=["127.0.0.1"])
    async with receiving() as receiver, sending(ctx, databases, resolver=names, networks=()):
        port = receiver.url.split(":")[2].split("/")[0]
        actor, webhook = await made(api, ctx, f"https://rebound.example:{port}/hook")
        await tell(ctx, actor, [1])
        dead = await reach(databases, webhook, "dead", 1)
    assert (dead[0]["last_failure"], dead[0]["last_status"]) == ("webhook-address-refused", None)
    assert receiver.messages == []


async def test_the_connection_goes_to_the_address_that_was_checked(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    async with receiving() as receiver, sending(ctx, databases, resolver=Names(care=["127.0.0.1"])):
        port = receiver.url.split(":")[2].split("/")[0]
        actor, webhook = await made(api, ctx, f"http://care.example:{port}/hook")
        await tell(ctx, actor, [1])
        await reach(databases, webhook, "delivered", 1)
    assert receiver.messages[0].headers["host"] == f"care.example:{port}"


async def test_a_redirect_is_not_followed(api: httpx.AsyncClient, ctx: AppContext, databases: Databases) -> None:
    async with receiving() as elsewhere:

        async def lead_on(_: Message) -> Response:
            return RedirectResponse(elsewhere.url, status_code=307)

        async with receiving(lead_on) as receiver, sending(ctx, databases):
            actor, webhook = await made(api, ctx, receiver.url)
            await tell(ctx, actor, [1])
            dead = await reach(databases, webhook, "dead", 1)
        assert dead[0]["last_status"] == 307
        assert elsewhere.messages == []


@pytest.mark.parametrize(
    "url",
    ["http://care.example/", "ftp://care.example/", "https://", "https://u:p@care.example/", "https://care.example/#x",
     "https://care.example:99999/", "https://care.example/\r\nX: y", "https://cäre.example/", "javascript:alert(1)"],
)  # fmt: skip
async def test_an_address_that_can_be_none_is_refused_when_it_is_given(
    client: httpx.AsyncClient, ctx: AppContext, url: str
) -> None:
    actor = await factories.make_actor(ctx, "platform_admin")
    body = {"url": url, "event_types": ["recording.processed"]}
    answer = await client.post("/api/webhooks", json=body, headers=factories.bearer(ctx, actor))
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, "webhook-url-invalid")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "[fec0::1]"]
)
async def test_an_address_inside_that_is_spelt_out_is_refused_when_it_is_given(
    client: httpx.AsyncClient, ctx: AppContext, host: str
) -> None:
    actor = await factories.make_actor(ctx, "platform_admin")
    body = {"url": f"https://{host}/hook", "event_types": ["recording.processed"]}
    answer = await client.post("/api/webhooks", json=body, headers=factories.bearer(ctx, actor))
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (422, "webhook-address-refused")


# --- who may -------------------------------------------------------------------------------------------------------


async def test_a_rotated_secret_signs_beside_the_one_before_it(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    async with receiving() as receiver, sending(ctx, databases):
        actor, webhook = await made(api, ctx, receiver.url)
        path = f"/api/webhooks/{webhook['id']}/secret"
        second = (await api.post(path, headers=factories.bearer(ctx, actor))).json()["secret"]
        await tell(ctx, actor, [1])
        await reach(databases, webhook, "delivered", 1)
        third = (await api.post(path, headers=factories.bearer(ctx, actor))).json()["secret"]
        await tell(ctx, actor, [1])
        await reach(databases, webhook, "delivered", 2)
    before, after = receiver.messages
    assert [before.signed_with(secret) for secret in (webhook["secret"], second, third)] == [True, True, False]
    assert [after.signed_with(secret) for secret in (webhook["secret"], second, third)] == [False, True, True]


async def test_the_secret_is_shown_once_and_kept_wrapped(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    actor, webhook = await made(api, ctx, "https://care.example/hook")
    headers = factories.bearer(ctx, actor)
    for path in ("", f"/{webhook['id']}"):
        assert webhook["secret"] not in (await api.get(f"/api/webhooks{path}", headers=headers)).text
    (kept,) = await outbox_helpers.query_as_admin(
        databases, "select wrapped from webhook_secrets where webhook_id = %s", webhook["id"]
    )
    assert len(bytes(kept["wrapped"])) == 12 + 32 + 16  # nonce, encrypted key, tag


@pytest.mark.parametrize("role", ["care_manager", "safeguarding_lead", "resident", "data_scientist"])
async def test_other_roles_neither_see_nor_make_webhooks(client: httpx.AsyncClient, ctx: AppContext, role: str) -> None:
    headers = factories.bearer(ctx, await factories.make_actor(ctx, role))
    body = {"url": "https://care.example/", "event_types": ["recording.processed"]}
    assert (await client.get("/api/webhooks", headers=headers)).status_code == 403
    assert (await client.post("/api/webhooks", json=body, headers=headers)).status_code == 403


async def test_the_officer_sees_where_events_go_and_cannot_change_it(api: httpx.AsyncClient, ctx: AppContext) -> None:
    actor, webhook = await made(api, ctx, "https://care.example/hook")
    officer = await factories.make_user(ctx, actor.tenant_id, "data_protection_officer")
    headers, path = factories.bearer(ctx, officer), f"/api/webhooks/{webhook['id']}"
    assert (await api.get(path, headers=headers)).json()["url"] == "https://care.example/hook"
    assert (await api.put(path, json={"state": "paused"}, headers=headers)).status_code == 403


async def test_as_a_member_of_another_tenant_sees_no_webhook_and_no_delivery(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    async with receiving() as receiver, sending(ctx, databases):
        actor, webhook = await made(api, ctx, receiver.url)
        stranger, _ = await made(api, ctx, receiver.url)
        await tell(ctx, actor, [1])
        await reach(databases, webhook, "delivered", 1)
        headers, path = factories.bearer(ctx, stranger), f"/api/webhooks/{webhook['id']}"
        for address in (path, f"{path}/deliveries"):
            assert (await api.get(address, headers=headers)).status_code == 404
        assert (await api.delete(path, headers=headers)).status_code == 404
        assert len(await factories.rows(ctx, stranger, "select 1 from webhooks")) == 1
        assert await factories.rows(ctx, stranger, "select 1 from webhook_deliveries") == []


async def test_a_deleted_webhook_is_sent_nothing_more(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    async with receiving() as receiver, sending(ctx, databases):
        actor, webhook = await made(api, ctx, receiver.url)
        _, beside = await made(api, ctx, receiver.url, actor)
        headers, path = factories.bearer(ctx, actor), f"/api/webhooks/{webhook['id']}"
        assert (await api.delete(path, headers=headers)).status_code == 204
        assert (await api.get(path, headers=headers)).status_code == 404
        await tell(ctx, actor, [1])
        await reach(databases, beside, "delivered", 1)
    assert await deliveries(databases, webhook) == []
    assert len(receiver.messages) == 1
