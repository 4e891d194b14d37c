"""The model endpoints as the platform sees them: declared here, answered by Ray Serve, or by a query.

Bodies are those of `models/contract/endpoints.py`; they are described in the OpenAPI document, not read, so that they
stream.
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
    """The body goes on to Ray Serve unread, and its answer comes back as it is made."""
    return await model_client_of(request).forward(request)


def _without_references(schema: Any, definitions: dict[str, Any]) -> Any:
    """A JSON schema with its definitions written out in place: it stands by itself in the OpenAPI document."""
    if isinstance(schema, list):
        return [_without_references(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _without_references(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _without_references(part, definitions) for key, part in schema.items() if key != "$defs"}


def _schema(record: Any) -> dict[str, Any]:
    schema = record.model_json_schema()
    inline_policy: dict[str, Any] = _without_references(schema, schema.get("$defs", {}))
    return inline_policy


def _body(endpoint: Endpoint) -> dict[str, Any]:
    """The request body's description: single or batch as JSON, or audio with form fields."""
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
        responses={200: {"model": _answer(_endpoint.response), "description": "Of a single call, or of a batch"}},
        openapi_extra={"requestBody": {"required": True, "content": _body(_endpoint)}},
    )


@router.get("/communication-patterns")
async def read_communication_patterns(
    authorised: Annotated[AuthorisedRequest, authorised_for("patterns.read")],
    since: Annotated[Time | None, Query()] = None,
    until: Annotated[Time | None, Query()] = None,
) -> statistics.CommunicationPatterns:
    """Who talks how much, in which kinds of session; the last 30 days unless a period is named."""
    return await statistics.communication_patterns(authorised.conn, _period(since, until))


@router.get("/risk-indicators")
async def read_risk_indicators(
    authorised: Annotated[AuthorisedRequest, authorised_for("patterns.read")],
    since: Annotated[Time | None, Query()] = None,
    until: Annotated[Time | None, Query()] = None,
) -> statistics.RiskIndicators:
    """Where concerns gather: risk levels and categories, beside the period before. Signs, not findings."""
    return await statistics.risk_indicators(authorised.conn, _period(since, until))


def _period(since: datetime | None, until: datetime | None) -> statistics.Period:
    end = until or datetime.now(UTC)
    start = since or end - _PERIOD
    if not timedelta(0) < end - start <= _LONGEST_PERIOD:
        raise invalid("period-invalid", "since must lie before until, by two years at most.")
    return statistics.Period(since=start, until=end)
