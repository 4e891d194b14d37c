"""HTTP routes for retention rules and legal holds."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from comms.governance.retention import holds, rules
from comms.governance.retention.erasure import Category
from comms.governance.retention.holds import Hold, NewHold
from comms.governance.retention.rules import RetentionRule, RuleChange
from comms.web.dependencies import AuthorisedRequest, IfMatch, authorised_for, set_etag
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page, page_of
from comms.web.problems import problem_responses
from comms.web.route_class import PlatformRoute

router = APIRouter(prefix="/api/retention", tags=["retention"], route_class=PlatformRoute)

ReadAccess = Annotated[AuthorisedRequest, authorised_for("retention.read")]
HoldAccess = Annotated[AuthorisedRequest, authorised_for("retention.hold")]


@router.get("/rules")
async def list_retention_rules(authorised: ReadAccess) -> Page[RetentionRule]:
    """Lists the retention period of each category, all on one page."""
    return Page(items=tuple(await rules.list_rules(authorised.conn)), next=None)


@router.get("/rules/{category}")
async def read_retention_rule(category: Category, authorised: ReadAccess, response: Response) -> RetentionRule:
    """Returns the retention period of one category."""
    rule = await rules.read_rule(authorised.conn, category)
    set_etag(response, rule.version)
    return rule


@router.put("/rules/{category}", responses=problem_responses(412))
async def decide_retention_rule(
    category: Category,
    change: RuleChange,
    authorised: Annotated[AuthorisedRequest, authorised_for("retention.decide")],
    expected: IfMatch,
    response: Response,
) -> RetentionRule:
    """Sets the retention period of a category. The next round of the retention process permanently erases older data
    that is not held."""
    rule = await rules.decide_rule(authorised.conn, authorised.actor, category, change, expected)
    set_etag(response, rule.version)
    return rule


@router.post("/holds", status_code=201)
async def place_hold(new: NewHold, authorised: HoldAccess, response: Response) -> Hold:
    """Places a hold: a conversation, or one of its messages, is not erased because a case needs it."""
    hold = await holds.place_hold(authorised.conn, authorised.actor, new)
    response.headers["Location"] = f"/api/retention/holds/{hold.id}"
    return hold


@router.get("/holds")
async def list_holds(
    authorised: ReadAccess,
    *,
    standing: Annotated[bool | None, Query(description="true: only unreleased; false: only released.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[Hold]:
    """Lists holds, also released ones, newest first."""
    found = await holds.list_holds(authorised.conn, standing=standing, before=cursor or MAX_UUID, limit=limit + 1)
    return page_of(found, limit)


@router.get("/holds/{hold_id}")
async def read_hold(hold_id: UUID, authorised: ReadAccess) -> Hold:
    """Returns one hold."""
    return await holds.read_hold(authorised.conn, hold_id)


@router.delete("/holds/{hold_id}", status_code=204)
async def release_hold(hold_id: UUID, authorised: HoldAccess) -> None:
    """Releases a hold: its messages are erased when the rule says so. The hold stays visible."""
    await holds.release_hold(authorised.conn, authorised.actor, hold_id)
