"""uvicorn's HTTP/1.1 protocol (httptools) with limits: on the size of headers, and on how slowly a request may arrive.

httptools limits neither. Without limits a client can make the process read headers without end, and connections that
send a byte now and then use up its capacity (slowloris).
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEADER_BYTES: Final = 32 << 10
HEADER_SECONDS: Final = 10.0
_CHUNK_BYTES: Final = 16 << 10
_BODY_CHECK_SECONDS: Final = 20.0
_LEAST_BODY_BYTES: Final = 20 << 7  # in that time: 128 bytes a second, slower than any connection that can carry a call

_ANSWER: Final = (
    "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\n"
    "connection: close\r\n\r\n{body}"
)
_BODY: Final = (
    '{{"type": "https://writecarenotes.com/problems/{slug}", "title": "{title}", "status": {code}, '
    '"detail": "{detail}"}}'
)


class TimeLimitedHttpProtocol(HttpToolsProtocol):
    """One per connection. The class attributes are limits that tests make smaller."""

    header_seconds = HEADER_SECONDS
    body_check_seconds = _BODY_CHECK_SECONDS
    least_body_bytes = _LEAST_BODY_BYTES

    _in_headers = True
    _begun = False  # whether the next request has begun to arrive
    _in_body = False
    _header_bytes = 0
    _body_bytes = 0
    _watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # in pieces, so that long headers that arrive in one read are detected, too
        for at in range(0, len(data), _CHUNK_BYTES):
            if self.transport.is_closing():
                return
            protocol: Any = self.transport.get_protocol()
            if protocol is not self:  # the connection has become a WebSocket
                protocol.data_received(data[at:])
                return
            self._receive(data[at : at + _CHUNK_BYTES])

    def _receive(self, piece: bytes) -> None:
        if self._in_headers:
            self._header_bytes += len(piece)
        elif self._in_body:
            self._body_bytes += len(piece)
        super().data_received(piece)
        # the counted bytes may include the body: headers are too long only if they are not complete yet
        if self._in_headers and self._header_bytes > MOST_HEADER_BYTES:
            self._answer_and_close(
                431, "headers-too-large", f"Headers may have at most {MOST_HEADER_BYTES} bytes: send fewer."
            )

    def on_message_begin(self) -> None:
        if self._watch is None:  # the next request of a kept-alive connection
            self._await_headers()
        self._begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_watching()
        self._in_headers, self._in_body, self._begun = False, True, False
        self._header_bytes = self._body_bytes = 0
        super().on_headers_complete()
        self._watch = self.loop.call_later(self.body_check_seconds, self._check_body_rate)

    def on_message_complete(self) -> None:
        self._stop_watching()
        self._in_headers, self._in_body = True, False
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        self._stop_watching()
        super().handle_websocket_upgrade()

    def _await_headers(self) -> None:
        self._watch = self.loop.call_later(self.header_seconds, self._on_slow_headers)

    def _on_slow_headers(self) -> None:
        self._watch = None
        if not self._in_headers or self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_headers()  # an answer is being sent: the next request may wait for it
        elif not self._begun:
            self.transport.close()
        else:
            detail = f"All headers must arrive within {self.header_seconds:g} seconds: send faster."
            self._answer_and_close(408, "request-too-slow", detail)

    def _check_body_rate(self) -> None:
        """Closes a connection whose body arrives too slowly, unless this server itself has paused reading."""
        self._watch = None
        if not self._in_body or self.transport.is_closing():
            return
        wanted = not self.flow.read_paused and not (self.cycle and self.cycle.waiting_for_100_continue)
        if wanted and self._body_bytes < self.least_body_bytes:
            self.transport.abort()  # no error is sent: the application may already have begun to answer
            return
        self._body_bytes = 0
        self._watch = self.loop.call_later(self.body_check_seconds, self._check_body_rate)

    def _answer_and_close(self, code: int, slug: str, detail: str) -> None:
        self._stop_watching()
        title = "Request Timeout" if code == 408 else "Request Header Fields Too Large"
        if self.cycle is None or self.cycle.response_complete:
            body = _BODY.format(slug=slug, title=title, code=code, detail=detail)
            text = _ANSWER.format(status=f"{code} {title}", length=len(body), body=body)
            self.transport.write(text.encode("ascii"))
        self.transport.close()

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
