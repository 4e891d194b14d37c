"""PDF documents: what is active or packed in them is refused, their words are found. For the confined child alone."""

import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from pypdf import PdfReader
from pypdf.errors import PyPdfError

from comms.attachments.refusals import Refused
from comms.attachments.words import Words

_MAX_PAGES: Final = 2_000
_ACTIVE: Final = {"/JavaScript", "/Launch", "/ImportData", "/SubmitForm", "/Rendition"}
_PACKED: Final = {"/FileAttachment", "/RichMedia", "/Movie", "/Sound", "/Screen", "/3D"}


def words_of_pages(source: BinaryIO) -> Words:
    """The words of a PDF; raises `Refused`."""
    try:
        if zipfile.is_zipfile(source):
            raise Refused("attachment-nested-archive")
        source.seek(0)
        reader = PdfReader(source)
        if reader.is_encrypted and not reader.decrypt(""):
            raise Refused("attachment-encrypted")
        if len(reader.pages) > _MAX_PAGES:
            raise Refused("attachment-expands")
        _refuse_active(reader)
    except Refused:
        raise
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, RecursionError):
        raise Refused("attachment-unreadable") from None  # pypdf raises all of these over damaged files
    words = Words()
    words.gather(_texts(reader, words))
    return words


def _refuse_active(reader: PdfReader) -> None:
    root: Any = reader.root_object
    names = _resolved(root.get("/Names")) or {}
    if "/EmbeddedFiles" in names:
        raise Refused("attachment-nested-archive")
    if "/JavaScript" in names or _acts(root.get("/OpenAction")) or any(_each(root.get("/AA"))):
        raise Refused("attachment-active")
    for page in reader.pages:
        annotations = _resolved(page.get("/Annots")) or ()
        for annotation in (_resolved(found) or {} for found in annotations):
            if annotation.get("/Subtype") in _PACKED:
                raise Refused("attachment-nested-archive")
            if _acts(annotation.get("/A")) or any(_each(annotation.get("/AA"))):
                raise Refused("attachment-active")
        if any(_each(page.get("/AA"))):
            raise Refused("attachment-active")


def _each(actions: Any) -> Iterator[bool]:
    for action in (_resolved(actions) or {}).values():
        yield _acts(action)


def _acts(action: Any) -> bool:
    """Whether it does more than to show a place; such a one may stand behind others."""
    seen = 0
    found = _resolved(action)
    while isinstance(found, dict) and seen < 20:
        if found.get("/S") in _ACTIVE:
            return True
        found, seen = _resolved(found.get("/Next")), seen + 1
    return False


def _resolved(found: Any) -> Any:
    return found.get_object() if hasattr(found, "get_object") else found


def _texts(reader: PdfReader, words: Words) -> Iterator[str]:
    for page in reader.pages:
        try:
            yield page.extract_text() + "\n"
        except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, RecursionError):
            words.cut = True  # the page can be looked at, though not read here
