"""Sample attachments, harmless and hostile. Each is made here, so that a test shows what it contains."""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import av
from PIL import Image
from pypdf import PdfWriter
from pypdf.actions import JavaScript
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from tests import factories

NO_MEMBERS: Final[Mapping[str, bytes]] = MappingProxyType({})
CAMERA: Final = "Nokia-of-Ada"
DOCX: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ODT: Final = "application/vnd.oasis.opendocument.text"
XMP: Final = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><exif:GPSLatitude>51,30.5N</exif:GPSLatitude></x:xmpmeta>'
_W: Final = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_R: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_X: Final = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"
NAMESPACES: Final = (
    f'{_W} xmlns:r="{_R}" xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing" '
    'xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture" xmlns:v="urn:schemas-microsoft-com:vml" '
    'xmlns:o="urn:schemas-microsoft-com:office:office" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape"'
)
TEXTS: Final = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" '
    'xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0" '
    'xmlns:script="urn:oasis:names:tc:opendocument:xmlns:script:1.0" '
    'xmlns:form="urn:oasis:names:tc:opendocument:xmlns:form:1.0" '
    'xmlns:svg="urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0" xmlns:xlink="http://www.w3.org/1999/xlink"'
)


def located_exif(orientation: int = 1) -> Image.Exif:
    """The EXIF data of a telephone: location, camera and orientation."""
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = orientation, CAMERA
    exif[0x8825] = {1: "N", 2: (51.0, 30.0, 26.4), 3: "W", 4: (0.0, 7.0, 39.9), 29: "2026:11:23"}
    return exif


def picture(format: str = "JPEG", *, size: tuple[int, int] = (64, 32), orientation: int = 1) -> bytes:
    """A picture, red in its upper left corner, with its location in EXIF and XMP."""
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
    """A picture of a few kilobytes that would fill the memory when decoded."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def packed(members: dict[str, bytes], **options: Any) -> bytes:
    """A ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name) if options.get("stored") else name, content)
    return file.getvalue()


def related(*relations: tuple[str, str, str], external: bool = False) -> bytes:
    """A relationships part; for each relationship its id, kind and target."""
    mode = ' TargetMode="External"' if external else ""
    rows = "".join(
        f'<Relationship Id="{id}" Type="{kind if ":" in kind else f"{_R}/{kind}"}" Target="{target}"{mode}/>'
        for id, kind, target in relations
    )
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{rows}</Relationships>'.encode()


def office(media_type: str, main: str, document: str, members: Mapping[str, bytes] = NO_MEMBERS) -> bytes:
    """An Office package with its main part. `members`: further members by name; they may replace the usual ones."""
    types = (
        f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="xml" ContentType="application/xml"/>'
        f'<Override PartName="/{main}" ContentType="{media_type}.main+xml"/></Types>'
    )
    own = {"[Content_Types].xml": types.encode(), "_rels/.rels": related(("r1", "officeDocument", main)),
           main: document.encode()}  # fmt: skip
    return packed({**own, **members})


def docx(*paragraphs: str, inside: str = "", links: bytes = b"", members: Mapping[str, bytes] = NO_MEMBERS) -> bytes:
    """A Word document. `inside`: further XML in its body; `links`: its relationships; `members`: further members by
    name.
    """
    body = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs)
    document = f'<?xml version="1.0"?><w:document {NAMESPACES}><w:body>{body}{inside}</w:body></w:document>'
    related_parts = {"word/_rels/document.xml.rels": links} if links else {}
    return office(DOCX, "word/document.xml", document, {**related_parts, **members})


def docx_with_comment(text: str, comment: str) -> bytes:
    """A Word document with a comment."""
    part = f'<w:comments {_W}><w:comment w:id="0"><w:p><w:r><w:t>{comment}</w:t></w:r></w:p></w:comment></w:comments>'
    links = related(("c1", "comments", "comments.xml"))
    return docx(text, links=links, members={"word/comments.xml": part.encode()})


def docx_with_picture(picture: bytes, links: bytes = b"") -> bytes:
    """A Word document with a picture."""
    drawing = (
        '<w:p><w:r><w:drawing><wp:inline><wp:extent cx="900" cy="450"/><a:graphic><a:graphicData uri="x"><pic:pic>'
        '<pic:blipFill><a:blip r:embed="p1"/></pic:blipFill></pic:pic></a:graphicData></a:graphic></wp:inline>'
        "</w:drawing></w:r></w:p>"
    )
    shown = links or related(("p1", "image", "media/photo.jpeg"))
    return docx("See the photo.", inside=drawing, links=shown, members={"word/media/photo.jpeg": picture})


def xlsx(
    *cells: str, rows: str = "", after: str = "", links: bytes = b"", members: Mapping[str, bytes] = NO_MEMBERS
) -> bytes:
    """An Excel table. `rows`: XML of further rows; `after`: XML after the rows; `links`: its relationships."""
    strings = "".join(f"<si><t>{text}</t></si>" for text in cells)
    shown = "".join(f'<c r="A{n + 1}" t="s"><v>{n}</v></c>' for n in range(len(cells)))
    sheet = f'<worksheet {_X} xmlns:r="{_R}"><sheetData><row r="1">{shown}</row>{rows}</sheetData>{after}</worksheet>'
    book = f'<workbook {_X} xmlns:r="{_R}"><sheets><sheet name="Plan" sheetId="1" r:id="s1"/></sheets></workbook>'
    own = {
        "xl/_rels/workbook.xml.rels": related(
            ("s1", "worksheet", "worksheets/sheet1.xml"), ("s2", "sharedStrings", "sharedStrings.xml")
        ),
        "xl/sharedStrings.xml": f"<sst {_X}>{strings}</sst>".encode(), "xl/worksheets/sheet1.xml": sheet.encode(),
    }  # fmt: skip
    beside = {"xl/worksheets/_rels/sheet1.xml.rels": links} if links else {}
    return office(XLSX, "xl/workbook.xml", book, {**own, **beside, **members})


def odt(text: str, *, inside: str = "", before: str = "", members: Mapping[str, bytes] = NO_MEMBERS) -> bytes:
    """An OpenDocument text with part of its text in a span. `inside`: further XML in the text; `before`: XML before
    it.
    """
    head, _, rest = text.partition(" ")
    content = (
        f"<office:document-content {TEXTS}>{before}<office:body><office:text><text:p>{head}<text:s/><text:span>{rest}"
        f"</text:span></text:p>{inside}</office:text></office:body></office:document-content>"
    )
    return packed({"mimetype": ODT.encode(), "content.xml": content.encode(), **members})


def pdf(text: str = "", *, script: str = "", file: bytes = b"", password: str = "") -> bytes:
    """A PDF of one page; optionally with a script, with an embedded file, or encrypted."""
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
    """A voice message of a telephone with the location of the recording."""
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
