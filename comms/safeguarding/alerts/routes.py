"""Routes of alerts: list, read, claim, review, and the subjects of an alert."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query, Response

from comms.governance.break_glass.queries import require_permission_or_glass
from comms.safeguarding.alerts import queries, subjects
from comms.safeguarding.alerts.records import Alert, AlertDetail, AlertState, NewReview, Review
from comms.safeguarding.alerts.subjects import AlertSubject, AlertSubjects, NewAlertSubject
from comms.web.dependencies import AuthorisedRequest, SeenVersion, authorised, authorised_for, set_etag
from comms.web.problems import problem_responses
from comms.web.route_class import PlatformRoute
from models.contract.records import Category, Severity

router = APIRouter(prefix="/api/alerts", tags=["alerts"], route_class=PlatformRoute)

_UNEXPLAINED_SUFFIX: Final = "w"  # ETag suffix while spans are missing: the client must not get 304 when they are found

ReadAccess = Annotated[AuthorisedRequest, authorised_for("alerts.read")]
DecideAccess = Annotated[AuthorisedRequest, authorised_for("alerts.decide")]
OverseeAccess = Annotated[AuthorisedRequest, authorised_for("alerts.oversee")]


@router.get("")
async def list_alerts(
    authorised: ReadAccess,
    *,
    state: Annotated[list[AlertState], Query()] = [],  # noqa: B006 (FastAPI copies defaults)
    severity: Annotated[list[Severity], Query()] = [],  # noqa: B006
    category: Category | None = None,
    cursor: Annotated[str | None, Query(max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> queries.QueuePage:
    """Lists alerts: open ones first, by severity, then the longest waiting."""
    return await queries.list_alerts(
        authorised.conn, states=state, severities=severity, category=category, cursor=cursor, limit=limit
    )


@router.get("/{alert_id}")
async def read_alert(
    authorised: Annotated[AuthorisedRequest, authorised()], alert_id: UUID, response: Response
) -> AlertDetail:
    """Returns one alert: the exact words with context, their position in the audio, the reasons of the model. The
    access is recorded in the audit log.

    For those who may read alerts, and for a user with break-glass access to this alert. For messages, the words that
    moved the model are found a little after the alert: `explained` says whether that is done. They change the ETag, not
    the version.
    """
    await require_permission_or_glass(authorised.conn, authorised.actor, alert_id, "alerts.read")
    detail = await queries.view_alert(authorised.conn, authorised.actor, alert_id)
    set_etag(response, detail.version, "" if detail.is_explained() else _UNEXPLAINED_SUFFIX)
    return detail


@router.post("/{alert_id}/claim", responses=problem_responses(412, 428))
async def claim_alert(authorised: DecideAccess, alert_id: UUID, response: Response, seen: SeenVersion) -> Alert:
    """Claims the version of the alert that was seen, so that no two people work on it; claiming twice does no harm."""
    alert = await queries.claim_alert(authorised.conn, authorised.actor, alert_id, seen)
    set_etag(response, alert.version)
    return alert


@router.post("/{alert_id}/review", status_code=201, responses=problem_responses(412, 428))
async def review_alert(
    authorised: DecideAccess, alert_id: UUID, said: NewReview, response: Response, seen: SeenVersion
) -> Review:
    """Stores the decision of a person on the version of the alert that they saw, with the reason. It cannot be changed.

    `If-Match` names that version: if the alert has changed since, the answer is 412. The ETag of the answer is the new
    version of the alert.
    """
    review, alert = await queries.review_alert(authorised.conn, authorised.actor, alert_id, said, seen)
    set_etag(response, alert.version)
    response.headers["Location"] = f"/api/alerts/{alert_id}"
    return review


@router.get("/{alert_id}/subjects")
async def list_subjects(authorised: ReadAccess, alert_id: UUID) -> AlertSubjects:
    """Lists the subjects of the alert: named by a person, presumed because they spoke words that it cites, or cleared.

    Proposed subjects wait for a second person; users do not see that they themselves are proposed.
    """
    return await subjects.list_subjects(authorised.conn, alert_id)


@router.post("/{alert_id}/subjects", status_code=201)
async def name_subject(
    authorised: DecideAccess, alert_id: UUID, new: NewAlertSubject, response: Response
) -> AlertSubject:
    """Names a subject of the alert: from now on they can see neither the alert nor the recording or messages behind it.

    If fewer than two other people who can read it would remain, the `standing` in the answer is `proposed`: nothing is
    withheld until a second person confirms it.
    """
    response.headers["Location"] = f"/api/alerts/{alert_id}/subjects"
    return await subjects.name_subject(authorised.conn, authorised.actor, alert_id, new.user_id)


@router.post("/{alert_id}/subjects/{user_id}/confirm")
async def confirm_subject(authorised: OverseeAccess, alert_id: UUID, user_id: UUID) -> AlertSubject:
    """Confirms, as a second person, that the alert is about the person whom another user proposed."""
    return await subjects.confirm_subject(authorised.conn, authorised.actor, alert_id, user_id)


@router.delete("/{alert_id}/subjects/{user_id}", status_code=204)
async def clear_subject(authorised: DecideAccess, alert_id: UUID, user_id: UUID) -> None:
    """Records that the alert is not about this person, whatever was decided or presumed before; or declines
    a proposal.
    """
    await subjects.clear_subject(authorised.conn, authorised.actor, alert_id, user_id)
