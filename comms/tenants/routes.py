"""Tenants over HTTP: whoever runs the installation makes them, reads them and gives them their first people.

That is the platform's administrator of the operator's tenant (`WRITECARE_OPERATOR_TENANT`); an administrator of another
tenant sees that tenant alone (row-level security).
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from comms.database import Actor
from comms.http import Acting, InHouse, acting_with, allowed, claim_key
from comms.pages import LAST_ID, Cursor, Limit, Page, page_of
from comms.routing import PlatformRoute
from comms.tenants import queries
from comms.tenants.queries import NewTenant, Tenant
from comms.users.queries import NewUser, User, create_user

router = APIRouter(prefix="/api/tenants", tags=["tenants"], route_class=PlatformRoute)


@router.post("", status_code=201)
async def create_tenant(
    new: NewTenant, acting: Annotated[Acting, acting_with("tenants.create")], response: Response
) -> Tenant:
    """Makes a tenant."""
    tenant = await queries.create_tenant(acting.conn, acting.actor, new)
    response.headers["Location"] = f"/api/tenants/{tenant.id}"
    return tenant


@router.get("")
async def list_tenants(
    acting: Annotated[Acting, acting_with("tenants.read")], cursor: Cursor = None, limit: Limit = 50
) -> Page[Tenant]:
    """All tenants that the administrator sees, newest first."""
    return page_of(await queries.list_tenants(acting.conn, before=cursor or LAST_ID, limit=limit + 1), limit)


@router.get("/{tenant_id}")
async def read_tenant(tenant_id: UUID, acting: Annotated[Acting, acting_with("tenants.read")]) -> Tenant:
    """One tenant."""
    return await queries.read_tenant(acting.conn, tenant_id)


async def _acting_inside(
    request: Request, tenant_id: UUID, house: InHouse, administrator: Annotated[Actor, allowed("tenants.create")]
) -> AsyncIterator[Acting]:
    """The administrator in a transaction of another tenant, in which they have no account to be checked.

    Raises `missing` for a tenant that the administrator does not see.
    """
    async with house.database.acting_as(administrator) as conn:
        await queries.read_tenant(conn, tenant_id)
    inside = replace(administrator, tenant_id=tenant_id)
    async with house.database.acting_as(inside) as conn:
        await claim_key(request, conn, inside)
        yield Acting(inside, conn, house)


@router.post("/{tenant_id}/users", status_code=201)
async def create_first_users(
    new: NewUser, acting: Annotated[Acting, Depends(_acting_inside, scope="function")], response: Response
) -> User:
    """Adds a person to another tenant: how a new tenant gets the people who then add the others."""
    user = await create_user(acting.conn, acting.actor, new)
    response.headers["Location"] = f"/api/users/{user.id}"
    return user
