"""`/health`, `/health/detailed` and `/metrics`: for supervisors and operators, without a token and without secrets."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from comms.health.checks import Health, examine
from comms.http import InHouse
from comms.readings.lag import measure_lag
from models.records import Record

router = APIRouter(tags=["operations"])


class Alive(Record):
    status: Literal["ok"] = "ok"


@router.get("/health")
async def health() -> Alive:
    """Whether this process answers; nothing else is asked."""
    return Alive()


@router.get("/health/detailed", responses={503: {"model": Health, "description": "Nothing can be taken now"}})
async def detailed_health(house: InHouse, request: Request, response: Response) -> Health:
    """Database, storage, models, and how the child that opens files is confined; 503 where nothing can be taken."""
    found = await examine(house, request.app.state.confinement)
    if found.status == "down":
        response.status_code = 503
    return found


@router.get("/metrics", response_class=Response)
async def metrics(house: InHouse) -> Response:
    """Measurements in Prometheus' text format."""
    await measure_lag(house)
    return Response(house.metrics.render(), media_type=CONTENT_TYPE_LATEST)
