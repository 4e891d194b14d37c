"""HTTP routes for homes."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response

from comms.identity.homes import queries
from comms.identity.homes.queries import Home, NewHome
from comms.web.dependencies import AuthorisedRequest, authorised_for
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page, page_of
from comms.web.route_class import PlatformRoute

router = APIRouter(prefix="/api/homes", tags=["homes"], route_class=PlatformRoute)


@router.post("", status_code=201)
async def create_home(
    new: NewHome, authorised: Annotated[AuthorisedRequest, authorised_for("homes.create")], response: Response
) -> Home:
    """Adds a home."""
    home = await queries.create_home(authorised.conn, authorised.actor, new)
    response.headers["Location"] = f"/api/homes/{home.id}"
    return home


@router.get("")
async def list_homes(
    authorised: Annotated[AuthorisedRequest, authorised_for("homes.read")], cursor: Cursor = None, limit: Limit = 50
) -> Page[Home]:
    """Lists the homes of the tenant, newest first."""
    return page_of(await queries.list_homes(authorised.conn, before=cursor or MAX_UUID, limit=limit + 1), limit)


@router.get("/{home_id}")
async def read_home(home_id: UUID, authorised: Annotated[AuthorisedRequest, authorised_for("homes.read")]) -> Home:
    """Returns one home."""
    return await queries.read_home(authorised.conn, home_id)
