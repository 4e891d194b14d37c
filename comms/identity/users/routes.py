"""HTTP routes for users."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response

from comms.identity.users import queries
from comms.identity.users.queries import NewUser, User, UserChange
from comms.kernel.access.roles import Role, refuse_unless
from comms.kernel.access.system_actor import system_actor
from comms.kernel.database import Actor
from comms.web.dependencies import AuthorisedRequest, ContextDep, actor_with, authorised, authorised_for
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page, page_of
from comms.web.route_class import PlatformRoute

router = APIRouter(prefix="/api/users", tags=["people"], route_class=PlatformRoute)


@router.post("", status_code=201)
async def create_user(
    new: NewUser, authorised: Annotated[AuthorisedRequest, authorised_for("users.create")], response: Response
) -> User:
    """Adds a person; a guest is a person with the role `external`. If the role reads alerts or manages accounts, the
    account stays inactive until a second person approves it (`GET /api/account-changes`)."""
    user = await queries.create_user(authorised.conn, authorised.actor, new)
    response.headers["Location"] = f"/api/users/{user.id}"
    return user


@router.get("")
async def list_users(
    authorised: Annotated[AuthorisedRequest, authorised_for("users.read")],
    role: Role | None = None,
    home_id: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[User]:
    """Lists the people of the tenant, newest first."""
    found = await queries.list_users(
        authorised.conn, role=role, home_id=home_id, before=cursor or MAX_UUID, limit=limit + 1
    )
    return page_of(found, limit)


@router.get("/{user_id}")
async def read_user(user_id: UUID, authorised: Annotated[AuthorisedRequest, authorised()]) -> User:
    """Returns one person. Everybody may read their own record."""
    if user_id != authorised.actor.user_id:
        refuse_unless(authorised.actor, "users.read")
    return await queries.read_user(authorised.conn, user_id)


@router.put("/{user_id}")
async def change_user(
    user_id: UUID, change: UserChange, ctx: ContextDep, actor: Annotated[Actor, actor_with("users.manage")]
) -> User:
    """Opens or closes an account or changes its role; each ends all sign-ins of the person. A role that reads alerts or
    manages accounts waits for approval by a second person (`GET /api/account-changes`). The response shows the account
    as it is now."""
    async with ctx.database.acting_as(system_actor(actor.tenant_id, actor.user_id, actor.origin)) as conn:
        return await queries.change_user(conn, actor, user_id, change)
