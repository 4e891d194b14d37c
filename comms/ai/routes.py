"""HTTP routes of the model API: declared here, answered by Ray Serve or by a database query.

The bodies are those of `models/contract/endpoints.py`. The OpenAPI document describes them, but this module does not
parse them, so that they can be streamed.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import StreamingResponse

from comms.ai import statistics
from comms.ai.model_client import model_client_of
from comms.kernel.time_types import Time
from comms.web.dependencies import AuthorisedRequest, actor_with, authorised_for
from models.contract.endpoints import ENDPOINTS, Batch, BatchResults, Endpoint
from models.contract.errors import invalid

router = APIRouter(prefix="/api/ai", tags=["models"])

_PERIOD: Final = timedelta(days=30)
_LONGEST_PERIOD: Final = timedelta(days=731)


async def forward_call(request: Request) -> StreamingResponse:
    """Forwards the body to Ray Serve without reading it, and streams the response back."""
    return await model_client_of(request).forward(request)


def _without_references(schema: Any, definitions: dict[str, Any]) -> Any:
    """Replaces each reference in a JSON schema by its definition, so that the OpenAPI document can contain the
    schema."""
    if isinstance(schema, list):
        return [_without_references(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _without_references(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _without_references(part, definitions) for key, part in schema.items() if key != "$defs"}


def _schema(record: Any) -> dict[str, Any]:
    schema = record.model_json_schema()
    inlined_schema: dict[str, Any] = _without_references(schema, schema.get("$defs", {}))
    return inlined_schema


def _body(endpoint: Endpoint) -> dict[str, Any]:
    """Describes the request body: single or batch as JSON, or audio with form fields."""
    if endpoint.call != "transcribe":
        shapes = [_schema(endpoint.request), _schema(Batch[endpoint.request])]  # type: ignore[name-defined]
        return {"application/json": {"schema": {"oneOf": shapes}}}
    form = _schema(endpoint.request)
    audio = {"type": "array", "items": {"type": "string", "format": "binary"}}
    form["properties"] = {**form["properties"], "audio": audio, "items": audio}
    return {"multipart/form-data": {"schema": form}}


def _answer(response: Any) -> Any:
    return response | BatchResults[response]


for _endpoint in ENDPOINTS:
    router.add_api_route(
        f"/{_endpoint.call}",
        forward_call,
        methods=["POST"],
        name=_endpoint.call,
        summary=_endpoint.title,
        description=(_endpoint.request.__doc__ or "") + "\n\nAnswer: " + (_endpoint.response.__doc__ or ""),
        dependencies=[actor_with("models.use")],
        response_class=StreamingResponse,
        responses={200: {"model": _answer(_endpoint.response), "description": "The result of a call or of a batch"}},
        openapi_extra={"requestBody": {"required": True, "content": _body(_endpoint)}},
    )


@router.get("/communication-patterns")
async def read_communication_patterns(
    authorised: Annotated[AuthorisedRequest, authorised_for("patterns.read")],
    since: Annotated[Time | None, Query()] = None,
    until: Annotated[Time | None, Query()] = None,
) -> statistics.CommunicationPatterns:
    """Counts who speaks how much in which type of session; in the last 30 days unless a period is given."""
    return await statistics.communication_patterns(authorised.conn, _period(since, until))


@router.get("/risk-indicators")
async def read_risk_indicators(
    authorised: Annotated[AuthorisedRequest, authorised_for("patterns.read")],
    since: Annotated[Time | None, Query()] = None,
    until: Annotated[Time | None, Query()] = None,
) -> statistics.RiskIndicators:
    """Counts risk levels and concern categories, beside those of the previous period. They are signs, not findings."""
    return await statistics.risk_indicators(authorised.conn, _period(since, until))


def _period(since: datetime | None, until: datetime | None) -> statistics.Period:
    end = until or datetime.now(UTC)
    start = since or end - _PERIOD
    if not timedelta(0) < end - start <= _LONGEST_PERIOD:
        raise invalid("period-invalid", "since must be before until, by at most 731 days.")
    return statistics.Period(since=start, until=end)
