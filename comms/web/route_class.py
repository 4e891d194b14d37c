"""What a route of the platform does beyond FastAPI's: a POST may be repeated under its key, a GET may be unchanged.

    router = APIRouter(prefix="/api/homes", tags=["homes"], route_class=PlatformRoute)

Both work on the finished answer, while the request's transaction is still open.
"""

from collections.abc import Callable
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from comms.kernel.optimistic_locking import is_known
from comms.web.idempotency import attempts
from comms.web.idempotency.attempts import Handler, answering_once

_IF_NONE_MATCH: Final[dict[str, Any]] = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag last seen: where it is still the present one, the answer is 304 without a body.",
    "schema": {"type": "string"},
    "example": '"3"',
}
UNCHANGED: Final[dict[int | str, dict[str, Any]]] = {304: {"description": "It is what If-None-Match names"}}


class PlatformRoute(APIRoute):
    """A route that takes `Idempotency-Key` (POST) or `If-None-Match` (GET of what has an ETag)."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        if self._makes():
            self._take_parameter(attempts.PARAMETER)
        elif self._reads() and (304 in self.responses or "version" in getattr(self.response_model, "model_fields", ())):
            self._take_parameter(_IF_NONE_MATCH)
            self.responses = {**self.responses, **UNCHANGED}

    def get_route_handler(self) -> Handler:
        answer = super().get_route_handler()
        if self._makes():
            return answering_once(answer)
        return _unless_unchanged(answer) if self._reads() else answer

    def _makes(self) -> bool:
        return "POST" in (self.methods or ())

    def _reads(self) -> bool:
        return "GET" in (self.methods or ())

    def _take_parameter(self, parameter: dict[str, Any]) -> None:
        said = self.openapi_extra or {}
        self.openapi_extra = {**said, "parameters": [*said.get("parameters", ()), parameter]}


def _unless_unchanged(answer: Handler) -> Handler:
    """The handler, answering 304 where the caller has this version already. What it writes (who read it) stays."""

    async def answer_if_changed(request: Request) -> Response:
        response = await answer(request)
        current = response.headers.get("ETag")
        if response.status_code != 200 or current is None:
            return response
        known = is_known(request.headers.get("If-None-Match"), current)
        return Response(status_code=304, headers={"ETag": current}) if known else response

    return answer_if_changed
