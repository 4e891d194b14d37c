"""Key wrapping: each stored object has its own data key, and only the wrapped (encrypted) key is stored with it.

`KeyService` is the interface of a key service; `LocalKeyFile` implements it on one machine. Deleting a wrapped key
makes its track unreadable permanently: a recording is erased in this way (crypto-shredding).
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
    """A data key in its stored form: only the key service that holds master key `key_id` can read it."""

    key_id: str
    wrapped: bytes = field(repr=False)


class KeyService(Protocol):
    """Wraps and unwraps data keys; `context` (what the key is for) must be the same both times."""

    async def wrap(self, key: bytes, context: str) -> WrappedKey: ...

    async def unwrap(self, wrapped: WrappedKey, context: str) -> bytes: ...


class LocalKeyFile:
    """Master keys in a file of the data folder that only this user can read. The newest one wraps new data keys.

    The file is read again when it was replaced, so that all processes can use a key that one of them added.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read_at: tuple[int, int] | None = None
        self._current = ""
        self._keys: dict[str, bytes] = {}
        self._read_if_replaced()

    @classmethod
    def open(cls, keys_dir: Path) -> "LocalKeyFile":
        """The key file of this data folder; creates it if it is missing. Safe when several processes start at once."""
        file = keys_dir / _FILE
        if not file.exists():
            keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = _write_new_version(file, {})
            try:
                os.link(fresh, file)  # unlike a rename, a link fails if another process has created the file
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return cls(file)

    def rotate(self) -> str:
        """Adds a master key that wraps new data keys, and returns its id; the older ones still unwrap.

        Two calls at once add one key each: the second waits until the first has written its key.
        """
        with _locked(self._file):
            self._read_if_replaced()
            _write_new_version(self._file, self._keys).rename(self._file)
            self._read_if_replaced()
        return self._current

    async def wrap(self, key: bytes, context: str) -> WrappedKey:
        """Encrypts the key with the current master key (AES-256-GCM) and binds it to `context`."""
        self._read_if_replaced()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(self._keys[self._current]).encrypt(nonce, key, context.encode())
        return WrappedKey(self._current, nonce + sealed)

    async def unwrap(self, wrapped: WrappedKey, context: str) -> bytes:
        """The data key; raises `unavailable` for an unknown master key, a conflict if it is not for `context`."""
        self._read_if_replaced()
        master = self._keys.get(wrapped.key_id)
        if master is None:
            raise unavailable(
                "key-unknown", f"The key file lacks the master key {wrapped.key_id}: restore it from a backup."
            )
        nonce, sealed = wrapped.wrapped[:_NONCE_BYTES], wrapped.wrapped[_NONCE_BYTES:]
        try:
            return AESGCM(master).decrypt(nonce, sealed, context.encode())
        except (InvalidTag, ValueError):
            raise conflict(
                "key-damaged", "The stored key does not belong to this object: restore its row from a backup."
            ) from None

    def _read_if_replaced(self) -> None:
        found = self._file.stat()
        at = (found.st_ino, found.st_mtime_ns)
        if at != self._read_at:
            self._current, self._keys = _read(self._file)
            self._read_at = at


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Locks the key file: other processes that change it wait until the block ends."""
    with file.with_name(f"{file.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(file: Path) -> tuple[str, dict[str, bytes]]:
    stored = json.loads(file.read_text())
    return stored["current"], {key_id: base64.b64decode(key) for key_id, key in stored["keys"].items()}


def _write_new_version(file: Path, older: dict[str, bytes]) -> Path:
    """Writes a key file with one more key, which is the current one, under a temporary name."""
    key_id = f"local-{time.strftime('%Y%m%d')}-{secrets.token_hex(4)}"
    keys = {**older, key_id: secrets.token_bytes(KEY_BYTES)}
    text = json.dumps({"current": key_id, "keys": {name: base64.b64encode(key).decode() for name, key in keys.items()}})
    fresh = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    return fresh
