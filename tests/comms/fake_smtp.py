"""A fake SMTP server on its own port that accepts and keeps every message (RFC 5321)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any


class MailServer:
    """The messages that the server has accepted, oldest first."""

    def __init__(self) -> None:
        self.received: list[EmailMessage] = []
        self.settings: dict[str, Any] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        writer.write(b"220 mail.test\r\n")
        while line := (await reader.readline()).strip():
            verb = line[:4].upper()
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                self._keep(await reader.readuntil(b"\r\n.\r\n"))
            writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            await writer.drain()
            if verb == b"QUIT":
                break
        writer.close()

    def _keep(self, data: bytes) -> None:
        message = message_from_bytes(data.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n."), policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.received.append(message)


@asynccontextmanager
async def mail_server() -> AsyncIterator[MailServer]:
    """A server until the block ends; puts its address into `settings`."""
    kept = MailServer()
    server = await asyncio.start_server(kept.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    kept.settings = {"smtp_host": "127.0.0.1", "smtp_port": port, "smtp_security": "none"}
    try:
        yield kept
    finally:
        server.close()
