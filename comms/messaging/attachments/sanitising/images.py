"""Pictures are made anew from their points, so that nothing else that the file held is kept: no place, no time, no
camera, no second picture, nothing after its end. Runs in the confined child alone.
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
_MEDIA_TYPES: Final = {"JPEG": JPEG, "MPO": JPEG, "PNG": PNG, "WEBP": WEBP}  # MPO: a JPEG with further pictures in it
_WRITTEN_AS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    JPEG: ("JPEG", {"quality": 90}), PNG: ("PNG", {}), WEBP: ("WEBP", {"quality": 90}),
}  # fmt: skip

# Pillow imports these when a picture first needs them; in the confined child that is too late.
_PLUGINS: Final = (ImageColor, ImageFile, ImageFilter, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin)
Image.preinit()

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the points are counted below
Image.MAX_IMAGE_PIXELS = None


def cleaned_picture(source: BinaryIO) -> tuple[str, bytes]:
    """The media type, and the picture upright and in sRGB.

    Raises `AttachmentRefused` (`attachment-unreadable`, `attachment-expands`, `attachment-type-not-taken` for what moves).
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
        ) from None  # Pillow's plugins raise all of these over damaged files


def picture_extension(media_type: str) -> str:
    """How the name of a picture of this media type ends, inside a document."""
    return FILE_KINDS[media_type].extensions[0]


def _written(picture: Image.Image, media_type: str) -> bytes:
    profile = picture.info.get("icc_profile")
    ImageOps.exif_transpose(picture, in_place=True)
    shown = _in_srgb(picture, profile) if profile else picture
    if "transparency" in picture.info:
        shown = shown.convert("RGBA")
    elif shown.mode == "P" or (media_type == JPEG and shown.mode not in ("RGB", "L")):
        shown = shown.convert("RGB")
    shown.info.clear()  # Pillow writes some of it back unasked
    written = io.BytesIO()
    format, options = _WRITTEN_AS[media_type]
    if isinstance(shown, ImageFile.ImageFile):
        shown = shown.copy()  # Pillow compares the path of an opened file with the current directory, and there is none
    shown.save(written, format, **options)
    return written.getvalue()


def _in_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """The colours as they were seen, without the profile, which could carry anything; as they are where it is bad."""
    if picture.mode not in ("RGB", "RGBA", "CMYK"):
        return picture
    with suppress(ImageCms.PyCMSError, OSError):
        source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
        mode = "RGBA" if picture.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(picture, source, srgb, outputMode=mode) or picture
    return picture
