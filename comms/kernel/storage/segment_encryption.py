"""How a track or an attachment lies in storage: AES-256-GCM in segments of one mebibyte, each readable on its own.

Each object has a key of its own, so the segment's number can be the nonce: no nonce is ever used twice with a key
(NIST SP 800-38D, 8.2.1). Every segment is bound to its tenant, recording, track, place and to whether it is the
last: swapping, reordering, cutting off or appending is noticed (the STREAM construction, Hoang et al. 2015).
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
    """What a sealed object is bound to, so that it cannot stand in for another."""

    def context(self) -> str:
        """The associated data of each of its segments, and the context of its wrapped key."""
        ...

    def damaged(self) -> WriteCareError:
        """What is raised where it is not what was sealed."""
        ...


@dataclass(frozen=True)
class TrackObjectRef:
    """Whose a sealed track is."""

    tenant_id: UUID
    recording_id: UUID
    track_id: UUID

    def context(self) -> str:
        return f"{self.tenant_id}|{self.recording_id}|{self.track_id}"

    def object_key(self) -> str:
        """Where it lies in storage: ids alone."""
        return f"{self.tenant_id}/{self.recording_id}/{self.track_id}.sealed"

    def damaged(self) -> WriteCareError:
        return conflict(
            "recording-damaged", f"The stored track {self.track_id} is not what was stored: restore it from a backup."
        )


@dataclass(frozen=True)
class ByteRange:
    """Bytes `start` (included) to `end` (excluded)."""

    start: int
    end: int


def segments_of(size: int) -> int:
    """How many segments hold `size` plain bytes: an empty object still has one, so that it can be checked."""
    return max(1, -(-size // SEGMENT_BYTES))


def sealed_size(size: int) -> int:
    """How many bytes `size` plain bytes take in storage."""
    return size + segments_of(size) * TAG_BYTES


async def seal(pieces: AsyncIterator[bytes], key: bytes, object_ref: SealedObjectRef) -> AsyncIterator[bytes]:
    """The plain pieces (of any lengths) as sealed segments."""
    cipher = AESGCM(key)
    held = bytearray()
    index = 0
    async for piece in pieces:
        held += piece
        while len(held) > SEGMENT_BYTES:  # one segment is held back: only the end shows which is the last
            yield _seal_segment(cipher, bytes(held[:SEGMENT_BYTES]), object_ref, index, last=False)
            del held[:SEGMENT_BYTES]
            index += 1
    yield _seal_segment(cipher, bytes(held), object_ref, index, last=True)


def sealed_range(size: int, wanted: ByteRange) -> ByteRange:
    """Which stored bytes must be fetched for the plain bytes `wanted` of an object of `size` plain bytes."""
    first = wanted.start // SEGMENT_BYTES
    beyond = max(first + 1, -(-wanted.end // SEGMENT_BYTES))
    return ByteRange(first * _SEALED_SEGMENT_BYTES, min(beyond * _SEALED_SEGMENT_BYTES, sealed_size(size)))


async def unseal(
    pieces: AsyncIterator[bytes], key: bytes, object_ref: SealedObjectRef, size: int, wanted: ByteRange
) -> AsyncIterator[bytes]:
    """The plain bytes `wanted`, from the stored bytes of `sealed_span(size, wanted)` in pieces of any lengths.

    Raises what `damaged` says, a conflict, before giving out a byte of a segment that is not what was sealed.
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
