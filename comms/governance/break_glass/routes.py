"""Break-glass over HTTP: broken by staff, watched and acknowledged by those who answer for data and safety."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response

from comms.governance.break_glass import queries
from comms.governance.break_glass.queries import BrokenGlass, NewBrokenGlass
from comms.web.dependencies import AuthorisedRequest, authorised_for
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page, page_of
from comms.web.route_class import PlatformRoute

router = APIRouter(prefix="/api/break-glass", tags=["break-glass"], route_class=PlatformRoute)

GlassWatchAccess = Annotated[AuthorisedRequest, authorised_for("glass.watch")]


@router.post("", status_code=201)
async def break_glass(
    new: NewBrokenGlass, authorised: Annotated[AuthorisedRequest, authorised_for("glass.break")], response: Response
) -> BrokenGlass:
    """Opens one care context or one alert for at most an hour, with a reason. Logged, told of, answered for."""
    response.headers["Location"] = "/api/break-glass"
    return await queries.break_glass(authorised.conn, authorised.actor, new)


@router.get("")
async def list_broken_glass(
    authorised: GlassWatchAccess, *, acknowledged: bool | None = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[BrokenGlass]:
    """Who broke which glass and why, newest first; `?acknowledged=false`: what waits to be looked at."""
    found = await queries.list_broken_glass(
        authorised.conn, acknowledged=acknowledged, before=cursor or MAX_UUID, limit=limit + 1
    )
    return page_of(found, limit)


@router.post("/{glass_id}/acknowledge")
async def acknowledge(glass_id: UUID, authorised: GlassWatchAccess) -> BrokenGlass:
    """Somebody responsible has seen it and will ask, if there is something to ask."""
    return await queries.acknowledge(authorised.conn, authorised.actor, glass_id)
