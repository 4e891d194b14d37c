"""The route class of the platform: it adds `Idempotency-Key` to POST and `If-None-Match` to GET.

    router = APIRouter(prefix="/api/homes", tags=["homes"], route_class=PlatformRoute)

Both use the finished answer, while the request's transaction is still open.
"""

from collections.abc import Callable
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from comms.kernel.optimistic_locking import etag_matches
from comms.web.idempotency import attempts
from comms.web.idempotency.attempts import Handler, with_idempotency_key

_IF_NONE_MATCH_PARAMETER: Final[dict[str, Any]] = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag that you last read: if it is still current, the answer is 304 without a body.",
    "schema": {"type": "string"},
    "example": '"3"',
}
UNCHANGED: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "Not changed: If-None-Match names the current ETag"}
}


class PlatformRoute(APIRoute):
    """A route that takes `Idempotency-Key` (POST) or `If-None-Match` (GET of a resource with an ETag)."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        if self._is_post():
            self._add_openapi_parameter(attempts.PARAMETER)
        elif self._is_get() and (
            304 in self.responses or "version" in getattr(self.response_model, "model_fields", ())
        ):
            self._add_openapi_parameter(_IF_NONE_MATCH_PARAMETER)
            self.responses = {**self.responses, **UNCHANGED}

    def get_route_handler(self) -> Handler:
        answer = super().get_route_handler()
        if self._is_post():
            return with_idempotency_key(answer)
        return _with_not_modified(answer) if self._is_get() else answer

    def _is_post(self) -> bool:
        return "POST" in (self.methods or ())

    def _is_get(self) -> bool:
        return "GET" in (self.methods or ())

    def _add_openapi_parameter(self, parameter: dict[str, Any]) -> None:
        said = self.openapi_extra or {}
        self.openapi_extra = {**said, "parameters": [*said.get("parameters", ()), parameter]}


def _with_not_modified(answer: Handler) -> Handler:
    """Wraps a handler: it answers 304 if the caller has this version. What it wrote (who read it) is committed."""

    async def answer_if_changed(request: Request) -> Response:
        response = await answer(request)
        current = response.headers.get("ETag")
        if response.status_code != 200 or current is None:
            return response
        known = etag_matches(request.headers.get("If-None-Match"), current)
        return Response(status_code=304, headers={"ETag": current}) if known else response

    return answer_if_changed
