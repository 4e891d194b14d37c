"""HTTP routes for service accounts. Only the platform administrator may use them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response

from comms.identity.service_accounts import queries
from comms.identity.service_accounts.queries import NewServiceAccount, ServiceAccount, ServiceAccountWithKey
from comms.identity.users.queries import close_user
from comms.kernel.access.system_actor import system_actor
from comms.kernel.database import Actor
from comms.web.dependencies import AuthorisedRequest, ContextDep, actor_with, authorised_for
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page, page_of

router = APIRouter(prefix="/api/service-accounts", tags=["identity"])

ManageAccess = Annotated[AuthorisedRequest, authorised_for("service_accounts.manage")]


@router.post("", status_code=201)
async def create_service_account(
    new: NewServiceAccount, authorised: ManageAccess, response: Response
) -> ServiceAccountWithKey:
    """Creates a service account and returns its key, once."""
    made = await queries.create_service_account(authorised.conn, authorised.actor, new)
    response.headers["Location"] = f"/api/service-accounts/{made.id}"
    return made


@router.get("")
async def list_service_accounts(
    authorised: ManageAccess, cursor: Cursor = None, limit: Limit = 50
) -> Page[ServiceAccount]:
    """Lists all service accounts, also closed ones, newest first."""
    found = await queries.list_service_accounts(authorised.conn, before=cursor or MAX_UUID, limit=limit + 1)
    return page_of(found, limit)


@router.get("/{account_id}")
async def read_service_account(account_id: UUID, authorised: ManageAccess) -> ServiceAccount:
    """Returns one service account, without its key."""
    return await queries.read_service_account(authorised.conn, account_id)


@router.delete("/{account_id}", status_code=204)
async def close_service_account(
    account_id: UUID, ctx: ContextDep, actor: Annotated[Actor, actor_with("service_accounts.manage")]
) -> None:
    """Closes the account: its key becomes invalid, its sockets are closed, its pending changes are withdrawn."""
    async with ctx.database.acting_as(actor) as conn:
        await queries.read_service_account(conn, account_id)
    async with ctx.database.acting_as(system_actor(actor.tenant_id, actor.user_id, actor.origin)) as conn:
        await close_user(conn, actor, account_id)
