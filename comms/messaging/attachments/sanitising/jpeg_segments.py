"""Removes metadata (location, camera, comments) from JPEG and JPEG 2000 data. Used only in the confined child."""

from typing import Final

# Segments that decoding needs: frames, tables, restart intervals; APP0 (JFIF) and APP14 (Adobe) define the colours.
_KEPT: Final = frozenset({*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD, 0xDE, 0xDF, 0xE0, 0xEE})
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_END, _SCAN = 0xD9, 0xDA
# JPEG 2000: signature, file type, image header, image data.
_BOXES: Final = frozenset({b"jP  ", b"ftyp", b"jp2h", b"jp2c"})


def without_metadata(jpeg: bytes) -> bytes:
    """The same pixels without metadata and without data after the end. Raises `ValueError` if it is not a complete
    JPEG.
    """
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
    """The offset of the next marker after the image data: 0xFF that is not followed by a stuffed zero or a restart
    marker.
    """
    while (at := jpeg.find(b"\xff", at)) >= 0:
        if at + 1 < len(jpeg) and jpeg[at + 1] not in (0x00, 0xFF, *range(0xD0, 0xD8)):
            return at
        at += 1
    return len(jpeg)


def without_boxes(jpeg: bytes) -> bytes:
    """As `without_metadata`, for the boxes of JPEG 2000. A bare codestream has no boxes and is returned as it is."""
    if jpeg.startswith(b"\xff\x4f\xff\x51"):
        return jpeg
    kept, at = [], 0
    while at + 8 <= len(jpeg):
        size, kind = int.from_bytes(jpeg[at : at + 4]), jpeg[at + 4 : at + 8]
        if size == 1:  # the size follows the kind
            size = int.from_bytes(jpeg[at + 8 : at + 16])
        end = len(jpeg) if size == 0 else at + size
        if end <= at + 7:
            raise ValueError("a box that has no size")
        if kind in _BOXES:
            kept.append(jpeg[at:end])
        at = end
    return b"".join(kept)
