"""The OpenAPI document, made whole: what FastAPI writes of the routes, and what is true of all of them alike.

`/openapi.json` names every operation for good (its function's name), gives each body and answer an example, each
problem its media type, and says which sizes and rates are refused. `tests/comms/web/test_openapi.py` holds it to that.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute

from comms.web.openapi_examples import example_of
from comms.web.problems import MEDIA_TYPE, ProblemDetails, description_of, example_problem

DESCRIPTION: Final = """\
Care conversations, recorded with a lawful ground, transcribed, read for safeguarding concerns and put before a
person who decides. Sign in with `Authorization: Bearer <token>`. Every failure is an RFC 9457 problem with a stable
`type`. Lists are `{"items": […], "next": cursor or null}`; pass the cursor back as `?cursor=`.

A POST may be sent again under the `Idempotency-Key` of the first time: it is done once, and answered as it was. A
record that changes has a version, which is its `ETag`: `If-Match` guards a change (decisions on alerts
must have it), `If-None-Match` saves a reading. HEAD is answered wherever GET is. Times are RFC 3339 with offset.
Requests are counted for each person and each tenant: `RateLimit` says what is left, 429 when to go on.

WebSockets: fetch a ticket with `POST /api/ws/tickets`, then open `/ws/alerts?ticket=…` (new and reviewed alerts, for
those who may read alerts), `/ws/sessions/{session_id}?ticket=…` (the course of one session, who comes and goes, its
recordings, and who is connected) or `/ws/messaging?ticket=…` (`message.*` and `conversation.*` of all conversations
that one is in, each of one's own time). Each event is a CloudEvent as JSON text, with ids and codes alone; messages
without a `position` are none and are not told again. `&after=<position>`, the position of the last event seen, brings
a client that was away back to where it was; without it a socket tells what comes. On the messaging socket a client
may say, as JSON, `{"type": "enter", "conversation_id": …}` (it is then told `presence`, `presence.joined`,
`presence.left`, `typing.started`, `typing.stopped`, `receipt.delivered` and `receipt.read` of that conversation),
`leave`, `typing`, and `{"type": "delivered", "position": …}`; what cannot be done is answered with `{"type":
"problem"}`. On the others nothing that a client sends is read. Who sends much is closed with 1008. A socket is
refused with a problem before it opens; it is closed with 4401 when its sign-in has ended, with 1013 when it was too
slow, with 1012 after an hour: come back with a new ticket.
"""

_TAGS: Final[Mapping[str, str]] = {
    "identity": "Who is signed in, and what their role may do.",
    "tenants": "Care groups, for the platform's administrator alone.",
    "homes": "The homes of a care group.",
    "people": "Staff, residents, relatives, professionals.",
    "sessions": "Calls, meetings, handovers, and who takes part.",
    "break-glass": "Past a rule of need to know, loudly and for a while.",
    "guests": "People without an account, let into one session by a link.",
    "conversations": "Who talks with whom, who has read what; members alone see them.",
    "messages": "What was written, what it was before, and where it is found.",
    "consent": "Lawful grounds, and what people said when they were asked.",
    "recordings": "Taken in, heard, transcribed, read, erased.",
    "alerts": "What the models heard, before a person who decides.",
    "retention": "How long things are kept, and what a case holds beyond that.",
    "audit": "Who did what, and that nobody has changed the log of it.",
    "live events": "Tickets for the WebSockets described above.",
    "webhooks": "Where else a tenant's events are sent, signed, and what became of each.",
    "models": "The model endpoints, and the patterns that what they found makes.",
    "operations": "Health and measurements, for supervisors.",
}
_PROBLEM: Final = {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}
_LIMIT_HEADERS: Final[dict[str, Any]] = {
    "RateLimit": {
        "description": "Requests left (`r`) for how many seconds (`t`), of this person and of their tenant.",
        "schema": {"type": "string"},
        "example": '"user";r=11999;t=42, "tenant";r=119999;t=42',
    }
}


def operation_id(route: APIRoute) -> str:
    """An operation's name for good: its function's, whatever its address becomes."""
    return route.name.replace("-", "_")


def install_openapi(app: FastAPI) -> None:
    """Makes the document of `app` whole; call it when all routes are included."""
    undescribed = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = undescribed()
            used = {tag for _, operation in _operations(document) for tag in operation["tags"]}
            document["tags"] = [{"name": tag, "description": text} for tag, text in _TAGS.items() if tag in used]
            for path, operation in _operations(document):
                _complete(path, operation, document["components"]["schemas"])
        return undescribed()

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's own way to extend the document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            yield path, operation


def _complete(path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    if "requestBody" in operation:
        operation["responses"].setdefault(
            "413", {"description": description_of(413), "content": _problem_content("413")}
        )
        _exemplify(operation["requestBody"]["content"], schemas)
    for status, answer in operation["responses"].items():
        if status[0] in "45" and _is_problem(answer):
            answer["content"] = _problem_content(status)
        else:
            _exemplify(answer.get("content", {}), schemas)
        if path.startswith("/api/") and status != "401":
            answer["headers"] = {**answer.get("headers", {}), **_LIMIT_HEADERS}
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            parameter.setdefault("example", example_of(parameter["schema"], schemas, parameter["name"]))


def _exemplify(content: dict[str, Any], schemas: dict[str, Any]) -> None:
    for media_type, described in content.items():
        if media_type == "application/json" and described.get("schema"):
            described.setdefault("example", example_of(described["schema"], schemas))


def _is_problem(answer: dict[str, Any]) -> bool:
    return _PROBLEM in [kind.get("schema") for kind in answer.get("content", {}).values()]


def _problem_content(status: str) -> dict[str, Any]:
    """FastAPI describes every answer as the route's usual media type: a problem has its own."""
    return {MEDIA_TYPE: {"schema": _PROBLEM, "example": example_problem(int(status))}}
