"""Scanning for malware: a port, and ClamAV behind it (its daemon's INSTREAM protocol).

What a scanner cannot look at is not taken: a scanner that is down keeps attachments out, it does not wave them through.
"""

import asyncio
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO, Final, Protocol
from urllib.parse import urlsplit

from comms.settings import Settings
from comms.tasks import end
from models.errors import WriteCareError, invalid, too_large, unavailable

_PIECE_BYTES: Final = 1 << 17
_SIGNATURE: Final = re.compile(r"[^A-Za-z0-9._:/()-]")
_MAX_REPLY: Final = 1 << 12


class Infected(Exception):
    """Raised over a file in which malware was found; `signature` is the scanner's name for it, a code."""

    def __init__(self, signature: str) -> None:
        super().__init__(signature)
        self.signature = signature


class Scanner(Protocol):
    """Looks for malware."""

    async def scan(self, file: BinaryIO) -> str | None:
        """Who looked (scanner and version of its signatures) and found nothing; None where nobody looks.

        Raises `Infected`, `too_large` (`attachment-too-large-to-scan`), `unavailable` (`scanner-unavailable`).
        """
        ...


class NoScanner:
    """Where the settings name none: files are opened and cleaned all the same (`comms/attachments/contents.py`)."""

    async def scan(self, file: BinaryIO) -> str | None:
        """None: nobody looks."""
        return None


class ClamAV:
    """A clamd, at a TCP address or a Unix socket."""

    def __init__(self, url: str, patience_seconds: float = 60.0) -> None:
        """`tcp://host:3310` or `unix:/run/clamav/clamd.ctl`; raises `invalid` (`clamd-url-invalid`) for another."""
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname, parts.port or 3310, parts.path
        self._patience_seconds = patience_seconds
        if not {"tcp": self._host, "unix": self._path}.get(parts.scheme):
            raise invalid("clamd-url-invalid", "WRITECARE_CLAMD_URL is tcp://host:3310 or unix:/run/clamav/clamd.ctl.")

    async def ping(self) -> None:
        """Raises `unavailable` (`scanner-unavailable`) where it does not answer."""
        if await self._ask(b"PING") != "PONG":
            raise _unavailable()

    async def scan(self, file: BinaryIO) -> str | None:
        """As `Scanner.scan`, from the file's beginning, where it is left again."""
        version = await self._ask(b"VERSION")
        file.seek(0)
        reply = await self._ask(b"INSTREAM", file)
        file.seek(0)
        if reply == "stream: OK":
            return _SIGNATURE.sub("_", version)[:100]
        if reply.startswith("stream: ") and reply.endswith(" FOUND"):
            found = reply.removeprefix("stream: ").removesuffix(" FOUND")
            raise Infected(_SIGNATURE.sub("_", found)[:100])
        if reply.startswith("INSTREAM size limit exceeded"):
            raise too_large("attachment-too-large-to-scan", "The file is larger than the scanner looks at: send less.")
        raise _unavailable()

    async def _ask(self, command: bytes, file: BinaryIO | None = None) -> str:
        """The answer to a command, with the file behind it where there is one; raises `unavailable`."""
        try:
            async with asyncio.timeout(self._patience_seconds), self._connection() as (reader, writer):
                answer = asyncio.create_task(reader.readuntil(b"\0"))
                try:
                    await _say(writer, command, file, answer)
                    return (await answer)[:-1].decode(errors="replace").strip()
                finally:
                    await end({answer})
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            raise _unavailable() from None

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        if self._host is not None:
            reader, writer = await asyncio.open_connection(self._host, self._port, limit=_MAX_REPLY)
        else:
            reader, writer = await asyncio.open_unix_connection(self._path, limit=_MAX_REPLY)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()  # the answer is all that is wanted: nothing is waited for


def open_scanner(settings: Settings) -> Scanner:
    """The scanner that settings name; raises as `ClamAV`."""
    return ClamAV(settings.clamd_url) if settings.clamd_url is not None else NoScanner()


async def _say(
    writer: asyncio.StreamWriter, command: bytes, file: BinaryIO | None, answer: "asyncio.Task[bytes]"
) -> None:
    """The command, then the file in pieces with their lengths, as long as there is no answer.

    clamd answers and hangs up as soon as it has seen more than it looks at: what fails here then is no matter.
    """
    writer.write(b"z" + command + b"\0")
    try:
        if file is not None:
            while not answer.done() and (piece := await asyncio.to_thread(file.read, _PIECE_BYTES)):
                writer.write(struct.pack(">I", len(piece)) + piece)
                await writer.drain()
            writer.write(struct.pack(">I", 0))
        await writer.drain()
    except ConnectionError:
        return


def _unavailable() -> WriteCareError:
    return unavailable("scanner-unavailable", "The malware scanner does not answer: nothing was kept. Try again.")
