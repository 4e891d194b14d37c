"""Webhooks: addresses of other systems to which a tenant has its events sent, ids and codes alone.

Each has an owner, the account that made it, and receives what that account may read and nothing else
(`app.webhook_hears`). So whoever decides where its events go must be allowed to read them too.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from pydantic import Field

from comms.audit.queries import record_act
from comms.database import Actor, Connection, one
from comms.events.queries import EventType
from comms.identity.roles import allows
from comms.storage.keys import KeyService
from comms.versions import refuse_stale
from comms.webhooks.addresses import Network, refuse_bad_url
from comms.webhooks.secrets import make_secret
from models.errors import missing, refused
from models.records import Record

WebhookState = Literal["active", "paused", "disabled", "deleted"]


class NewWebhook(Record):
    url: str = Field(min_length=1, max_length=2000, repr=False, examples=["https://care.example/hooks"])
    event_types: tuple[EventType, ...] = Field(min_length=1, max_length=50)


class WebhookChange(Record):
    """What is to be different; `active` again also after the house has given it up."""

    url: str | None = Field(default=None, min_length=1, max_length=2000, repr=False)
    event_types: tuple[EventType, ...] | None = Field(default=None, min_length=1, max_length=50)
    state: Literal["active", "paused"] | None = None


class Webhook(NewWebhook):
    """Where events are sent; `disabled` is one that failed so often that the house gave it up."""

    id: UUID
    state: WebhookState
    version: int
    created_by: UUID
    created_at: datetime
    updated_at: datetime


class MadeWebhook(Webhook):
    """A webhook just made, with its secret, which is never shown again."""

    secret: str = Field(repr=False)


_COLUMNS: Final = "id, url, event_types, state, version, created_by, created_at, updated_at"


async def create_webhook(
    conn: Connection, actor: Actor, keys: KeyService, networks: Sequence[Network], new: NewWebhook
) -> MadeWebhook:
    """Raises `invalid` (as `refuse_bad_url`), `refused` (`event-not-yours-to-read`).

    Where the name leads is checked at each sending.
    """
    refuse_bad_url(new.url, networks)
    await refuse_unread(conn, actor, new.event_types)
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
    """The tenant's webhooks, newest first, from before the id."""
    found = await conn.execute(
        f"select {_COLUMNS} from webhooks where state <> 'deleted' and id < %s "  # noqa: S608 (constants)
        "order by id desc limit %s",
        (before, limit),
    )
    return [Webhook.model_validate(row) for row in await found.fetchall()]


async def read_webhook(conn: Connection, webhook_id: UUID) -> Webhook:
    """Raises `missing`."""
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
    """Applies what the change names.

    Raises `missing`, `invalid`, `refused` (`event-not-yours-to-read`), a conflict (`version-stale`).
    """
    if change.url is not None:
        refuse_bad_url(change.url, networks)
    webhook = await lock_webhook(conn, webhook_id)
    refuse_stale(webhook.version, expected)
    if change.url is not None or change.event_types is not None:
        await refuse_unread(conn, actor, change.event_types or webhook.event_types)
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
    """Nothing is sent there any more and its secrets are gone; that it was there stays on record.

    Raises `missing`, a conflict (`version-stale`).
    """
    refuse_stale((await lock_webhook(conn, webhook_id)).version, expected)
    # The row stays: a delivery that the relay makes at this moment must find it.
    await conn.execute(
        "update webhooks set state = 'deleted', version = version + 1, updated_at = now() where id = %s", (webhook_id,)
    )
    await conn.execute("delete from webhook_secrets where webhook_id = %s", (webhook_id,))
    await record_act(conn, actor, "webhook.deleted", ("webhook", webhook_id))


async def refuse_unread(conn: Connection, actor: Actor, event_types: Sequence[EventType]) -> None:
    """Raises `refused` (`event-not-yours-to-read`) unless the actor may read what events of these types tell of."""
    found = await conn.execute(
        "select type, app.event_scope(type) as scope from unnest(%s::text[]) as type order by type",
        (list(event_types),),
    )
    unread = [row async for row in found if not allows(actor, row["scope"])]
    if unread:
        named = ", ".join(f"{row['type']} ({row['scope']})" for row in unread)
        raise refused(
            "event-not-yours-to-read",
            "A webhook receives what its owner may read, and whoever decides on it must be allowed to read it too. "
            f"This account lacks the permission for: {named}.",
        )


async def lock_webhook(conn: Connection, webhook_id: UUID) -> Webhook:
    """The webhook, its row taken until the transaction ends; raises `missing`."""
    found = await conn.execute(
        f"select {_COLUMNS} from webhooks where id = %s and state <> 'deleted' for no key update",  # noqa: S608
        (webhook_id,),
    )
    return _found(await found.fetchone())


def _found(row: dict[str, object] | None) -> Webhook:
    if row is None:
        raise missing("webhook")
    return Webhook.model_validate(row)
