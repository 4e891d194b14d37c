"""Files as people attach them, and as hostile people would: each made here, so that a test says what is in it."""

import io
import struct
import zipfile
import zlib
from typing import Any, Final

import av
from PIL import Image
from pypdf import PdfWriter
from pypdf.actions import JavaScript
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from tests import factories

CAMERA: Final = "Nokia-of-Ada"
DOCX: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ODT: Final = "application/vnd.oasis.opendocument.text"
XMP: Final = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><exif:GPSLatitude>51,30.5N</exif:GPSLatitude></x:xmpmeta>'
_TYPES: Final = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Override PartName="/word/document.xml" ContentType="{}.main+xml"/></Types>'
)


def located_exif(orientation: int = 1) -> Image.Exif:
    """What a telephone writes: where, with what, and which way up."""
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = orientation, CAMERA
    exif[0x8825] = {1: "N", 2: (51.0, 30.0, 26.4), 3: "W", 4: (0.0, 7.0, 39.9), 29: "2026:11:23"}
    return exif


def picture(format: str = "JPEG", *, size: tuple[int, int] = (64, 32), orientation: int = 1) -> bytes:
    """A picture, red in its upper left corner, with its place in EXIF and XMP."""
    made = Image.new("RGB", size, "white")
    made.paste("red", (0, 0, size[0] // 2, size[1] // 2))
    file = io.BytesIO()
    exif = located_exif(orientation)
    if format == "PNG":
        from PIL.PngImagePlugin import PngInfo  # noqa: PLC0415

        told = PngInfo()
        told.add_itxt("XML:com.adobe.xmp", XMP.decode())
        told.add_text("Comment", CAMERA)
        made.save(file, "PNG", exif=exif, pnginfo=told)
    elif format == "WEBP":
        made.save(file, "WEBP", exif=exif, xmp=XMP)
    else:
        made.save(file, "JPEG", exif=exif, xmp=XMP, comment=CAMERA.encode())
    return file.getvalue()


def bomb_png(width: int = 60_000, height: int = 60_000) -> bytes:
    """A picture of some kilobytes that would fill the memory."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def packed(members: dict[str, bytes], **options: Any) -> bytes:
    """An archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name) if options.get("stored") else name, content)
    return file.getvalue()


def docx(*paragraphs: str, **members: bytes) -> bytes:
    """A Word document; further members by name."""
    body = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs)
    document = f'<?xml version="1.0"?><w:document xmlns:w="urn:w"><w:body>{body}</w:body></w:document>'
    own = {"[Content_Types].xml": _TYPES.format(DOCX).encode(), "word/document.xml": document.encode()}
    return packed(own | members)


def xlsx(*cells: str) -> bytes:
    """A table."""
    strings = "".join(f"<si><t>{text}</t></si>" for text in cells)
    return packed({
        "[Content_Types].xml": _TYPES.format(XLSX).encode(), "xl/workbook.xml": b"<workbook/>",
        "xl/sharedStrings.xml": f"<sst>{strings}</sst>".encode(),
    })  # fmt: skip


def odt(text: str) -> bytes:
    """An OpenDocument text: part of its words in a span."""
    head, _, rest = text.partition(" ")
    content = f'<d xmlns:text="urn:t"><text:p>{head}<text:s/><text:span>{rest}</text:span></text:p></d>'
    return packed({"mimetype": ODT.encode(), "content.xml": content.encode()})


def pdf(text: str = "", *, script: str = "", file: bytes = b"", password: str = "") -> bytes:
    """A document of a page; with a script, a file inside, or locked."""
    writer = PdfWriter()
    page = writer.add_blank_page(300, 200)
    font = DictionaryObject({
        NameObject("/Type"): NameObject("/Font"), NameObject("/Subtype"): NameObject("/Type1"),
        NameObject("/BaseFont"): NameObject("/Helvetica"),
    })  # fmt: skip
    fonts = DictionaryObject({NameObject("/F1"): writer._add_object(font)})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    drawn = DecodedStreamObject()
    drawn.set_data(f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode())
    page[NameObject("/Contents")] = writer._add_object(drawn)
    if script:
        writer.add_open_action(JavaScript(script))
    if file:
        writer.add_attachment("inside.bin", file)
    if password:
        writer.encrypt(password)
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def located_sound() -> bytes:
    """A voice message of a telephone, which says where it was recorded."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"movflags": "use_metadata_tags"}) as output:
        output.metadata["location"] = "+51.5073-000.1276/"
        output.metadata["title"] = CAMERA
        sound = output.add_stream("aac", rate=16_000, layout="mono")
        with av.open(io.BytesIO(factories.wav(1.0))) as given:
            for frame in given.decode(audio=0):
                frame.pts = None
                output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return file.getvalue()
