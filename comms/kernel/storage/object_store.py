"""Storage of sealed tracks and attachments: a folder, S3 or Azure behind one interface. It holds only ciphertext.

A put stores the complete object or nothing (a local file is renamed into place, a cloud's multipart upload is
completed), so that a reader never gets part of an object.
"""

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from comms.kernel.settings import Settings
from comms.kernel.storage.segment_encryption import ByteRange
from models.contract.errors import WriteCareError, missing, unavailable

_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class StoredObject:
    """An object in a listing."""

    key: str
    size_bytes: int
    changed_at: datetime


class Objects:
    """The object store of the settings."""

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    @classmethod
    def open(cls, settings: Settings) -> "Objects":
        """Opens `settings.storage_url`, else `recordings` in the data folder. Credentials come from the environment."""
        url = settings.storage_url or (settings.data_dir.resolve() / "recordings").as_uri()
        parts = urlsplit(url)
        if parts.scheme == "file":
            folder = Path(unquote(parts.path))
            return cls(LocalStore(folder, mkdir=True, automatic_cleanup=True), folder)
        return cls(from_url(url))

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> None:
        """Stores the pieces under `key`, all or none; raises `unavailable`, or what `pieces` raises."""
        try:
            await obstore.put_async(self._store, key, pieces, use_multipart=True)
        except BaseError as error:
            raise _unreachable(error) from None

    async def get(self, key: str, byte_range: ByteRange) -> AsyncIterator[bytes]:
        """The bytes of the range, in pieces; raises `missing`, `unavailable`."""
        try:
            found = await obstore.get_async(self._store, key, options={"range": (byte_range.start, byte_range.end)})
            async for piece in found.stream(min_chunk_size=_PIECE_BYTES):
                yield bytes(piece)
        except FileNotFoundError:
            raise missing("stored object") from None
        except BaseError as error:
            raise _unreachable(error) from None

    async def delete(self, key: str) -> None:
        """Deletes the object, if it exists; raises `unavailable`."""
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise _unreachable(error) from None

    async def list_under(self, folder: str) -> AsyncIterator[StoredObject]:
        """All objects whose key begins with `folder/`; raises `unavailable`."""
        try:
            async for batch in obstore.list(self._store, folder):
                for item in batch:
                    yield StoredObject(item["path"], item["size"], item["last_modified"])
        except BaseError as error:
            raise _unreachable(error) from None

    async def probe(self) -> None:
        """Writes, reads and deletes a small object; raises `unavailable` if any step fails."""
        key, expected = f"health/{secrets.token_hex(8)}", secrets.token_bytes(16)

        async def pieces() -> AsyncIterator[bytes]:
            yield expected

        try:
            await self.put(key, pieces())
            read = b"".join([piece async for piece in self.get(key, ByteRange(0, len(expected)))])
            await self.delete(key)
        except OSError as error:
            raise _unreachable(error) from None
        if read != expected:
            raise unavailable(
                "storage-unreachable", "The storage returned other bytes than were written: check the storage."
            )

    def delete_partial_files(self, folder: str, before: datetime) -> int:
        """Removes temporary files in `folder` that a killed process left; clouds remove partial uploads themselves."""
        removed = 0
        for file in (self._folder / folder).rglob("*.sealed#*") if self._folder is not None else ():
            if file.stat().st_mtime < before.timestamp():
                file.unlink(missing_ok=True)
                removed += 1
        return removed


def _unreachable(error: Exception) -> WriteCareError:
    # the library's text may contain addresses and keys of the store: the caller gets only the type
    return unavailable("storage-unreachable", f"The storage cannot be reached ({type(error).__name__}); try again.")
