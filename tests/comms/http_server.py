"""An application behind a real port, for what needs a real connection: WebSockets and streaming."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import uvicorn
from starlette.types import ASGIApp

from comms.app.server import WEBSOCKETS
from comms.web.uvicorn_protocol import TimeLimitedHttpProtocol


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def served(
    app: ASGIApp,
    protocol: type[TimeLimitedHttpProtocol] = TimeLimitedHttpProtocol,
    *,
    send_buffer_bytes: int | None = None,
) -> AsyncIterator[str]:
    """Its address (`127.0.0.1:port`) until the block ends; its lifespan is the caller's affair.

    `send_buffer_bytes`: how much the kernel may hold for each client that does not read; None: what it likes.
    """
    with socket.socket() as listening:
        if send_buffer_bytes is not None:  # connections inherit it
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
        listening.bind(("127.0.0.1", 0))
        host, port = listening.getsockname()
        config = uvicorn.Config(
            app,
            http=protocol,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=2,
            **WEBSOCKETS,
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            with anyio.fail_after(30):
                while not server.started:  # noqa: ASYNC110 (uvicorn offers no event for it)
                    await anyio.sleep(0.01)
            yield f"{host}:{port}"
        finally:
            server.should_exit = True
            await running
