"""Completes the OpenAPI document: adds to FastAPI's description of the routes what is true of all of them.

In `/openapi.json` every operation has a permanent id (its function's name), each body and answer an example, each
problem its media type, and the limits of size and rate are described. `tests/comms/web/test_openapi.py` checks it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute

from comms.web.openapi_examples import example_of
from comms.web.problems import MEDIA_TYPE, ProblemDetails, description_of, example_problem

DESCRIPTION: Final = """\
The API records care conversations on a lawful basis, transcribes them, assesses them for safeguarding concerns and
shows the results to a person who decides. Sign in with `Authorization: Bearer <token>`. Every failure is an RFC 9457
problem with a stable `type`. Lists are `{"items": […], "next": cursor or null}`; send the cursor as `?cursor=` to get
the next page.

You may repeat a POST with the `Idempotency-Key` of the first request: it has one effect, and the repeat gets the first
answer. A record that changes has a version, which is its `ETag`. `If-Match` protects a change from overwriting a newer
version (decisions on alerts must send it). `If-None-Match` avoids sending a record that you already have. HEAD is
supported wherever GET is. Times are RFC 3339 with offset. Requests are counted per person and per tenant: `RateLimit`
says how many are left; an answer 429 says when to try again.

WebSockets: get a ticket with `POST /api/ws/tickets`, then open `/ws/alerts?ticket=…` (new and reviewed alerts, for
users who may read alerts), `/ws/sessions/{session_id}?ticket=…` (the events of one session: its status, its
participants, its recordings, and who is connected) or `/ws/messaging?ticket=…` (`message.*` and `conversation.*` of the
user's conversations, only of the time of their membership). Each event is a CloudEvent as JSON text, with only ids and
codes. Messages without a `position` are not events and are not repeated. Send `&after=<position>` with the
position of the last event that you received, to get the events that you missed; without it, a socket sends only new
events. On the messaging socket a client may send, as JSON, `{"type": "enter", "conversation_id": …}` (it then receives
`presence`, `presence.joined`, `presence.left`, `typing.started`, `typing.stopped`, `receipt.delivered` and
`receipt.read` of that conversation), `leave`, `typing`, and `{"type": "delivered", "position": …}`. A message that
cannot be handled is answered with `{"type": "problem"}`. The other sockets ignore what a client sends. A client that
sends too many messages is disconnected with 1008. A socket is refused with a problem before it opens. It is closed with
4401 when its sign-in has ended, with 1013 when the client was too slow, and with 1012 after an hour: connect again with
a new ticket.
"""

_TAGS: Final[Mapping[str, str]] = {
    "identity": "The signed-in user, and what their role may do.",
    "tenants": "Care groups; only for the platform's administrator.",
    "homes": "The homes of a care group.",
    "people": "Staff, residents, relatives, professionals.",
    "sessions": "Calls, meetings, handovers, and their participants.",
    "break-glass": "Read withheld data in an emergency: for a limited time, and audited.",
    "guests": "People without an account, who join one session with a link.",
    "conversations": "Conversations, their members and read receipts; only members see them.",
    "messages": "Messages, their earlier versions, and search.",
    "consent": "Lawful bases, and the consent that people gave, refused or withdrew.",
    "recordings": "Upload, playback, transcripts, assessment and erasure of recordings.",
    "alerts": "Concerns that the models found, for a person who decides.",
    "retention": "Retention periods, and holds that keep the data of a case longer.",
    "audit": "The audit log, and the proof that nobody has changed it.",
    "live events": "Tickets for the WebSockets described above.",
    "webhooks": "Addresses to which a tenant's events are sent, signed, and the state of each delivery.",
    "models": "The model endpoints, and patterns in what the models found.",
    "operations": "Health and metrics, for supervisors.",
}
_PROBLEM: Final = {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}
_LIMIT_HEADERS: Final[dict[str, Any]] = {
    "RateLimit": {
        "description": "Requests that are left (`r`) for the next `t` seconds, of this person and of their tenant.",
        "schema": {"type": "string"},
        "example": '"user";r=11999;t=42, "tenant";r=119999;t=42',
    }
}


def operation_id(route: APIRoute) -> str:
    """The permanent id of an operation: the name of its function, also if its address changes."""
    return route.name.replace("-", "_")


def install_openapi(app: FastAPI) -> None:
    """Completes the document of `app`; call it when all routes are included."""
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
    """The content of a problem: FastAPI would describe it with the usual media type of the route."""
    return {MEDIA_TYPE: {"schema": _PROBLEM, "example": example_problem(int(status))}}
