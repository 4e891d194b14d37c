"""Re-encodes pictures from their pixels, so that nothing else in the file is kept: no location, time, camera, second
picture, or data after the end.

Runs only in the confined child.
"""

import io
import warnings
from contextlib import suppress
from typing import Any, BinaryIO, Final

from PIL import (
    Image,
    ImageCms,
    ImageColor,
    ImageFile,
    ImageFilter,
    ImageOps,
    MpoImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from comms.messaging.attachments.media_types import FILE_KINDS, JPEG, PNG, WEBP
from comms.messaging.attachments.sanitising.refusals import AttachmentRefused

_MAX_POINTS: Final = 50_000_000
# MPO: a JPEG that contains further pictures
_MEDIA_TYPES: Final = {"JPEG": JPEG, "MPO": JPEG, "PNG": PNG, "WEBP": WEBP}
_WRITTEN_AS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    JPEG: ("JPEG", {"quality": 90}), PNG: ("PNG", {}), WEBP: ("WEBP", {"quality": 90}),
}  # fmt: skip

# Pillow imports these when a picture first needs them. In the confined child that fails, so they are imported now.
_PLUGINS: Final = (ImageColor, ImageFile, ImageFilter, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin)
Image.preinit()

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `cleaned_picture` checks the number of pixels
Image.MAX_IMAGE_PIXELS = None


def cleaned_picture(source: BinaryIO) -> tuple[str, bytes]:
    """Returns the media type and the picture, upright and in sRGB.

    Raises `AttachmentRefused` (`attachment-unreadable`, `attachment-expands`; `attachment-type-not-taken` for
    animations).
    """
    try:
        with Image.open(source, formats=("JPEG", "PNG", "WEBP")) as picture:
            if picture.width * picture.height > _MAX_POINTS:
                raise AttachmentRefused("attachment-expands")
            if picture.format != "MPO" and getattr(picture, "is_animated", False):
                raise AttachmentRefused("attachment-type-not-taken")
            media_type = _MEDIA_TYPES[picture.format or ""]
            return media_type, _written(picture, media_type)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, EOFError, OverflowError):
        raise AttachmentRefused(
            "attachment-unreadable"
        ) from None  # Pillow's plugins raise all of these for damaged files


def picture_extension(media_type: str) -> str:
    """The file extension of a picture of this media type inside a document."""
    return FILE_KINDS[media_type].extensions[0]


def _written(picture: Image.Image, media_type: str) -> bytes:
    profile = picture.info.get("icc_profile")
    ImageOps.exif_transpose(picture, in_place=True)
    shown = _in_srgb(picture, profile) if profile else picture
    if "transparency" in picture.info:
        shown = shown.convert("RGBA")
    elif shown.mode == "P" or (media_type == JPEG and shown.mode not in ("RGB", "L")):
        shown = shown.convert("RGB")
    shown.info.clear()  # otherwise Pillow writes some of it into the new file
    written = io.BytesIO()
    format, options = _WRITTEN_AS[media_type]
    if isinstance(shown, ImageFile.ImageFile):
        # Pillow compares the path of an opened file with the current directory, which the child does not have
        shown = shown.copy()
    shown.save(written, format, **options)
    return written.getvalue()


def _in_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Converts the colours to sRGB and drops the profile, which could contain anything. Ignores a damaged profile."""
    if picture.mode not in ("RGB", "RGBA", "CMYK"):
        return picture
    with suppress(ImageCms.PyCMSError, OSError):
        source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        mode = "RGBA" if picture.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(picture, source, srgb, outputMode=mode) or picture
    return picture
