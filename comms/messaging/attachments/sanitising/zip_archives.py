"""Archives that documents are packed in: read in memory, never unpacked to a disk, packed anew. For the child alone."""

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
_ACTIVE_NAMES: Final = re.compile(
    r"(?i)(^|/)(vbaproject\.bin|vbadata\.xml|basic/.*|scripts/.*|activex/.*|macrosheets/.*|customui/.*)$"
)
# zipfile raises all of these on hostile files: RuntimeError of encrypted members, ValueError of impossible offsets
_DAMAGED: Final = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip


def read_members(source: BinaryIO) -> dict[str, bytes]:
    """The archive's files by name; raises `AttachmentRefused`.

    What was packed or can act is refused here, so that the sender learns that it would have been lost. No part is kept
    for having passed: the caller takes the parts that it knows.
    """
    try:
        with zipfile.ZipFile(source) as given:
            members = given.infolist()
            _refuse_unsound(members)
            return {member.filename: _content(given, member) for member in members if not member.is_dir()}
    except _DAMAGED:
        raise AttachmentRefused("attachment-unreadable") from None


def repack(parts: Iterable[tuple[str, bytes]]) -> bytes:
    """An archive of the parts in their order; OpenDocument's `mimetype` as it is."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as packed:
        for name, content in parts:
            fresh = zipfile.ZipInfo(name)  # neither its times nor its extra fields
            packed.writestr(fresh, content, zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED)
    return written.getvalue()


def _refuse_unsound(members: list[zipfile.ZipInfo]) -> None:
    if len(members) > _MAX_MEMBERS or sum(member.file_size for member in members) > _MAX_UNPACKED:
        raise AttachmentRefused("attachment-expands")
    if len({member.filename.replace("\\", "/").lower() for member in members}) != len(members):
        raise AttachmentRefused("attachment-unreadable")  # two readers could see two documents
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
    """Whether somebody who unpacks it where it says would write elsewhere than below their folder."""
    name = member.orig_filename.replace("\\", "/")
    apart = posixpath.isabs(name) or ":" in name or "\0" in name or ".." in name.split("/")
    return apart or stat.S_ISLNK(member.external_attr >> 16)


def _content(given: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    content = given.read(member)  # no more than it states, or its checksum is wrong
    if content.startswith(_ARCHIVES) or content[257:262] == b"ustar":
        raise AttachmentRefused("attachment-nested-archive")
    if content.startswith(_ACTIVE):
        raise AttachmentRefused("attachment-active")
    return content
