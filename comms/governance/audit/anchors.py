"""Anchors: signed records of the head of a tenant's hash chain, stored outside the database.

An attacker who can only write to the database can neither change nor forge them. So a chain that was cut or rebuilt no
longer matches its anchors. The object storage has one object for each tenant and day, with one line for each anchor:
`audit/<tenant>/<day>.jsonl`.
"""

import os
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field, ValidationError

from comms.kernel.storage.object_store import Objects, StoredObject
from comms.kernel.storage.segment_encryption import ByteRange
from models.contract.records import Record

_FILE: Final = "audit.pem"


class Head(Record):
    """The head of a chain: its last number and the hash of that seal."""

    tenant_id: UUID
    number: int = Field(ge=1)
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")


class Anchor(Head):
    """A head with a time, signed (Ed25519)."""

    anchored_at: datetime
    signature: str


class AnchorKey:
    """The key that signs anchors. It is created at the first start and never leaves the data folder."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def open(cls, keys_dir: Path) -> "AnchorKey":
        """Opens the key of this data folder; creates it if missing. Several processes may start at once."""
        file = keys_dir / _FILE
        if not file.exists():
            keys_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = keys_dir / f".{_FILE}.{uuid.uuid4().hex}"
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(_pem_of_new_key())
                out.flush()
                os.fsync(out.fileno())
            try:
                os.link(fresh, file)  # unlike a rename, a link fails if another process was first
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
        assert isinstance(key, Ed25519PrivateKey)
        return cls(key)

    def sign(self, head: Head, at: datetime) -> Anchor:
        """Signs the head with the time `at`."""
        signature = self._key.sign(_signed_bytes(head, at)).hex()
        return Anchor(**head.model_dump(), anchored_at=at, signature=signature)

    def is_signed_by_us(self, anchor: Anchor) -> bool:
        """Returns whether this key signed exactly this anchor."""
        try:
            self._key.public_key().verify(bytes.fromhex(anchor.signature), _signed_bytes(anchor, anchor.anchored_at))
        except (InvalidSignature, ValueError):
            return False
        return True


class AnchorStore:
    """The anchors in the object storage."""

    def __init__(self, objects: Objects, key: AnchorKey) -> None:
        self._objects = objects
        self._key = key

    async def append(self, head: Head, at: datetime) -> Anchor:
        """Writes an anchor for the head; raises `unavailable`. The object of the day is replaced atomically."""
        anchor = self._key.sign(head, at)
        key = f"{_folder(head.tenant_id)}/{at:%Y-%m-%d}.jsonl"
        kept = b"".join([await self._bytes_of(day) for day in await self._days(head.tenant_id) if day.key == key])

        async def pieces() -> AsyncIterator[bytes]:
            yield kept + anchor.model_dump_json().encode() + b"\n"

        await self._objects.put(key, pieces())
        return anchor

    async def newest(self, tenant_id: UUID) -> Anchor | None:
        """Returns the tenant's newest anchor with a valid signature, or None. Raises `unavailable`."""
        for day in reversed(await self._days(tenant_id)):
            for anchor in reversed(_anchors(await self._bytes_of(day))):
                if anchor is not None and self._is_of(tenant_id, anchor):
                    return anchor
        return None

    async def days(self, tenant_id: UUID) -> AsyncIterator[list[Anchor | None]]:
        """Yields the tenant's anchors, one day at a time, oldest first; None for a line without a valid signature."""
        for day in await self._days(tenant_id):
            found = _anchors(await self._bytes_of(day))
            yield [anchor if anchor is not None and self._is_of(tenant_id, anchor) else None for anchor in found]

    def _is_of(self, tenant_id: UUID, anchor: Anchor) -> bool:
        return anchor.tenant_id == tenant_id and self._key.is_signed_by_us(anchor)

    async def _days(self, tenant_id: UUID) -> list[StoredObject]:
        return sorted([day async for day in self._objects.list_under(_folder(tenant_id))], key=lambda day: day.key)

    async def _bytes_of(self, day: StoredObject) -> bytes:
        return b"".join([piece async for piece in self._objects.get(day.key, ByteRange(0, day.size_bytes))])


def _folder(tenant_id: UUID) -> str:
    return f"audit/{tenant_id}"


def _anchors(lines: bytes) -> list[Anchor | None]:
    return [_anchor(line) for line in lines.splitlines()]


def _anchor(line: bytes) -> Anchor | None:
    try:
        return Anchor.model_validate_json(line)
    except ValidationError:
        return None


def _signed_bytes(head: Head, at: datetime) -> bytes:
    return f"wcc-anchor-1|{head.tenant_id}|{head.number}|{head.hash}|{at.isoformat()}".encode()


def _pem_of_new_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
