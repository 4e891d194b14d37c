"""Reads and writes the ZIP archives of documents, in memory and never on disk. Used only in the confined child."""

import io
import posixpath
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable
from typing import BinaryIO, Final

from comms.messaging.attachments.sanitising.refusals import AttachmentRefused

_MAX_MEMBERS: Final = 2_000
_MAX_UNPACKED: Final = 100 << 20
_MAX_RATIO: Final = 200  # for each member; XML is usually compressed 10 to 20 times
_FREE_BYTES: Final = 1 << 20  # smaller members may have any ratio
_ENCRYPTED: Final = 0x1
_ARCHIVES: Final = (
    b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"\x1f\x8b", b"BZh",
    b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"MSCF", b"\x04\x22\x4d\x18", b"LZIP", b"xar!",
)  # fmt: skip
# Programs, and old compound files, in which Word stores embedded objects and macros.
_ACTIVE: Final = (
    b"MZ", b"\x7fELF", b"\xca\xfe\xba\xbe", b"\xcf\xfa\xed\xfe", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"#!",
)  # fmt: skip
_ACTIVE_NAMES: Final = re.compile(
    r"(?i)(^|/)(vbaproject\.bin|vbadata\.xml|basic/.*|scripts/.*|activex/.*|macrosheets/.*|customui/.*)$"
)
# zipfile raises all of these for hostile files: RuntimeError for encrypted members, ValueError for impossible offsets
_DAMAGED: Final = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip


def read_members(source: BinaryIO) -> dict[str, bytes]:
    """The members of the archive by name. Raises `AttachmentRefused`.

    Nested archives and active content are refused here, so the sender learns that they would be lost. Passing this
    check does not mean that a member is kept: the caller takes only the parts that it knows.
    """
    try:
        with zipfile.ZipFile(source) as given:
            members = given.infolist()
            _refuse_unsound(members)
            return {member.filename: _content(given, member) for member in members if not member.is_dir()}
    except _DAMAGED:
        raise AttachmentRefused("attachment-unreadable") from None


def repack(parts: Iterable[tuple[str, bytes]]) -> bytes:
    """Makes an archive of the parts in this order. OpenDocument's `mimetype` is stored uncompressed."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as packed:
        for name, content in parts:
            fresh = zipfile.ZipInfo(name)  # new metadata: no times, no extra fields
            packed.writestr(fresh, content, zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED)
    return written.getvalue()


def _refuse_unsound(members: list[zipfile.ZipInfo]) -> None:
    if len(members) > _MAX_MEMBERS or sum(member.file_size for member in members) > _MAX_UNPACKED:
        raise AttachmentRefused("attachment-expands")
    if len({member.filename.replace("\\", "/").lower() for member in members}) != len(members):
        raise AttachmentRefused("attachment-unreadable")  # two programs could see two different documents
    for member in members:
        if _leads_out(member):
            raise AttachmentRefused("attachment-leads-out")
        if member.flag_bits & _ENCRYPTED:
            raise AttachmentRefused("attachment-encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise AttachmentRefused("attachment-unreadable")
        if member.file_size > max(_FREE_BYTES, member.compress_size * _MAX_RATIO):
            raise AttachmentRefused("attachment-expands")
        if _ACTIVE_NAMES.search(member.filename):
            raise AttachmentRefused("attachment-active")


def _leads_out(member: zipfile.ZipInfo) -> bool:
    """Whether a program that unpacks the member could write outside its target folder."""
    name = member.orig_filename.replace("\\", "/")
    apart = posixpath.isabs(name) or ":" in name or "\0" in name or ".." in name.split("/")
    return apart or stat.S_ISLNK(member.external_attr >> 16)


def _content(given: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    content = given.read(member)  # reads at most the stated size, else the checksum fails
    if content.startswith(_ARCHIVES) or content[257:262] == b"ustar":
        raise AttachmentRefused("attachment-nested-archive")
    if content.startswith(_ACTIVE):
        raise AttachmentRefused("attachment-active")
    return content
