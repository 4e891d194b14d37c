"""JPEG, also of 2000, without what it says beside its points: no place, camera or comment. For the child alone."""

from typing import Final

# Without these the points cannot be read: frames, tables, restart intervals; JFIF (0) and Adobe (14) say which colours.
_KEPT: Final = frozenset({*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xE0, 0xEE})
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_END, _SCAN = 0xD9, 0xDA
# JPEG 2000: the signature, the kind of file, what the points are, and the points.
_BOXES: Final = frozenset({b"jP  ", b"ftyp", b"jp2h", b"jp2c"})


def without_metadata(jpeg: bytes) -> bytes:
    """The same points, and nothing that follows them. Raises `ValueError` where it is no whole JPEG."""
    if not jpeg.startswith(b"\xff\xd8"):
        raise ValueError("no JPEG")
    kept, at = [jpeg[:2]], 2
    while at + 4 <= len(jpeg):
        if jpeg[at] != 0xFF:
            raise ValueError("no marker where one must be")
        marker = jpeg[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker == _END:
            break
        elif marker in _ALONE:
            kept.append(jpeg[at : at + 2])
            at += 2
        else:
            end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4])
            if marker == _SCAN:
                end = _end_of_scan(jpeg, end)
            if marker == _SCAN or marker in _KEPT:
                kept.append(jpeg[at:end])
            at = end
    return b"".join([*kept, b"\xff\xd9"])


def _end_of_scan(jpeg: bytes, at: int) -> int:
    """Where the next marker after the points begins: 0xFF, and neither a stuffed zero nor a restart follows."""
    while (at := jpeg.find(b"\xff", at)) >= 0:
        if at + 1 < len(jpeg) and jpeg[at + 1] not in (0x00, 0xFF, *range(0xD0, 0xD8)):
            return at
        at += 1
    return len(jpeg)


def without_boxes(jpeg: bytes) -> bytes:
    """The same for JPEG 2000, where pieces are called boxes; bare points have none."""
    if jpeg.startswith(b"\xff\x4f\xff\x51"):
        return jpeg
    kept, at = [], 0
    while at + 8 <= len(jpeg):
        size, kind = int.from_bytes(jpeg[at : at + 4]), jpeg[at + 4 : at + 8]
        if size == 1:  # the size stands behind the kind
            size = int.from_bytes(jpeg[at + 8 : at + 16])
        end = len(jpeg) if size == 0 else at + size
        if end <= at + 7:
            raise ValueError("a box that has no size")
        if kind in _BOXES:
            kept.append(jpeg[at:end])
        at = end
    return b"".join(kept)
