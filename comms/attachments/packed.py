"""Documents that are archives (docx, xlsx, odt): looked through in memory, packed anew, their words found.

Nothing is ever unpacked to a disk. What is packed anew holds the members alone: their pictures cleaned, nothing before,
between or after them. Runs in the confined child alone.
"""

import io
import posixpath
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from comms.attachments.kinds import DOCX, ODT, XLSX
from comms.attachments.pictures import cleaned_picture
from comms.attachments.refusals import Refused

_MAX_MEMBERS: Final = 2_000
_MAX_UNPACKED: Final = 100 << 20
_MAX_RATIO: Final = 200  # of a single member; XML shrinks to a tenth or a twentieth
_FREE_BYTES: Final = 1 << 20  # so small a member may shrink as it likes
_ENCRYPTED: Final = 0x1
_ARCHIVES: Final = (
    b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x1f\x8b", b"BZh",
    b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"MSCF", b"\x04\x22\x4d\x18", b"LZIP", b"xar!",
)  # fmt: skip
# Programs; the old compound files, in which Word keeps embedded objects and macros.
_ACTIVE: Final = (
    b"MZ", b"\x7fELF", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"#!",
)  # fmt: skip
_ACTIVE_NAMES: Final = re.compile(r"(?i)(^|/)(vbaproject\.bin|vbadata\.xml|basic/.*|scripts/.*|activex/.*)$")
_PICTURES: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_MAIN_PARTS: Final = {DOCX: "word/document.xml", XLSX: "xl/workbook.xml"}
# Where people's words stand, notes and comments included, in the order of reading.
_WORDED: Final = {
    DOCX: re.compile(r"word/(document|header\d*|footer\d*|footnotes|endnotes|comments)\.xml"),
    XLSX: re.compile(r"xl/(sharedStrings|worksheets/sheet\d+|comments\d*|threadedComments/threadedComment\d+)\.xml"),
    ODT: re.compile(r"(content|styles)\.xml"),
}
_PARAGRAPHS: Final = {"p", "h", "si", "is", "text"}
_SPACES: Final = {"tab", "br", "cr", "line-break", "s"}


def cleaned_document(source: BinaryIO) -> tuple[str, bytes, Iterator[str]]:
    """The media type, the document packed anew, and its words in pieces; raises `Refused`."""
    try:
        with zipfile.ZipFile(source) as given:
            members = given.infolist()
            _refuse_unsound(members)
            read = {member.filename: _cleaned_member(given, member) for member in members if not member.is_dir()}
    # zipfile raises all of these on hostile files: RuntimeError of encrypted members, ValueError of impossible offsets
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError):
        raise Refused("attachment-unreadable") from None
    media_type = _media_type(read)
    _refuse_reaching_out(read)
    return media_type, _packed(read), _words(media_type, read)


def _refuse_unsound(members: list[zipfile.ZipInfo]) -> None:
    if len(members) > _MAX_MEMBERS or sum(member.file_size for member in members) > _MAX_UNPACKED:
        raise Refused("attachment-expands")
    if len({member.filename for member in members}) != len(members):
        raise Refused("attachment-unreadable")  # two readers could see two documents
    for member in members:
        if _leads_out(member):
            raise Refused("attachment-leads-out")
        if member.flag_bits & _ENCRYPTED:
            raise Refused("attachment-encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Refused("attachment-unreadable")
        if member.file_size > max(_FREE_BYTES, member.compress_size * _MAX_RATIO):
            raise Refused("attachment-expands")
        if _ACTIVE_NAMES.search(member.filename):
            raise Refused("attachment-active")


def _leads_out(member: zipfile.ZipInfo) -> bool:
    """Whether somebody who unpacks it where it says would write elsewhere than below their folder."""
    name = member.orig_filename.replace("\\", "/")
    apart = posixpath.isabs(name) or ":" in name or "\0" in name or ".." in name.split("/")
    return apart or stat.S_ISLNK(member.external_attr >> 16)


def _cleaned_member(given: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    content = given.read(member)  # no more than it states, or its checksum is wrong
    if content.startswith(_ARCHIVES) or content[257:262] == b"ustar":
        raise Refused("attachment-nested-archive")
    if content.startswith(_ACTIVE):
        raise Refused("attachment-active")
    is_picture = content.startswith(_PICTURES) or (content.startswith(b"RIFF") and content[8:12] == b"WEBP")
    return cleaned_picture(io.BytesIO(content))[1] if is_picture else content


def _media_type(read: dict[str, bytes]) -> str:
    """Of the document that it is; an archive that is none is not taken."""
    if read.get("mimetype", b"").strip() == ODT.encode() and "content.xml" in read:
        return ODT
    listed = read.get("[Content_Types].xml", b"")
    for media_type, main_part in _MAIN_PARTS.items():
        if listed and main_part in read:
            if b"macroenabled" in listed.lower():
                raise Refused("attachment-active")
            return media_type
    raise Refused("attachment-type-not-taken")


def _refuse_reaching_out(read: dict[str, bytes]) -> None:
    """Parts fetched from elsewhere when the document is opened: templates with macros, pictures that count readers."""
    for relations in (content for name, content in read.items() if name.endswith(".rels")):
        try:
            for relation in ElementTree.fromstring(relations, forbid_dtd=True):
                is_link = relation.get("Type", "").endswith("/hyperlink")  # followed only by who clicks on it
                if relation.get("TargetMode", "").lower() == "external" and not is_link:
                    raise Refused("attachment-active")
        except (ElementTree.ParseError, DefusedXmlException, LookupError, ValueError):
            raise Refused("attachment-unreadable") from None


def _packed(read: dict[str, bytes]) -> bytes:
    """In the order in which it was: OpenDocument's `mimetype` is first, and as it is."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as packed:
        for name, content in read.items():
            fresh = zipfile.ZipInfo(name)  # neither its times nor its extra fields
            packed.writestr(fresh, content, zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED)
    return written.getvalue()


def _words(media_type: str, read: dict[str, bytes]) -> Iterator[str]:
    found = filter(_WORDED[media_type].fullmatch, read)
    for name in sorted(found, key=lambda name: (name != _MAIN_PARTS.get(media_type, "content.xml"), name)):
        try:
            yield from _paragraphs(read[name])
        except (ElementTree.ParseError, DefusedXmlException, LookupError, ValueError):
            raise Refused("attachment-unreadable") from None


def _paragraphs(part: bytes) -> Iterator[str]:
    """The words of an XML part, a piece a paragraph; a paragraph within another (a note, a box) comes before it."""
    depth = 0
    # no document type, so no entities either: these formats have neither
    for event, element in ElementTree.iterparse(io.BytesIO(part), events=("start", "end"), forbid_dtd=True):
        tag = element.tag.rpartition("}")[2]
        if event == "start":
            depth += tag in _PARAGRAPHS
            continue
        if tag in _SPACES:
            element.text = " "
        elif tag in _PARAGRAPHS:
            depth -= 1
            yield "".join(element.itertext()) + "\n"
            element.clear()
        if depth == 0:
            element.clear()
