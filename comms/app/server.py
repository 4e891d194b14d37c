"""The API process: `python -m comms.app.server`. The launcher starts it and passes the settings in the environment."""

import gc
import signal
import socket
import sys
from types import FrameType
from typing import Any, Final

import uvicorn

from comms.app.application import create_app
from comms.kernel.json_logging import write_json_logs
from comms.kernel.settings import Settings
from comms.web.uvicorn_protocol import TimeLimitedHttpProtocol

# Client messages are short. To compress a short event for each of 500 sockets takes longer than to send it.
WEBSOCKETS: Final[dict[str, Any]] = {"ws_max_size": 1 << 16, "ws_per_message_deflate": False}
_GRACE_SECONDS = 5  # for open WebSockets and downloads; the launcher waits a little longer


def main() -> int:
    """Serves until SIGTERM or SIGINT. Exit code 0 after a clean stop, 1 if the server did not start."""
    # On both signals uvicorn stops gracefully and then calls the handler that was installed before: this one.
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, _exit)
    settings = Settings()
    write_json_logs()
    app = create_app(settings)
    gc.freeze()  # objects made until now stay: scanning them took a fifth of a busy process' time
    server = uvicorn.Server(
        uvicorn.Config(
            app, http=TimeLimitedHttpProtocol, host=settings.host, port=settings.port, log_config=None,
            access_log=False, timeout_graceful_shutdown=_GRACE_SECONDS, server_header=False, proxy_headers=False,
            lifespan="on", **WEBSOCKETS,
        )
    )  # fmt: skip
    server.run(sockets=[_open_shared_port(settings)] if settings.api_processes > 1 else None)
    return 0 if server.started else 1


def _open_shared_port(settings: Settings) -> socket.socket:
    """Opens the port for one of several processes; the kernel distributes new connections among them."""
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((settings.host, settings.port))
    return listener


def _exit(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
