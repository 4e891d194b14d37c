"""Webhooks over HTTP: where a tenant's events go, what became of each, and sending again.

What shows a secret takes no `Idempotency-Key` (comms/web/idempotency): the kept answer would hold what is shown but
once.
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
    """A secret just made; it is never shown again."""

    secret: str = Field(repr=False)


@secrets_router.post("", status_code=201)
async def create_webhook(new: NewWebhook, authorised: ManageAccess, response: Response) -> MadeWebhook:
    """Has events of these types sent to an address, signed (Standard Webhooks) with the secret in the answer.

    The account that makes it owns it: events go there as far as that account may read what they tell of.
    """
    networks = authorised.ctx.settings.webhook_networks
    made = await queries.create_webhook(authorised.conn, authorised.actor, authorised.ctx.keys, networks, new)
    response.headers["Location"] = f"/api/webhooks/{made.id}"
    set_etag(response, made.version)
    return made


@router.get("")
async def list_webhooks(authorised: ReadAccess, cursor: Cursor = None, limit: Limit = 50) -> Page[Webhook]:
    """The tenant's webhooks, newest first."""
    return page_of(await queries.list_webhooks(authorised.conn, before=cursor or MAX_UUID, limit=limit + 1), limit)


@router.get("/{webhook_id}")
async def read_webhook(webhook_id: UUID, authorised: ReadAccess, response: Response) -> Webhook:
    """One webhook, without its secret."""
    webhook = await queries.read_webhook(authorised.conn, webhook_id)
    set_etag(response, webhook.version)
    return webhook


@router.put("/{webhook_id}", responses=problem_responses(412))
async def change_webhook(
    webhook_id: UUID, change: WebhookChange, authorised: ManageAccess, expected: IfMatch, response: Response
) -> Webhook:
    """Changes what the body names; `state` pauses it, or has it tried again after it was disabled."""
    networks = authorised.ctx.settings.webhook_networks
    webhook = await queries.change_webhook(
        authorised.conn, authorised.actor, networks, webhook_id, change, expected=expected
    )
    set_etag(response, webhook.version)
    return webhook


@router.delete("/{webhook_id}", status_code=204, responses=problem_responses(412))
async def delete_webhook(webhook_id: UUID, authorised: ManageAccess, expected: IfMatch) -> None:
    """Nothing is sent there any more."""
    await queries.delete_webhook(authorised.conn, authorised.actor, webhook_id, expected)


@secrets_router.post("/{webhook_id}/secret", status_code=201)
async def make_secret(webhook_id: UUID, authorised: ManageAccess, response: Response) -> MadeSecret:
    """A new secret; for a day the one before it signs too (`webhook-signature` then holds two)."""
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
    """What was sent or waits to be, newest first: tries, the last status, why one failed."""
    found = await deliveries.list_deliveries(
        authorised.conn, webhook_id, state=state, before=cursor or MAX_UUID, limit=limit + 1
    )
    return page_of(found, limit)


@router.post("/{webhook_id}/deliveries/{delivery_id}/replay")
async def replay_delivery(webhook_id: UUID, delivery_id: UUID, authorised: ManageAccess) -> Delivery:
    """Sends one event again, under its old id."""
    return await deliveries.replay_delivery(authorised.conn, authorised.actor, webhook_id, delivery_id)


@router.post("/{webhook_id}/replay")
async def replay_range(webhook_id: UUID, wanted: Range, authorised: ManageAccess) -> Replayed:
    """Sends the events between two positions (again), also those of while the webhook was not active."""
    return await deliveries.replay_range(authorised.conn, authorised.actor, webhook_id, wanted)
