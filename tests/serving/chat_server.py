"""A server that speaks the chat-completions protocol, for tests of what asks one."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def chat_server(
    content: Any, status: int = 200, delay: threading.Event | None = None
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Gives `content` as every chat's completion, or one of a list after another; with what it was asked.

    `delay`: no answer is given before it is set.
    """
    asked: list[dict[str, Any]] = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({"path": self.path, "key": self.headers["Authorization"], **body})
            if delay is not None:
                delay.wait()
            many = isinstance(content, Sequence) and not isinstance(content, str)
            told = content[len(asked) - 1] if many else content
            answer = json.dumps({"choices": [{"message": {"role": "assistant", "content": told}}]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        server.server_close()
