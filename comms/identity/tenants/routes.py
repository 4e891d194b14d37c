"""HTTP routes for tenants: the operator creates and reads them and adds their first users.

The operator is the platform administrator of the operator's tenant (`WRITECARE_OPERATOR_TENANT`). An administrator of
another tenant sees only that tenant (row-level security).
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from comms.identity.tenants import queries
from comms.identity.tenants.queries import NewTenant, Tenant
from comms.identity.users.queries import NewUser, User, create_user
from comms.kernel.database import Actor
from comms.web.dependencies import AuthorisedRequest, ContextDep, actor_with, authorised_for, claim_key
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page, page_of
from comms.web.route_class import PlatformRoute

router = APIRouter(prefix="/api/tenants", tags=["tenants"], route_class=PlatformRoute)


@router.post("", status_code=201)
async def create_tenant(
    new: NewTenant, authorised: Annotated[AuthorisedRequest, authorised_for("tenants.create")], response: Response
) -> Tenant:
    """Creates a tenant."""
    tenant = await queries.create_tenant(authorised.conn, authorised.actor, new)
    response.headers["Location"] = f"/api/tenants/{tenant.id}"
    return tenant


@router.get("")
async def list_tenants(
    authorised: Annotated[AuthorisedRequest, authorised_for("tenants.read")], cursor: Cursor = None, limit: Limit = 50
) -> Page[Tenant]:
    """Lists all tenants that the administrator may see, newest first."""
    return page_of(await queries.list_tenants(authorised.conn, before=cursor or MAX_UUID, limit=limit + 1), limit)


@router.get("/{tenant_id}")
async def read_tenant(
    tenant_id: UUID, authorised: Annotated[AuthorisedRequest, authorised_for("tenants.read")]
) -> Tenant:
    """Returns one tenant."""
    return await queries.read_tenant(authorised.conn, tenant_id)


async def _authorised_in_tenant(
    request: Request, tenant_id: UUID, ctx: ContextDep, administrator: Annotated[Actor, actor_with("tenants.create")]
) -> AsyncIterator[AuthorisedRequest]:
    """Opens a transaction of another tenant for the administrator, who has no account there to check.

    Raises `missing` for a tenant that the administrator may not see.
    """
    async with ctx.database.acting_as(administrator) as conn:
        await queries.read_tenant(conn, tenant_id)
    inside = replace(administrator, tenant_id=tenant_id)
    async with ctx.database.acting_as(inside) as conn:
        await claim_key(request, conn, inside)
        yield AuthorisedRequest(inside, conn, ctx)


@router.post("/{tenant_id}/users", status_code=201)
async def create_first_users(
    new: NewUser,
    authorised: Annotated[AuthorisedRequest, Depends(_authorised_in_tenant, scope="function")],
    response: Response,
) -> User:
    """Adds a person to another tenant. A new tenant gets its first users this way; they then add the others."""
    user = await create_user(authorised.conn, authorised.actor, new)
    response.headers["Location"] = f"/api/users/{user.id}"
    return user
