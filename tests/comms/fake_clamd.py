"""A server that speaks clamd's protocol as clamd does: z-commands, pieces with their lengths, its limit of size."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

# What every scanner finds, so that scanners can be tried (eicar.org); in two parts, or one would find it here.
EICAR: Final = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
SIGNATURE: Final = "Eicar-Test-Signature"
VERSION: Final = "ClamAV 1.4.3/27800/Mon Nov 23 2026"


class Clamd:
    """`most` bytes are looked at; `mood`: well, silent, or gone in the middle of what it is sent."""

    def __init__(self, most: int = 1 << 20) -> None:
        self.most = most
        self.mood = "well"
        self.seen: list[bytes] = []  # the files that it was sent whole
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one command."""
        try:
            command = (await reader.readuntil(b"\0"))[:-1]
            reply = await self._reply(command, reader)
            if reply is not None:
                writer.write(reply.encode() + b"\0")
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()  # with what was not read yet, the other side sees a reset, as clamd's does

    async def _reply(self, command: bytes, reader: asyncio.StreamReader) -> str | None:
        if self.mood == "silent":
            await reader.read()  # until the other side gives up
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
    """A running one: on a port of this machine, or on a socket at `path`."""
    made = Clamd(most)
    if path is not None:
        server: asyncio.Server = await asyncio.start_unix_server(made.serve, path)
        made.url = f"unix:{path}"
    else:
        server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
        made.url = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield made
