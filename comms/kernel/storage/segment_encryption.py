"""The encrypted file format of tracks and attachments: AES-256-GCM in segments of 1 MiB; each can be read separately.

Each object has its own key, so the segment's number can be the nonce: no nonce is ever used twice with a key
(NIST SP 800-38D, 8.2.1). Every segment is bound to its object (for a track: tenant, recording and track), to its
position and to whether it is the last. So swapping, reordering, cutting off or appending segments is detected (the
STREAM construction, Hoang et al. 2015).
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from models.contract.errors import WriteCareError, conflict

SEGMENT_BYTES: Final = 1 << 20
TAG_BYTES: Final = 16
_SEALED_SEGMENT_BYTES: Final = SEGMENT_BYTES + TAG_BYTES


class SealedObjectRef(Protocol):
    """Identifies a sealed object. Its segments are bound to it, so that it cannot replace another object."""

    def context(self) -> str:
        """The associated data of each segment, and the context of the wrapped key."""
        ...

    def damaged(self) -> WriteCareError:
        """The error to raise if the stored bytes are not those that were sealed."""
        ...


@dataclass(frozen=True)
class TrackObjectRef:
    """The ids that identify a stored track. They give its storage key and bind its encryption to it."""

    tenant_id: UUID
    recording_id: UUID
    track_id: UUID

    def context(self) -> str:
        return f"{self.tenant_id}|{self.recording_id}|{self.track_id}"

    def object_key(self) -> str:
        """The key of the object in storage; it consists only of ids."""
        return f"{self.tenant_id}/{self.recording_id}/{self.track_id}.sealed"

    def damaged(self) -> WriteCareError:
        return conflict(
            "recording-damaged",
            f"The stored track {self.track_id} was changed or is incomplete: restore it from a backup.",
        )


@dataclass(frozen=True)
class ByteRange:
    """Bytes `start` (included) to `end` (excluded)."""

    start: int
    end: int


def segments_of(size: int) -> int:
    """How many segments hold `size` plain bytes. An empty object has one, too, so that it can be checked."""
    return max(1, -(-size // SEGMENT_BYTES))


def sealed_size(size: int) -> int:
    """How many bytes in storage hold `size` plain bytes."""
    return size + segments_of(size) * TAG_BYTES


async def seal(pieces: AsyncIterator[bytes], key: bytes, object_ref: SealedObjectRef) -> AsyncIterator[bytes]:
    """Encrypts the plain pieces (of any lengths) into sealed segments."""
    cipher = AESGCM(key)
    held = bytearray()
    index = 0
    async for piece in pieces:
        held += piece
        while len(held) > SEGMENT_BYTES:  # keeps one segment back: the last one is known only at the end
            yield _seal_segment(cipher, bytes(held[:SEGMENT_BYTES]), object_ref, index, last=False)
            del held[:SEGMENT_BYTES]
            index += 1
    yield _seal_segment(cipher, bytes(held), object_ref, index, last=True)


def sealed_range(size: int, wanted: ByteRange) -> ByteRange:
    """The stored bytes to fetch for the plain bytes `wanted` of an object of `size` plain bytes."""
    first = wanted.start // SEGMENT_BYTES
    beyond = max(first + 1, -(-wanted.end // SEGMENT_BYTES))
    return ByteRange(first * _SEALED_SEGMENT_BYTES, min(beyond * _SEALED_SEGMENT_BYTES, sealed_size(size)))


async def unseal(
    pieces: AsyncIterator[bytes], key: bytes, object_ref: SealedObjectRef, size: int, wanted: ByteRange
) -> AsyncIterator[bytes]:
    """Decrypts the plain bytes `wanted` from the stored bytes of `sealed_range(size, wanted)`, in pieces of any length.

    Raises the conflict of `object_ref.damaged()` before it yields a byte of a segment that is not the one sealed.
    """
    cipher = AESGCM(key)
    index = wanted.start // SEGMENT_BYTES
    last = segments_of(size) - 1
    beyond = max(index + 1, -(-wanted.end // SEGMENT_BYTES))
    held = bytearray()
    async for piece in pieces:
        held += piece
        while index < beyond and len(held) >= _sealed_length(size, index):
            length = _sealed_length(size, index)
            plain = _open_segment(cipher, bytes(held[:length]), object_ref, index, last=index == last)
            del held[:length]
            offset = index * SEGMENT_BYTES
            if part := plain[max(0, wanted.start - offset) : wanted.end - offset]:
                yield part
            index += 1
    if index < beyond or held:
        raise object_ref.damaged()


def _sealed_length(size: int, index: int) -> int:
    return min(SEGMENT_BYTES, size - index * SEGMENT_BYTES) + TAG_BYTES


def _associated(object_ref: SealedObjectRef, index: int, last: bool) -> bytes:
    return f"{object_ref.context()}|{index}|{int(last)}".encode()


def _seal_segment(cipher: AESGCM, plain: bytes, object_ref: SealedObjectRef, index: int, *, last: bool) -> bytes:
    return cipher.encrypt(index.to_bytes(12, "big"), plain, _associated(object_ref, index, last))


def _open_segment(cipher: AESGCM, sealed: bytes, object_ref: SealedObjectRef, index: int, *, last: bool) -> bytes:
    try:
        return cipher.decrypt(index.to_bytes(12, "big"), sealed, _associated(object_ref, index, last))
    except InvalidTag:
        raise object_ref.damaged() from None
