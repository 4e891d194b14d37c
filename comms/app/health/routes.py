"""`/health` for everybody; `/health/detailed` and `/metrics` for supervisors and operators. None has secrets."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from comms.app.health.access import OperatorAccess
from comms.app.health.checks import Health, examine
from comms.safeguarding.message_assessments.backlog import update_lag_gauges
from comms.web.dependencies import ContextDep
from comms.web.problems import problem_responses
from models.contract.records import Record

router = APIRouter(tags=["operations"])


class Alive(Record):
    status: Literal["ok"] = "ok"


@router.get("/health")
async def health() -> Alive:
    """Whether this process answers; nothing else is asked."""
    return Alive()


@router.get(
    "/health/detailed",
    dependencies=[OperatorAccess],
    responses={**problem_responses(401, 403, 429), 503: {"model": Health, "description": "Nothing can be taken now"}},
)
async def detailed_health(ctx: ContextDep, request: Request, response: Response) -> Health:
    """Database, storage, models and the confinement of the audio decoder; 503 where nothing can be taken.

    For the installation's operations token, and for roles that may read operations; as the measurements.
    """
    found = await examine(ctx, request.app.state.confinement)
    if found.status == "down":
        response.status_code = 503
    return found


@router.get(
    "/metrics", response_class=Response, dependencies=[OperatorAccess], responses=problem_responses(401, 403, 429, 503)
)
async def metrics(ctx: ContextDep) -> Response:
    """Measurements in Prometheus' text format."""
    await update_lag_gauges(ctx)
    return Response(ctx.metrics.render(), media_type=CONTENT_TYPE_LATEST)
