"""HTTP routes for consent and lawful bases: request, grant, withdraw, decide and read."""

import ipaddress
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from comms.governance.consent import lawful_grounds, queries
from comms.governance.consent.lawful_grounds import (
    PURPOSES,
    Assessment,
    NewProcessingActivity,
    ProcessingActivity,
    ProposedActivity,
    Purpose,
)
from comms.governance.consent.permissions import Permission, permits
from comms.governance.consent.queries import ConsentAct, ConsentChange, ConsentOrigin, ConsentRecord
from comms.kernel.access.roles import RolePermission, refuse_unless
from comms.kernel.audit_log import record_act
from comms.kernel.database import Actor
from comms.web.dependencies import AuthorisedRequest, authorised, authorised_for
from comms.web.pagination import MAX_UUID, Cursor, Limit, Page, page_of
from comms.web.route_class import PlatformRoute
from models.contract.records import Record

router = APIRouter(prefix="/api", tags=["consent"], route_class=PlatformRoute)


class ConsentState(Record):
    """A person's consent: what may be done with their words now, and their records."""

    user_id: UUID
    permissions: tuple[Permission, ...]
    records: tuple[ConsentRecord, ...]


def _origin(request: Request) -> ConsentOrigin:
    try:
        address = str(ipaddress.ip_address(request.client.host)) if request.client is not None else None
    except ValueError:
        address = None
    return ConsentOrigin(ip_address=address, user_agent=request.headers.get("user-agent", "")[:500] or None)


def _refuse_unless_own(actor: Actor, user_id: UUID, permission: RolePermission) -> None:
    """Raises `refused` if the data is another person's and the actor lacks the permission."""
    if actor.user_id != user_id:
        refuse_unless(actor, permission)


SignedInRequest = Annotated[AuthorisedRequest, authorised()]
ConsentOriginDep = Annotated[ConsentOrigin, Depends(_origin)]


def _answer(response: Response, record: ConsentRecord) -> ConsentRecord:
    if record.version == 1:
        response.status_code = 201
        response.headers["Location"] = f"/api/consent/status/{record.user_id}"
    return record


_ALSO_CREATED: Final[dict[int | str, dict[str, Any]]] = {
    201: {"model": ConsentRecord, "description": "The first record on this purpose"}
}


@router.post("/consent/request", responses=_ALSO_CREATED)
async def request_consent(
    change: ConsentChange, authorised: SignedInRequest, origin: ConsentOriginDep, response: Response
) -> ConsentRecord:
    """Records that a person has been asked for their consent to a purpose."""
    refuse_unless(authorised.actor, "consent.record")
    return _answer(response, await queries.request_consent(authorised.conn, authorised.actor, change, origin))


@router.post("/consent/grant", responses=_ALSO_CREATED)
async def grant_consent(
    change: ConsentChange, authorised: SignedInRequest, origin: ConsentOriginDep, response: Response
) -> ConsentRecord:
    """Records a person's consent: their own, or one given to staff (then say how in `consent_method` and
    `evidence`)."""
    _refuse_unless_own(authorised.actor, change.user_id, "consent.record")
    queries.refuse_past_expiry(change, datetime.now(UTC))
    return _answer(response, await queries.grant_consent(authorised.conn, authorised.actor, change, origin))


@router.post("/consent/withdraw", responses=_ALSO_CREATED)
async def withdraw_consent(
    change: ConsentChange, authorised: SignedInRequest, origin: ConsentOriginDep, response: Response
) -> ConsentRecord:
    """Records a person's refusal: from now on, nothing more of theirs is processed for the purpose."""
    _refuse_unless_own(authorised.actor, change.user_id, "consent.record")
    return _answer(response, await queries.withdraw_consent(authorised.conn, authorised.actor, change, origin))


@router.get("/consent/status/{user_id}")
async def read_consent(user_id: UUID, authorised: SignedInRequest) -> ConsentState:
    """Returns what may be done with a person's words now, and their answers. Reading another person's is audited."""
    _refuse_unless_own(authorised.actor, user_id, "consent.read")
    records = await queries.list_records(authorised.conn, user_id)
    if user_id != authorised.actor.user_id:
        await record_act(authorised.conn, authorised.actor, "consent.read", ("user", user_id))
    permissions = [await permits(authorised.conn, user_id, purpose) for purpose in PURPOSES]
    return ConsentState(user_id=user_id, permissions=tuple(permissions), records=tuple(records))


@router.get("/consent/audit-trail")
async def list_history(
    authorised: SignedInRequest, user_id: UUID | None = None, cursor: Cursor = None, limit: Limit = 50
) -> Page[ConsentAct]:
    """Lists the history of consent, newest first: officers see everybody's (audited), everyone their own
    (`?user_id=`)."""
    if user_id is None or user_id != authorised.actor.user_id:
        refuse_unless(authorised.actor, "consent.audit")
        read = ("tenant", authorised.actor.tenant_id) if user_id is None else ("user", user_id)
        await record_act(authorised.conn, authorised.actor, "consent.history-read", read)
    found = await queries.list_history(authorised.conn, user_id=user_id, before=cursor or MAX_UUID, limit=limit + 1)
    return page_of(found, limit)


@router.post("/processing-activities", status_code=201)
async def decide_ground(
    new: NewProcessingActivity,
    authorised: Annotated[AuthorisedRequest, authorised_for("grounds.decide")],
    response: Response,
) -> ProcessingActivity:
    """Puts a lawful basis in force for a purpose and ends the present one. The caller is recorded as the one who
    decided."""
    activity = await lawful_grounds.decide_ground(authorised.conn, authorised.actor, new)
    response.headers["Location"] = f"/api/legal-basis/{activity.id}"
    return activity


@router.get("/processing-activities")
async def list_grounds(
    authorised: Annotated[AuthorisedRequest, authorised_for("grounds.read")],
    purpose: Purpose | None = None,
    in_force: Annotated[bool, Query(description="Only those in force now.")] = False,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ProcessingActivity]:
    """Lists the tenant's register of processing (article 30), newest first."""
    found = await lawful_grounds.list_grounds(
        authorised.conn, purpose=purpose, in_force=in_force, before=cursor or MAX_UUID, limit=limit + 1
    )
    return page_of(found, limit)


@router.delete("/processing-activities/{activity_id}", status_code=204)
async def end_ground(
    activity_id: UUID, authorised: Annotated[AuthorisedRequest, authorised_for("grounds.decide")]
) -> None:
    """Ends a lawful basis: nothing more is processed for its purpose until another is in force."""
    await lawful_grounds.end_ground(authorised.conn, authorised.actor, activity_id)


@router.post("/legal-basis/assess")
async def assess_ground(
    ground: ProposedActivity, authorised: Annotated[AuthorisedRequest, authorised_for("grounds.read")]
) -> Assessment:
    """Checks a proposed lawful basis against the plain rules of law; stores nothing."""
    return lawful_grounds.assess(ground)


@router.get("/legal-basis/{processing_id}")
async def read_ground(
    processing_id: UUID, authorised: Annotated[AuthorisedRequest, authorised_for("grounds.read")]
) -> ProcessingActivity:
    """Returns the lawful basis of a processing activity, and who decided it."""
    return await lawful_grounds.read_ground(authorised.conn, processing_id)
