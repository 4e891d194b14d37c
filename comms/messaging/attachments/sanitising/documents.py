"""Rebuilds documents that are ZIP archives (docx, xlsx, odt) from their known parts. Runs only in the confined
child.
"""

from collections.abc import Iterator
from typing import BinaryIO, Final

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from comms.messaging.attachments.media_types import DOCX, ODT, XLSX
from comms.messaging.attachments.sanitising.odf.text_documents import cleaned_open_document
from comms.messaging.attachments.sanitising.ooxml.packages import SourcePackage
from comms.messaging.attachments.sanitising.ooxml.sheets import cleaned_table
from comms.messaging.attachments.sanitising.ooxml.word_documents import cleaned_word_document
from comms.messaging.attachments.sanitising.refusals import AttachmentRefused
from comms.messaging.attachments.sanitising.xml_parts import paragraphs
from comms.messaging.attachments.sanitising.zip_archives import read_members

# By the content type of the main part, as in `.docx` and `.xlsx`. Templates and add-ins are refused.
_OFFICE: Final = {
    f"{DOCX}.main+xml": (DOCX, cleaned_word_document),
    f"{XLSX}.main+xml": (XLSX, cleaned_table),
}


def cleaned_document(source: BinaryIO) -> tuple[str, bytes, Iterator[str]]:
    """Returns the media type, the rebuilt document, and its text in pieces. Raises `AttachmentRefused`."""
    members = read_members(source)
    try:
        if members.get("mimetype", b"").strip() == ODT.encode() and "content.xml" in members:
            kept, worded = cleaned_open_document(members)
            return ODT, kept, _words(worded)
        package = SourcePackage(members)
        main, content_type = package.main_part()
        if "macroenabled" in content_type:
            raise AttachmentRefused("attachment-active")
        if content_type not in _OFFICE:
            raise AttachmentRefused("attachment-type-not-taken")
        media_type, cleaned = _OFFICE[content_type]
        kept, worded = cleaned(package, main)
        return media_type, kept, _words(worded)
    except RecursionError:
        raise AttachmentRefused("attachment-unreadable") from None


def _words(worded: list[bytes]) -> Iterator[str]:
    for part in worded:
        try:
            yield from paragraphs(part)
        except (ElementTree.ParseError, DefusedXmlException, LookupError, ValueError):
            raise AttachmentRefused("attachment-unreadable") from None
