"""The triage queue over HTTP: list, read, claim, review."""

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

_UNEXPLAINED_SUFFIX: Final = "w"  # of a view whose spans are waited for: who has it asks again and is not answered 304

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
    """The queue: open alerts first, by severity, then the longest waiting."""
    return await queries.list_alerts(
        authorised.conn, states=state, severities=severity, category=category, cursor=cursor, limit=limit
    )


@router.get("/{alert_id}")
async def read_alert(
    authorised: Annotated[AuthorisedRequest, authorised()], alert_id: UUID, response: Response
) -> AlertDetail:
    """One alert: the exact words in their context, where they are in the audio, the model's reasons. Logged.

    For those who may read alerts, and for whoever broke this one's glass. Of messages the words that moved the model
    come a little after the alert: `explained` says whether they are there. They change its ETag, not its version.
    """
    await require_permission_or_glass(authorised.conn, authorised.actor, alert_id, "alerts.read")
    detail = await queries.view_alert(authorised.conn, authorised.actor, alert_id)
    set_etag(response, detail.version, "" if detail.is_explained() else _UNEXPLAINED_SUFFIX)
    return detail


@router.post("/{alert_id}/claim", responses=problem_responses(412, 428))
async def claim_alert(authorised: DecideAccess, alert_id: UUID, response: Response, seen: SeenVersion) -> Alert:
    """Takes the alert as it was seen, so that no two people work on it; asking twice does no harm."""
    alert = await queries.claim_alert(authorised.conn, authorised.actor, alert_id, seen)
    set_etag(response, alert.version)
    return alert


@router.post("/{alert_id}/review", status_code=201, responses=problem_responses(412, 428))
async def review_alert(
    authorised: DecideAccess, alert_id: UUID, said: NewReview, response: Response, seen: SeenVersion
) -> Review:
    """A person's decision on the alert as they saw it, with the reason; it stays for good.

    `If-Match` names what was seen: where somebody has decided meanwhile, it is 412. The ETag of the answer is the
    alert's new version.
    """
    review, alert = await queries.review_alert(authorised.conn, authorised.actor, alert_id, said, seen)
    set_etag(response, alert.version)
    response.headers["Location"] = f"/api/alerts/{alert_id}"
    return review


@router.get("/{alert_id}/subjects")
async def list_subjects(authorised: ReadAccess, alert_id: UUID) -> AlertSubjects:
    """Whom the alert is about: named by a person, presumed because they spoke words that it cites, or cleared.

    Proposed ones wait for a second person; nobody sees that they themselves are proposed.
    """
    return await subjects.list_subjects(authorised.conn, alert_id)


@router.post("/{alert_id}/subjects", status_code=201)
async def name_subject(
    authorised: DecideAccess, alert_id: UUID, new: NewAlertSubject, response: Response
) -> AlertSubject:
    """The alert is about this person: from now on neither it nor what it rests on is to be seen by them.

    Where fewer than two other people would be left who are able to read it, the answer's `standing` is `proposed`, and
    nothing is withheld before a second person confirms it.
    """
    response.headers["Location"] = f"/api/alerts/{alert_id}/subjects"
    return await subjects.name_subject(authorised.conn, authorised.actor, alert_id, new.user_id)


@router.post("/{alert_id}/subjects/{user_id}/confirm")
async def confirm_subject(authorised: OverseeAccess, alert_id: UUID, user_id: UUID) -> AlertSubject:
    """Confirms, as a second person, that the alert is about the person whom somebody else proposed."""
    return await subjects.confirm_subject(authorised.conn, authorised.actor, alert_id, user_id)


@router.delete("/{alert_id}/subjects/{user_id}", status_code=204)
async def clear_subject(authorised: DecideAccess, alert_id: UUID, user_id: UUID) -> None:
    """The alert is not about this person, whatever was said or presumed before; or a proposal is declined."""
    await subjects.clear_subject(authorised.conn, authorised.actor, alert_id, user_id)
