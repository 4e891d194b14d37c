"""Middleware for every request: request id, host check, size limit, log line, metrics, security headers.

It is plain ASGI, so that bodies stream through unchanged. A HEAD request is answered as a GET without its body. The log
line has the route's pattern and numbers: no bodies, no query strings, nothing that a person wrote.
"""

import time
import traceback
import uuid
from collections.abc import Mapping
from typing import Any, Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from comms.kernel.metrics import Metrics
from comms.kernel.settings import Settings
from comms.web.allowed_hosts import AllowedHosts
from comms.web.problems import problem, problem_of
from comms.web.security_headers import SECURITY_HEADERS, STRICT_TRANSPORT, is_encrypted
from models.contract.errors import WriteCareError, too_large

_REQUEST_ID: Final = "X-Request-ID"
_MAX_JSON_BYTES: Final = 16 << 20
METHOD: Final = "writecare.method"  # key in the scope: the method that the client sent


class RequestMiddleware:
    """The outermost middleware of the application."""

    def __init__(self, app: ASGIApp, *, settings: Settings, metrics: Metrics, uploads: Mapping[str, int]) -> None:
        """`uploads`: the size limit in bytes per path prefix that takes files; other bodies are JSON in memory."""
        self._app = app
        self._settings = settings
        self._hosts = AllowedHosts.from_settings(settings)
        self._metrics = metrics
        self._uploads = uploads
        self._log = structlog.get_logger("comms.http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._handle_websocket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A copy: the server needs to know that it was HEAD, the application answers a GET.
        scope = {**scope, "method": "GET" if scope["method"] == "HEAD" else scope["method"], METHOD: scope["method"]}
        exchange = _HttpExchange(scope, send, encrypted=is_encrypted(scope, self._settings))
        limit = self._limit(scope["path"])
        try:
            self._hosts.refuse_unknown_host(scope)
            _check_content_length(scope, limit)
            await self._app(scope, _limit_body(receive, limit), exchange.send)
        except WriteCareError as error:
            await exchange.answer(problem_of(error, exchange.request_id))
        except Exception as error:
            # Nothing of the error may reach the caller. Its text may quote the data that caused it, so it is not
            # even logged: the type and the location are enough.
            self._log.error(
                "failed", request_id=exchange.request_id, error=type(error).__name__, at=_traceback_locations(error)
            )
            sorry = "The server failed; the error is logged with this request_id: report it to the administrator."
            await exchange.answer(problem(500, "internal-error", sorry, request_id=exchange.request_id))
        finally:
            self._log_and_measure(scope, exchange)

    async def _handle_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses a WebSocket with a foreign host name before reading from it, like a request."""
        try:
            self._hosts.refuse_unknown_host(scope)
        except WriteCareError as error:
            await WebSocket(scope, receive, send).send_denial_response(problem_of(error))
            return
        await self._app(scope, receive, send)

    def _limit(self, path: str) -> int:
        return next((most for below, most in self._uploads.items() if path.startswith(below)), _MAX_JSON_BYTES)

    def _log_and_measure(self, scope: Scope, exchange: "_HttpExchange") -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method, status, seconds = scope[METHOD], exchange.status, time.perf_counter() - exchange.started
        if method not in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            method = "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.request_seconds.labels(method, route).observe(seconds)
        self._log.info(
            "answered", method=method, route=route, status=status, seconds=round(seconds, 4),
            request_id=exchange.request_id,
        )  # fmt: skip


class _HttpExchange:
    """One request and its answer: its id, and the status that was sent."""

    def __init__(self, scope: Scope, send: Send, *, encrypted: bool) -> None:
        self.request_id = str(uuid.uuid4())
        self._encrypted = encrypted
        self.started = time.perf_counter()
        self.status = 0  # 0: the client disconnected before an answer
        self._scope = scope
        self._send = send
        scope.setdefault("state", {})["request_id"] = self.request_id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[_REQUEST_ID] = self.request_id
            headers.update(self._scope["state"].get("headers", {}))  # the rate limits of a signed-in request
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if self._encrypted:
                headers.setdefault(*STRICT_TRANSPORT)
        elif is_head(self._scope):
            message = {**message, "body": b""}
        await self._send(message)

    async def answer(self, response: ASGIApp) -> None:
        """Sends the response, unless the application has already begun to answer."""
        if self.status == 0:
            await response(self._scope, _receive_disconnect, self.send)


def is_head(scope: Scope) -> bool:
    """Whether the client sent HEAD, while the application sees a GET."""
    return bool(scope.get(METHOD) == "HEAD")


def _check_content_length(scope: Scope, limit: int) -> None:
    announced = Headers(scope=scope).get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise _body_too_large(limit)


def _limit_body(receive: Receive, limit: int) -> Receive:
    """Wraps `receive`: it refuses a body that is longer than the limit, whatever its Content-Length is."""
    taken = 0

    async def receive_limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise _body_too_large(limit)
        return message

    return receive_limited


def _body_too_large(limit: int) -> WriteCareError:
    return too_large("body-too-large", f"The body may have at most {limit} bytes here: send a smaller one.")


async def _receive_disconnect() -> Message:
    return {"type": "http.disconnect"}


def _traceback_locations(error: BaseException) -> list[str]:
    frames: list[Any] = traceback.extract_tb(error.__traceback__)[-4:]
    return [f"{frame.name}:{frame.lineno}" for frame in frames]
