"""Reads and changes webhooks: addresses of other systems that receive events of a tenant (only ids and codes).

The owner of a webhook is the account that created it. A webhook receives only events that its owner may read
(`app.webhook_hears`). An account that changes the address or the event types must be able to read them,
too.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from pydantic import Field

from comms.delivery.webhooks.destinations import Network, refuse_bad_url
from comms.delivery.webhooks.signing_keys import make_secret
from comms.kernel.access.roles import actor_has
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor, Connection, one
from comms.kernel.optimistic_locking import refuse_stale
from comms.kernel.storage.key_service import KeyService
from comms.outbox.queries import EventType
from models.contract.errors import missing, refused
from models.contract.records import Record

WebhookState = Literal["active", "paused", "disabled", "deleted"]


class NewWebhook(Record):
    url: str = Field(min_length=1, max_length=2000, repr=False, examples=["https://care.example/hooks"])
    event_types: tuple[EventType, ...] = Field(min_length=1, max_length=50)


class WebhookChange(Record):
    """The fields to change; `active` also enables a disabled webhook again."""

    url: str | None = Field(default=None, min_length=1, max_length=2000, repr=False)
    event_types: tuple[EventType, ...] | None = Field(default=None, min_length=1, max_length=50)
    state: Literal["active", "paused"] | None = None


class Webhook(NewWebhook):
    """An address that receives events; `disabled`: the dispatcher disabled it after repeated failures."""

    id: UUID
    state: WebhookState
    version: int
    created_by: UUID
    created_at: datetime
    updated_at: datetime


class MadeWebhook(Webhook):
    """A new webhook with its secret, which is never shown again."""

    secret: str = Field(repr=False)


_COLUMNS: Final = "id, url, event_types, state, version, created_by, created_at, updated_at"


async def create_webhook(
    conn: Connection, actor: Actor, keys: KeyService, networks: Sequence[Network], new: NewWebhook
) -> MadeWebhook:
    """Creates a webhook; raises `invalid` (as `refuse_bad_url`), `refused` (`event-not-yours-to-read`).

    The dispatcher checks the addresses of the host name at each attempt.
    """
    refuse_bad_url(new.url, networks)
    await require_event_permissions(conn, actor, new.event_types)
    made = await conn.execute(
        "insert into webhooks (tenant_id, url, event_types, created_by) "  # noqa: S608 (constants)
        f"values (%s, %s, %s, %s) returning {_COLUMNS}",
        (actor.tenant_id, new.url, sorted(set(new.event_types)), actor.user_id),
    )
    row = one(await made.fetchone())
    secret = await make_secret(conn, actor, keys, row["id"])
    await record_act(conn, actor, "webhook.created", ("webhook", row["id"]), {"event_types": row["event_types"]})
    return MadeWebhook(**row, secret=secret)


async def list_webhooks(conn: Connection, *, before: UUID, limit: int) -> list[Webhook]:
    """Lists the webhooks of the tenant with an id before `before`, newest first."""
    found = await conn.execute(
        f"select {_COLUMNS} from webhooks where state <> 'deleted' and id < %s "  # noqa: S608 (constants)
        "order by id desc limit %s",
        (before, limit),
    )
    return [Webhook.model_validate(row) for row in await found.fetchall()]


async def read_webhook(conn: Connection, webhook_id: UUID) -> Webhook:
    """Returns the webhook; raises `missing`."""
    found = await conn.execute(
        f"select {_COLUMNS} from webhooks where id = %s and state <> 'deleted'",  # noqa: S608 (constants)
        (webhook_id,),
    )
    return _found(await found.fetchone())


async def change_webhook(
    conn: Connection,
    actor: Actor,
    networks: Sequence[Network],
    webhook_id: UUID,
    change: WebhookChange,
    *,
    expected: int | None = None,
) -> Webhook:
    """Changes the fields that the change names.

    Raises `missing`, `invalid`, `refused` (`event-not-yours-to-read`), a conflict (`version-stale`).
    """
    if change.url is not None:
        refuse_bad_url(change.url, networks)
    webhook = await lock_webhook(conn, webhook_id)
    refuse_stale(webhook.version, expected)
    if change.url is not None or change.event_types is not None:
        await require_event_permissions(conn, actor, change.event_types or webhook.event_types)
    changed = await conn.execute(
        "update webhooks set url = coalesce(%(url)s, url), "  # noqa: S608 (constants)
        "event_types = coalesce(%(types)s, event_types), "
        "state = coalesce(%(state)s, state), "
        "dead_in_a_row = case when %(state)s = 'active' then 0 else dead_in_a_row end, "
        f"version = version + 1, updated_at = now() where id = %(id)s returning {_COLUMNS}",
        {
            "id": webhook_id, "url": change.url, "state": change.state,
            "types": None if change.event_types is None else sorted(set(change.event_types)),
        },
    )  # fmt: skip
    await record_act(
        conn, actor, "webhook.changed", ("webhook", webhook_id), {"fields": sorted(change.model_fields_set)}
    )
    return _found(await changed.fetchone())


async def delete_webhook(conn: Connection, actor: Actor, webhook_id: UUID, expected: int | None = None) -> None:
    """Marks the webhook deleted and deletes its secrets, so that nothing more is sent; its row remains.

    Raises `missing`, a conflict (`version-stale`).
    """
    refuse_stale((await lock_webhook(conn, webhook_id)).version, expected)
    # The row remains: the relay may insert a delivery that refers to it at the same time.
    await conn.execute(
        "update webhooks set state = 'deleted', version = version + 1, updated_at = now() where id = %s", (webhook_id,)
    )
    await conn.execute("delete from webhook_secrets where webhook_id = %s", (webhook_id,))
    await record_act(conn, actor, "webhook.deleted", ("webhook", webhook_id))


async def require_event_permissions(conn: Connection, actor: Actor, event_types: Sequence[EventType]) -> None:
    """Raises `refused` (`event-not-yours-to-read`) unless the actor may read events of these types."""
    found = await conn.execute(
        "select type, app.event_scope(type) as scope from unnest(%s::text[]) as type order by type",
        (list(event_types),),
    )
    unread = [row async for row in found if not actor_has(actor, row["scope"])]
    if unread:
        named = ", ".join(f"{row['type']} ({row['scope']})" for row in unread)
        raise refused(
            "event-not-yours-to-read",
            "A webhook receives only what its owner may read, and only an account that may read it can change that. "
            f"This account lacks the permission for: {named}.",
        )


async def lock_webhook(conn: Connection, webhook_id: UUID) -> Webhook:
    """Returns the webhook and locks its row until the transaction ends; raises `missing`."""
    found = await conn.execute(
        f"select {_COLUMNS} from webhooks where id = %s and state <> 'deleted' for no key update",  # noqa: S608
        (webhook_id,),
    )
    return _found(await found.fetchone())


def _found(row: dict[str, object] | None) -> Webhook:
    if row is None:
        raise missing("webhook")
    return Webhook.model_validate(row)
