"""Routes for operators: `/health` is public; `/health/detailed` and `/metrics` need access. None of them shows
secrets.
"""

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
    """Answers if this process is running. It checks nothing else."""
    return Alive()


@router.get(
    "/health/detailed",
    dependencies=[OperatorAccess],
    responses={
        **problem_responses(401, 403, 429),
        503: {"model": Health, "description": "The API can accept nothing"},
    },
)
async def detailed_health(ctx: ContextDep, request: Request, response: Response) -> Health:
    """The state of database, storage, models, malware scanner and confinement of the audio decoder. 503 if the API can
    accept nothing.

    Needs the installation's operations token or a role with `operations.read`, as `/metrics` does.
    """
    found = await examine(ctx, request.app.state.confinement)
    if found.status == "down":
        response.status_code = 503
    return found


@router.get(
    "/metrics", response_class=Response, dependencies=[OperatorAccess], responses=problem_responses(401, 403, 429, 503)
)
async def metrics(ctx: ContextDep) -> Response:
    """Metrics in Prometheus' text format."""
    await update_lag_gauges(ctx)
    return Response(ctx.metrics.render(), media_type=CONTENT_TYPE_LATEST)
