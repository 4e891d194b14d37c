"""A fake clamd server that speaks the protocol like clamd: z-commands, chunks with lengths, a size limit."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

# The EICAR test file, which every scanner detects (eicar.org). In two parts, so that no scanner detects it in this
# file.
EICAR: Final = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
SIGNATURE: Final = "Eicar-Test-Signature"
VERSION: Final = "ClamAV 1.4.3/27800/Mon Nov 23 2026"


class Clamd:
    """`most`: maximum number of bytes. `mood`: well, silent, or disconnecting in the middle of a file."""

    def __init__(self, most: int = 1 << 20) -> None:
        self.most = most
        self.mood = "well"
        self.seen: list[bytes] = []  # the files that it received completely
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection with one command."""
        try:
            command = (await reader.readuntil(b"\0"))[:-1]
            reply = await self._reply(command, reader)
            if reply is not None:
                writer.write(reply.encode() + b"\0")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()  # unread data makes the other side see a reset, as with clamd

    async def _reply(self, command: bytes, reader: asyncio.StreamReader) -> str | None:
        if self.mood == "silent":
            await reader.read()  # until the client gives up
            return None
        if command == b"zPING":
            return "PONG"
        if command == b"zVERSION":
            return VERSION
        return await self._scanned(reader) if command == b"zINSTREAM" else "UNKNOWN COMMAND"

    async def _scanned(self, reader: asyncio.StreamReader) -> str | None:
        content = b""
        while length := struct.unpack(">I", await reader.readexactly(4))[0]:
            if len(content) + length > self.most:
                return "INSTREAM size limit exceeded. ERROR"
            content += await reader.readexactly(length)
            if self.mood == "gone":
                return None
        self.seen.append(content)
        return f"stream: {SIGNATURE} FOUND" if EICAR in content else "stream: OK"


@asynccontextmanager
async def clamd(most: int = 1 << 20, path: Path | None = None) -> AsyncIterator[Clamd]:
    """A running server: on a local port, or on a Unix socket at `path`."""
    made = Clamd(most)
    if path is not None:
        server: asyncio.Server = await asyncio.start_unix_server(made.serve, path)
        made.url = f"unix:{path}"
    else:
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
        made.url = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made
