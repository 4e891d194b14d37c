"""Rebuilds PDF documents from the harmless parts of their pages. Runs only in the confined child.

Annotations and filled-in fields are first drawn into the pages, so that they stay visible. After that no form, script,
action or note is left. Plain links to web pages and e-mail addresses are rebuilt.
"""

import io
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import pikepdf
import pypdf._codecs._codecs  # imported now: the child can open no files later
import pypdf.filters  # noqa: F401
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from comms.messaging.attachments.sanitising.link_rules import allowed_address
from comms.messaging.attachments.sanitising.pdf.copying import PdfCopier
from comms.messaging.attachments.sanitising.pdf.rules import CONTENT, INHERITED, OWN
from comms.messaging.attachments.sanitising.refusals import AttachmentRefused
from comms.messaging.attachments.sanitising.text_extraction import TextCollector

_MAX_PAGES: Final = 2_000
_MAX_ANNOTATIONS: Final = 5_000  # for each page
_MAX_PARENTS: Final = 50
_LETTER: Final = (0, 0, 612, 792)
_MEMORY: Final = 512 << 20  # for decoding one stream
_PACKED: Final = frozenset({"/FileAttachment", "/RichMedia", "/Movie", "/Sound", "/Screen", "/3D"})
# `_notes` skips these annotations: links have no text, and the text of the others is in their appearance.
_DRAWN: Final = frozenset({"/Link", "/Widget", "/FreeText", "/Popup"})
_DAMAGED: Final = (
    pikepdf.PdfError, PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, RecursionError,
    RuntimeError, NotImplementedError, ArithmeticError,
)  # fmt: skip

pikepdf.settings.set_qpdf_limits(
    max_stream_filters=4, flate_max_memory=_MEMORY, run_length_max_memory=_MEMORY, png_max_memory=_MEMORY,
    tiff_max_memory=_MEMORY, dct_max_memory=_MEMORY,
)  # fmt: skip


def rebuild_pdf(source: BinaryIO) -> tuple[bytes, TextCollector]:
    """Returns the rebuilt document and its text. Raises `AttachmentRefused`."""
    try:
        if zipfile.is_zipfile(source):
            raise AttachmentRefused("attachment-nested-archive")
        source.seek(0)
        with pikepdf.Pdf.open(source, suppress_warnings=True) as given:
            kept, notes = _rebuilt(given)
    except pikepdf.PasswordError:
        raise AttachmentRefused("attachment-encrypted") from None
    except AttachmentRefused:
        raise
    except _DAMAGED:
        raise AttachmentRefused("attachment-unreadable") from None  # the libraries raise all of these for damaged files
    words = TextCollector()
    words.add(_texts(kept, words))
    words.add(notes)
    return kept, words


def _rebuilt(given: pikepdf.Pdf) -> tuple[bytes, list[str]]:
    if len(given.pages) > _MAX_PAGES:
        raise AttachmentRefused("attachment-expands")
    _refuse_lost(given)
    links = [list(_links(page.obj)) for page in given.pages]
    notes = [note for page in given.pages for note in _notes(page.obj)]
    given.generate_appearance_streams()
    given.flatten_annotations("all")
    with pikepdf.Pdf.new() as kept:
        copier = PdfCopier(kept)
        for page, of_page in zip(given.pages, links, strict=True):
            kept.pages.append(pikepdf.Page(_page(copier, page.obj)))
            if of_page:
                kept.pages[-1].obj["/Annots"] = pikepdf.Array([kept.make_indirect(link) for link in of_page])
        written = io.BytesIO()
        kept.save(written, object_stream_mode=pikepdf.ObjectStreamMode.generate, deterministic_id=True)
    return written.getvalue(), notes


def _refuse_lost(given: pikepdf.Pdf) -> None:
    """Raises `AttachmentRefused` if the document contains more than its pages show: files, video, audio."""
    root: Any = given.Root
    names = root.get("/Names")
    packed = isinstance(names, pikepdf.Dictionary) and "/EmbeddedFiles" in names
    if packed or {"/Collection", "/AF"} & set(root):
        raise AttachmentRefused("attachment-nested-archive")
    if root.get("/NeedsRendering") is True:  # a form that only a program can render (XFA)
        raise AttachmentRefused("attachment-active")
    for page in given.pages:
        if "/AF" in page.obj or any(one.get("/Subtype") in _PACKED for one in _annotations(page.obj)):
            raise AttachmentRefused("attachment-nested-archive")


def _page(copier: PdfCopier, page: Any) -> Any:
    made = pikepdf.Dictionary(Type=pikepdf.Name.Page)
    for key, rule in OWN.items():
        if key in page and (value := rule(copier, page[key])) is not None:
            made[key] = value
    for key, rule in INHERITED.items():
        if (found := _inherited(page, key)) is not None and (value := rule(copier, found)) is not None:
            made[key] = value
    if "/MediaBox" not in made:
        made["/MediaBox"] = pikepdf.Array(_LETTER)
    contents = page.get("/Contents")
    pieces = list(contents) if isinstance(contents, pikepdf.Array) else [contents]
    copied = [piece for one in pieces if (piece := CONTENT(copier, one)) is not None]
    if copied:
        made["/Contents"] = pikepdf.Array(copied)
    return copier.target.make_indirect(made)


def _inherited(page: Any, key: str) -> Any:
    """The value of the page, or of its nearest ancestor in the page tree that has one."""
    for _ in range(_MAX_PARENTS):
        if key in page:
            return page[key]
        page = page.get("/Parent")
        if not isinstance(page, pikepdf.Dictionary):
            return None
    return None


def _annotations(page: Any) -> Iterator[Any]:
    found = page.get("/Annots")
    if isinstance(found, pikepdf.Array):
        if len(found) > _MAX_ANNOTATIONS:
            raise AttachmentRefused("attachment-expands")
        yield from (one for one in found if isinstance(one, pikepdf.Dictionary))


def _links(page: Any) -> Iterator[Any]:
    """The plain links of the page, rebuilt."""
    for annotation in _annotations(page):
        action = annotation.get("/A")
        if annotation.get("/Subtype") != "/Link" or not isinstance(action, pikepdf.Dictionary):
            continue
        address = action.get("/URI") if action.get("/S") == "/URI" else None
        allowed = allowed_address(str(address)) if isinstance(address, pikepdf.String) else None
        place = annotation.get("/Rect")
        if allowed and isinstance(place, pikepdf.Array) and len(place) == 4:
            yield pikepdf.Dictionary(
                Type=pikepdf.Name.Annot, Subtype=pikepdf.Name.Link, Rect=[float(side) for side in place],
                Border=[0, 0, 0], A=pikepdf.Dictionary(S=pikepdf.Name.URI, URI=pikepdf.String(allowed)),
            )  # fmt: skip


def _notes(page: Any) -> Iterator[str]:
    """The text of notes that the page does not show. It can be searched, although the stored file does not contain the
    notes.
    """
    for annotation in _annotations(page):
        said = annotation.get("/Contents")
        if annotation.get("/Subtype") not in _DRAWN and isinstance(said, pikepdf.String) and str(said).strip():
            yield f"{said}\n"


def _texts(kept: bytes, words: TextCollector) -> Iterator[str]:
    for page in PdfReader(io.BytesIO(kept)).pages:
        try:
            yield page.extract_text() + "\n"
        except _DAMAGED:
            words.cut = True  # the page can be shown, but its text cannot be extracted
