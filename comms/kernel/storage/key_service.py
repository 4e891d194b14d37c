"""Keys that wrap keys: each stored object has a data key of its own, and what is stored beside it is that key wrapped.

`KeyService` is what a key service can do, wherever it lives; `LocalKeyFile` does it on one machine. Forgetting a
wrapped key makes its track unreadable for ever: that is how a recording is erased (crypto-shredding).
"""

import base64
import fcntl
import json
import os
import secrets
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from models.contract.errors import conflict, unavailable

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_FILE: Final = "master.json"


@dataclass(frozen=True)
class WrappedKey:
    """A data key as it may be stored: readable only through the key service that holds key `key_id`."""

    key_id: str
    wrapped: bytes = field(repr=False)


class KeyService(Protocol):
    """Wraps and unwraps data keys; `context` (what the key is for) must be the same at both times."""

    async def wrap(self, key: bytes, context: str) -> WrappedKey: ...

    async def unwrap(self, wrapped: WrappedKey, context: str) -> bytes: ...


class LocalKeyFile:
    """Master keys in a file of the data folder, for this user's eyes alone. New data keys take the newest.

    The file is read again when it was replaced, so that a key which another process added is known to all at once.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read_at: tuple[int, int] | None = None
        self._current = ""
        self._keys: dict[str, bytes] = {}
        self._read_if_replaced()

    @classmethod
    def open(cls, keys_dir: Path) -> "LocalKeyFile":
        """The key file of this data folder, made where it is missing; safe when several processes start at once."""
        file = keys_dir / _FILE
        if not file.exists():
            keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = _write_new_version(file, {})
            try:
                os.link(fresh, file)  # unlike a rename, a link fails where another process came first
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return cls(file)

    def rotate(self) -> str:
        """Adds a master key that wraps from now on, and returns its id; the older ones still unwrap.

        Two at once add one each: the second waits until the first has written its key.
        """
        with _locked(self._file):
            self._read_if_replaced()
            _write_new_version(self._file, self._keys).rename(self._file)
            self._read_if_replaced()
        return self._current

    async def wrap(self, key: bytes, context: str) -> WrappedKey:
        """The key encrypted with the current master key (AES-256-GCM) and bound to `context`."""
        self._read_if_replaced()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(self._keys[self._current]).encrypt(nonce, key, context.encode())
        return WrappedKey(self._current, nonce + sealed)

    async def unwrap(self, wrapped: WrappedKey, context: str) -> bytes:
        """The data key; raises `unavailable` for an unknown master key, a conflict where it is not for `context`."""
        self._read_if_replaced()
        master = self._keys.get(wrapped.key_id)
        if master is None:
            raise unavailable("key-unknown", f"The master key {wrapped.key_id} is not in this data folder's key file.")
        nonce, sealed = wrapped.wrapped[:_NONCE_BYTES], wrapped.wrapped[_NONCE_BYTES:]
        try:
            return AESGCM(master).decrypt(nonce, sealed, context.encode())
        except (InvalidTag, ValueError):
            raise conflict("key-damaged", "The stored key does not belong to this object: restore the row.") from None

    def _read_if_replaced(self) -> None:
        found = self._file.stat()
        at = (found.st_ino, found.st_mtime_ns)
        if at != self._read_at:
            self._current, self._keys = _read(self._file)
            self._read_at = at


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Whoever else changes the key file waits until the block ends."""
    with file.with_name(f"{file.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(file: Path) -> tuple[str, dict[str, bytes]]:
    stored = json.loads(file.read_text())
    return stored["current"], {key_id: base64.b64decode(key) for key_id, key in stored["keys"].items()}


def _write_new_version(file: Path, older: dict[str, bytes]) -> Path:
    """A key file with one more key, the new one current, not yet in its place."""
    key_id = f"local-{time.strftime('%Y%m%d')}-{secrets.token_hex(4)}"
    keys = {**older, key_id: secrets.token_bytes(KEY_BYTES)}
    text = json.dumps({"current": key_id, "keys": {name: base64.b64encode(key).decode() for name, key in keys.items()}})
    fresh = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    return fresh
