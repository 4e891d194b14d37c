"""A webhook receives only what its owner may read: by scope, by person, by conversation, checked at every attempt."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import httpx
import pytest
from starlette.responses import Response

from comms.identity.account_changes.approval import approve
from comms.identity.account_changes.queries import list_changes
from comms.identity.service_accounts.queries import NewServiceAccount, create_service_account
from comms.kernel.access.roles import PRIVILEGED_SCOPES, RolePermission, role_has
from comms.kernel.access.system_actor import system_actor
from comms.kernel.database import Actor
from comms.outbox.queries import EventType
from comms.web.context import AppContext
from comms.web.pagination import MAX_UUID
from instance.provisioning import Databases
from tests import factories
from tests.comms import outbox_helpers, recording_fixtures
from tests.comms.messaging_fixtures import MessagingClient, status_and_slug
from tests.comms.webhook_receiver import Message, Receiver, reaching_loopback, receiving, sending

pytestmark = pytest.mark.anyio

ALERTS = ("safeguarding.alert", "safeguarding.alert.high_priority", "alert.reviewed", "glass.broken")


@pytest.fixture(scope="module")
async def api(ctx: AppContext, databases: Databases) -> AsyncIterator[httpx.AsyncClient]:
    """The application with settings that let webhooks reach loopback, and a running relay."""
    async with reaching_loopback(ctx, databases) as opened:
        yield opened


class Program:
    """A service account of a tenant: its actor, and the headers with its key."""

    def __init__(self, id: uuid.UUID, key: str) -> None:
        self.id = id
        self.headers = {"Authorization": f"Bearer {key}"}


async def program(ctx: AppContext, tenant_id: uuid.UUID, *scopes: RolePermission) -> Program:
    admin = await factories.make_user(ctx, tenant_id, "platform_admin")
    expires = datetime.now(UTC) + timedelta(days=1)
    async with ctx.database.acting_as(admin) as conn:
        new = NewServiceAccount(name="Program", scopes=frozenset(scopes), expires_at=expires)
        made = await create_service_account(conn, admin, new)
    if scopes and PRIVILEGED_SCOPES & set(scopes):
        second = await factories.make_user(ctx, tenant_id, "data_protection_officer")
        async with ctx.database.acting_as(second) as conn:
            waiting = await list_changes(conn, state="waiting", before=MAX_UUID, limit=200)
        [change] = [one for one in waiting if one.user_id == made.id]
        async with ctx.database.acting_as(system_actor(tenant_id, second.user_id)) as conn:
            await approve(conn, second, change.id, by_email=False)
    return Program(made.id, made.key)


async def webhook_of(databases: Databases, tenant_id: uuid.UUID, owner: uuid.UUID, url: str, *types: str) -> uuid.UUID:
    """Inserts a webhook as an earlier version allowed for all who manage webhooks; it has no signing key."""
    made = await outbox_helpers.query_as_admin(
        databases,
        "insert into webhooks (tenant_id, url, event_types, created_by) values (%s, %s, %s, %s) returning id",
        tenant_id, url, list(types), owner,
    )  # fmt: skip
    id: uuid.UUID = made[0]["id"]
    return id


async def make(api: httpx.AsyncClient, owner: Program, receiver: Receiver, *types: str) -> httpx.Response:
    return await api.post(
        "/api/webhooks", json={"url": receiver.url, "event_types": list(types)}, headers=owner.headers
    )


async def deliveries(databases: Databases, webhook_id: object) -> list[dict[str, Any]]:
    return await outbox_helpers.query_as_admin(
        databases, "select * from webhook_deliveries where webhook_id = %s", webhook_id
    )


async def everything_sent(databases: Databases) -> None:
    async def none_waits() -> bool:
        return await outbox_helpers.unsent(databases) == 0

    await outbox_helpers.until(none_waits)


async def test_who_manages_webhooks_alone_is_sent_nothing_of_alerts_and_replays_nothing(
    api: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> None:
    tenant_id = await factories.make_tenant(ctx)
    narrow = await program(ctx, tenant_id, "webhooks.manage", "webhooks.read")
    reader = await program(ctx, tenant_id, "webhooks.manage", "webhooks.read", "alerts.read")
    async with receiving() as theirs, receiving() as ours, sending(ctx, databases):
        refused = await make(api, narrow, theirs, *ALERTS)
        assert status_and_slug(refused) == (403, "event-not-yours-to-read")
        of_before = await webhook_of(databases, tenant_id, narrow.id, theirs.url, *ALERTS)
        assert (await make(api, reader, ours, *ALERTS)).status_code == 201
        _, alert = await recording_fixtures.make_alert(ctx, worker_ctx, tenant_id)

        async def arrived() -> bool:
            return len(ours.messages) == 2  # high severity: two events

        await outbox_helpers.until(arrived)
        assert {message.event["data"]["alert_id"] for message in ours.messages} == {str(alert.id)}
        assert await deliveries(databases, of_before) == []
        path, whole = f"/api/webhooks/{of_before}/replay", {"after": 0, "until": 2**62}
        assert status_and_slug(await api.post(path, json=whole, headers=narrow.headers)) == (
            403,
            "event-not-yours-to-read",
        )
        again = await api.post(path, json=whole, headers=reader.headers)
        assert (again.status_code, again.json()) == (200, {"deliveries": 0})
    assert theirs.messages == []


async def test_a_narrow_key_neither_repoints_nor_replays_nor_signs_anothers_webhook(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    tenant_id = await factories.make_tenant(ctx)
    narrow = await program(ctx, tenant_id, "webhooks.manage", "recordings.read")
    reader = await program(ctx, tenant_id, "webhooks.manage", "alerts.read", "recordings.read")
    async with receiving() as receiver:
        made = (await make(api, reader, receiver, "alert.reviewed", "recording.processed")).json()
        path = f"/api/webhooks/{made['id']}"
        for method, address, body in (
            ("PUT", path, {"url": receiver.url}),
            ("PUT", path, {"event_types": ["recording.processed", "alert.reviewed"]}),
            ("POST", f"{path}/secret", None),
            ("POST", f"{path}/replay", {"after": 0, "until": 1}),
            ("POST", f"{path}/deliveries/{uuid.uuid4()}/replay", None),
        ):
            answer = await api.request(method, address, json=body, headers=narrow.headers)
            assert status_and_slug(answer) == (403, "event-not-yours-to-read"), (method, address)
        # it may change the webhook to events that it may read itself, and pause it
        paused = await api.put(path, json={"state": "paused"}, headers=narrow.headers)
        assert (paused.status_code, paused.json()["state"]) == (200, "paused")
        fewer = await api.put(path, json={"event_types": ["recording.processed"]}, headers=narrow.headers)
        assert fewer.status_code == 200


@pytest.mark.parametrize("loss", ["scope", "account", "key"])
async def test_what_an_owner_loses_takes_effect_before_the_next_try(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases, loss: str
) -> None:
    tenant_id = await factories.make_tenant(ctx)
    owner = await program(ctx, tenant_id, "webhooks.manage", "recordings.read")
    take_away = {
        "scope": "update service_accounts set scopes = '{webhooks.manage}' where id = %s returning 1 as done",
        "account": "update users set active = false where id = %s returning 1 as done",
        "key": "update service_accounts set expires_at = now() where id = %s returning 1 as done",
    }[loss]

    async def fail(_: Message) -> Response:
        await outbox_helpers.query_as_admin(databases, take_away, owner.id)
        return Response(status_code=503)

    async with receiving(fail) as receiver, sending(ctx, databases):
        made = (await make(api, owner, receiver, "recording.processed")).json()
        writer = await factories.make_user(ctx, tenant_id)
        recording = uuid.uuid4()
        data = {"recording_id": str(recording)}
        await outbox_helpers.write(ctx, writer, ("recording.processed", recording, 1, data))

        async def over() -> bool:
            return [d["state"] for d in await deliveries(databases, made["id"])] == ["dead"]

        await outbox_helpers.until(over)
        await outbox_helpers.write(ctx, writer, ("recording.processed", recording, 2, data))
        await everything_sent(databases)
    (delivery,) = await deliveries(databases, made["id"])
    assert (delivery["last_failure"], delivery["last_status"]) == ("owner-may-not-read", None)
    assert len(receiver.messages) == 1
    kept = await outbox_helpers.query_as_admin(
        databases, "select state, dead_in_a_row from webhooks where id = %s", made["id"]
    )
    assert kept == [{"state": "active", "dead_in_a_row": 0}]  # withholding is no failure of the receiver


async def test_an_owner_is_sent_nothing_of_an_alert_about_themselves(
    api: httpx.AsyncClient, ctx: AppContext, worker_ctx: AppContext, databases: Databases
) -> None:
    made, alert = await recording_fixtures.make_alert(ctx, worker_ctx)
    owner = await program(ctx, made.tenant_id, "webhooks.manage", "alerts.read")
    other = await program(ctx, made.tenant_id, "webhooks.manage", "alerts.read")
    lead = factories.bearer(ctx, made.lead)
    named = await api.post(f"/api/alerts/{alert.id}/subjects", json={"user_id": str(owner.id)}, headers=lead)
    assert named.status_code == 201
    async with receiving() as theirs, receiving() as ours, sending(ctx, databases):
        assert (await make(api, owner, theirs, "alert.reviewed")).status_code == 201
        assert (await make(api, other, ours, "alert.reviewed")).status_code == 201
        said = {"decision": "confirm", "reason": "It is so."}
        saw = lead | await recording_fixtures.seen(ctx, made.lead, alert.id)
        assert (await api.post(f"/api/alerts/{alert.id}/review", json=said, headers=saw)).status_code == 201

        async def arrived() -> bool:
            return len(ours.messages) == 1

        await outbox_helpers.until(arrived)
    assert theirs.messages == []


async def test_of_conversations_a_webhook_is_sent_what_its_owner_is_a_member_of(
    api: httpx.AsyncClient, ctx: AppContext, databases: Databases
) -> None:
    talk = MessagingClient(api, ctx)
    manager = await factories.make_actor(ctx, "care_manager")
    owner = await program(ctx, manager.tenant_id, "webhooks.manage", "messages.read", "conversations.read")
    member = Actor(manager.tenant_id, owner.id, "service")
    async with receiving() as receiver, sending(ctx, databases):
        assert (await make(api, owner, receiver, "message.sent", "conversation.created")).status_code == 201
        among_themselves = await talk.begin(manager, await talk.person(manager))
        await talk.say(manager, among_themselves, "Not for a program.")
        with_it = await talk.begin(manager, member)
        sent = await talk.say(manager, with_it, "For a program.")

        async def arrived() -> bool:
            return sent["id"] in [message.event["data"].get("message_id") for message in receiver.messages]

        await outbox_helpers.until(arrived)
        await everything_sent(databases)
    subjects = {message.event["subject"].rpartition("/")[2] for message in receiver.messages}
    assert subjects == {with_it.rpartition("/")[2]}


async def test_every_event_names_a_permission_that_a_key_can_have(databases: Databases) -> None:
    found = await outbox_helpers.query_as_admin(
        databases, "select type, app.event_scope(type) as scope from unnest(%s::text[]) as type",
        [*get_args(EventType), "made.up"],
    )  # fmt: skip
    scopes = {row["type"]: row["scope"] for row in found}
    assert scopes.pop("made.up") == "unknown"
    for type, scope in scopes.items():
        assert scope in get_args(RolePermission), type
        assert role_has("service", scope), type
        # as app.account_may decides for the platform's administrator
        assert role_has("platform_admin", scope) == (scope == "webhooks.manage"), type
