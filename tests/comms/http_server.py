"""Runs an application on a real port, for tests that need real connections: WebSockets and streaming."""

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
    """A loopback port on which nothing listens now."""
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
    """The server's address (`127.0.0.1:port`) until the block ends. The caller runs the application's lifespan.

    `send_buffer_bytes`: the kernel's send buffer for each client; None for the kernel's default.
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
