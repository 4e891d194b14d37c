"""Routes of webhooks: where events of a tenant are sent, the state of each delivery, and replays.

Routes that return a secret do not take an `Idempotency-Key` (comms/web/idempotency): the stored response would contain
a secret that may be shown only once.
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field

from comms.delivery.webhooks import deliveries, queries
from comms.delivery.webhooks.deliveries import Delivery, DeliveryState, Range, Replayed
from comms.delivery.webhooks.queries import MadeWebhook, NewWebhook, Webhook, WebhookChange
from comms.delivery.webhooks.signing_keys import rotate_secret
from comms.web.dependencies import AuthorisedRequest, IfMatch, authorised_for, set_etag
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page, page_of
from comms.web.problems import problem_responses
from comms.web.route_class import PlatformRoute
from models.contract.records import Record

router = APIRouter(prefix="/api/webhooks", tags=["webhooks"], route_class=PlatformRoute)
secrets_router = APIRouter(prefix="/api/webhooks", tags=["webhooks"])

ReadAccess = Annotated[AuthorisedRequest, authorised_for("webhooks.read")]
ManageAccess = Annotated[AuthorisedRequest, authorised_for("webhooks.manage")]


class MadeSecret(Record):
    """A new secret; it is never shown again."""

    secret: str = Field(repr=False)


@secrets_router.post("", status_code=201)
async def create_webhook(new: NewWebhook, authorised: ManageAccess, response: Response) -> MadeWebhook:
    """Creates a webhook that sends events of these types to an address, signed (Standard Webhooks) with the secret in
    the response.

    The account that creates it owns it: the webhook receives only events that this account may read.
    """
    networks = authorised.ctx.settings.webhook_networks
    made = await queries.create_webhook(authorised.conn, authorised.actor, authorised.ctx.keys, networks, new)
    response.headers["Location"] = f"/api/webhooks/{made.id}"
    set_etag(response, made.version)
    return made


@router.get("")
async def list_webhooks(authorised: ReadAccess, cursor: Cursor = None, limit: Limit = 50) -> Page[Webhook]:
    """Lists the webhooks of the tenant, newest first."""
    return page_of(await queries.list_webhooks(authorised.conn, before=cursor or MAX_UUID, limit=limit + 1), limit)


@router.get("/{webhook_id}")
async def read_webhook(webhook_id: UUID, authorised: ReadAccess, response: Response) -> Webhook:
    """Returns one webhook, without its secret."""
    webhook = await queries.read_webhook(authorised.conn, webhook_id)
    set_etag(response, webhook.version)
    return webhook


@router.put("/{webhook_id}", responses=problem_responses(412))
async def change_webhook(
    webhook_id: UUID, change: WebhookChange, authorised: ManageAccess, expected: IfMatch, response: Response
) -> Webhook:
    """Changes the fields that the body names; `state` pauses the webhook, or enables it again after it was disabled."""
    networks = authorised.ctx.settings.webhook_networks
    webhook = await queries.change_webhook(
        authorised.conn, authorised.actor, networks, webhook_id, change, expected=expected
    )
    set_etag(response, webhook.version)
    return webhook


@router.delete("/{webhook_id}", status_code=204, responses=problem_responses(412))
async def delete_webhook(webhook_id: UUID, authorised: ManageAccess, expected: IfMatch) -> None:
    """Deletes the webhook; nothing more is sent to it."""
    await queries.delete_webhook(authorised.conn, authorised.actor, webhook_id, expected)


@secrets_router.post("/{webhook_id}/secret", status_code=201)
async def make_secret(webhook_id: UUID, authorised: ManageAccess, response: Response) -> MadeSecret:
    """Creates a new secret. For a day the previous one signs, too (`webhook-signature` then has two signatures)."""
    webhook = await queries.lock_webhook(authorised.conn, webhook_id)
    await queries.require_event_permissions(authorised.conn, authorised.actor, webhook.event_types)
    secret = await rotate_secret(authorised.conn, authorised.actor, authorised.ctx.keys, webhook_id)
    response.headers["Location"] = f"/api/webhooks/{webhook_id}"
    return MadeSecret(secret=secret)


@router.get("/{webhook_id}/deliveries")
async def list_deliveries(
    webhook_id: UUID,
    authorised: ReadAccess,
    state: DeliveryState | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Delivery]:
    """Lists deliveries that were sent or wait, newest first: attempts, last status, reason of a failure."""
    found = await deliveries.list_deliveries(
        authorised.conn, webhook_id, state=state, before=cursor or MAX_UUID, limit=limit + 1
    )
    return page_of(found, limit)


@router.post("/{webhook_id}/deliveries/{delivery_id}/replay")
async def replay_delivery(webhook_id: UUID, delivery_id: UUID, authorised: ManageAccess) -> Delivery:
    """Sends one event again, with the same id."""
    return await deliveries.replay_delivery(authorised.conn, authorised.actor, webhook_id, delivery_id)


@router.post("/{webhook_id}/replay")
async def replay_range(webhook_id: UUID, wanted: Range, authorised: ManageAccess) -> Replayed:
    """Sends the events between two positions again, also those from while the webhook was not active."""
    return await deliveries.replay_range(authorised.conn, authorised.actor, webhook_id, wanted)
