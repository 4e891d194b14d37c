"""HTTP routes for break-glass access: staff use it; the officers for data and safety review it."""

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
    """Opens one care context or one alert for at most an hour, with a reason. The access is audited and announced, and
    an officer must acknowledge it."""
    response.headers["Location"] = "/api/break-glass"
    return await queries.break_glass(authorised.conn, authorised.actor, new)


@router.get("")
async def list_broken_glass(
    authorised: GlassWatchAccess, *, acknowledged: bool | None = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[BrokenGlass]:
    """Lists who accessed what and why, newest first; `?acknowledged=false`: what must still be reviewed."""
    found = await queries.list_broken_glass(
        authorised.conn, acknowledged=acknowledged, before=cursor or MAX_UUID, limit=limit + 1
    )
    return page_of(found, limit)


@router.post("/{glass_id}/acknowledge")
async def acknowledge(glass_id: UUID, authorised: GlassWatchAccess) -> BrokenGlass:
    """Records that a responsible person has seen the access."""
    return await queries.acknowledge(authorised.conn, authorised.actor, glass_id)
