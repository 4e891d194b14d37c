"""Rebuilds OpenDocument texts (odt): text, formatting, tables, lists, notes and pictures. Runs only in the confined
child.
"""

import io
from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import quoteattr  # only for writing

from comms.messaging.attachments.media_types import ODT
from comms.messaging.attachments.sanitising.images import cleaned_picture, picture_extension
from comms.messaging.attachments.sanitising.link_rules import allowed_address
from comms.messaging.attachments.sanitising.refusals import AttachmentRefused
from comms.messaging.attachments.sanitising.xml_parts import Element, Reducer, name, names, parsed, written
from comms.messaging.attachments.sanitising.zip_archives import repack

_MANIFEST: Final = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"
_HREF, _TYPE = name("xlink", "href"), name("xlink", "type")
_NOT_KEPT: Final = "[A picture or drawing that cannot be kept. Send it as PDF or on its own.]"
_OFFICE: Final = """document-content document-styles body text automatic-styles styles master-styles font-face-decls
    annotation annotation-end"""
_STYLE: Final = """style default-style text-properties paragraph-properties table-properties table-column-properties
    table-row-properties table-cell-properties graphic-properties section-properties list-level-properties
    list-level-label-alignment tab-stops tab-stop drop-cap columns column column-sep font-face page-layout
    page-layout-properties header-style footer-style header-footer-properties footnote-sep master-page header footer
    header-left footer-left header-first footer-first"""
_TEXT: Final = """p h span s tab line-break a list list-item list-header list-style list-level-style-number
    list-level-style-bullet outline-style outline-level-style section note note-citation note-body notes-configuration
    bookmark bookmark-start bookmark-end soft-page-break page-number page-count tracked-changes changed-region insertion
    deletion format-change change change-start change-end"""
_TABLE: Final = """table table-column table-columns table-row table-rows table-cell covered-table-cell table-header-rows
    table-header-columns table-column-group table-row-group"""
_DRAW: Final = "frame text-box rect ellipse circle g custom-shape"
_WORDED: Final = names("text", "p h span a note-citation page-number page-count") | names("dc", "creator date")
# Whole namespaces of formatting attributes are allowed; in other namespaces only the attributes listed here.
_LOOKS: Final = tuple(name(prefix, "") for prefix in ("fo", "svg", "style"))
_NAMED: Final = (
    names("office", "version value-type value date-value time-value boolean-value string-value currency name")
    | names("text", """style-name name display-name c note-class id label level outline-level start-value list-id
        continue-numbering continue-list restart-numbering is-list-header bullet-char display-levels select-page
        page-adjust space-before min-label-width min-label-distance list-level-position-and-space-mode
        label-followed-by list-tab-stop-position anchor-type anchor-page-number change-id citation-style-name
        citation-body-style-name default-style-name master-page-name start-numbering-at footnotes-position
        visited-style-name class-names dont-balance-text-columns""")
    | names("table", """name style-name number-columns-repeated number-rows-repeated number-columns-spanned
        number-rows-spanned default-cell-style-name align border-model""")
    | names("draw", "name style-name text-style-name z-index layer fill fill-color stroke textarea-vertical-align")
)  # fmt: skip


class _Attributes:
    """The set of attributes that an element may have."""

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and (key.startswith(_LOOKS) or key in _NAMED)


_KEPT: Final = dict.fromkeys(
    names("office", _OFFICE) | names("style", _STYLE) | names("text", _TEXT) | names("table", _TABLE)
    | names("draw", _DRAW) | names("svg", "title desc") | names("dc", "creator date"),
    _Attributes(),
)  # fmt: skip
_UNWRAPPED: Final = names(
    "text",
    """table-of-content index-body index-title alphabetical-index illustration-index
    table-index object-index user-index bibliography numbered-paragraph reference-mark-start reference-mark-end""",
)
# Fields: the text that they had when the document was last saved is kept.
_FIELDS: Final = names("text", """meta meta-field ruby ruby-base ruby-text
    date time title subject description author-name author-initials creation-date creation-time creator print-date
    print-time modification-date modification-time initial-creator keywords editing-cycles editing-duration chapter
    sequence sequence-ref bookmark-ref reference-ref note-ref reference-mark variable-set variable-get variable-input
    user-field-get user-field-input expression text-input placeholder conditional-text
    database-display sender-firstname sender-lastname sender-initials sender-title sender-position sender-email
    sender-phone-private sender-fax sender-company sender-phone-work sender-street sender-city sender-postal-code
    sender-country sender-state-or-province file-name template-name sheet-name paragraph-count word-count
    character-count table-count image-count object-count drop-down dde-connection execute-macro""") | names(
    "draw", "a"
)  # fmt: skip


def cleaned_open_document(members: Mapping[str, bytes]) -> tuple[bytes, list[bytes]]:
    """Returns the rebuilt document and its parts that contain text. Raises `AttachmentRefused`."""
    if b"encryption-data" in members.get("META-INF/manifest.xml", b""):
        raise AttachmentRefused("attachment-encrypted")
    document = _Document(members)
    parts = [("content.xml", document.clean("content.xml"))]
    if "styles.xml" in members:
        parts.append(("styles.xml", document.clean("styles.xml")))
    worded = [content for _, content in parts]
    parts += document.pictures.values()
    rows = "".join(
        f"<manifest:file-entry manifest:full-path={quoteattr(path)} manifest:media-type={quoteattr(kind)}/>"
        for path, kind in [("/", ODT), *((path, document.types.get(path, "text/xml")) for path, _ in parts)]
    )
    manifest = f'<manifest:manifest xmlns:manifest="{_MANIFEST}" manifest:version="1.3">{rows}</manifest:manifest>'
    whole = [("mimetype", ODT.encode()), *parts, ("META-INF/manifest.xml", manifest.encode())]
    return repack(whole), worded


class _Document:
    """A document being cleaned. `pictures`: from the original name of each picture to its new name and content."""

    def __init__(self, members: Mapping[str, bytes]) -> None:
        self._members = members
        self.pictures: dict[str, tuple[str, bytes]] = {}
        self.types: dict[str, str] = {}
        self._reducer = Reducer(_KEPT, _UNWRAPPED, _WORDED | _FIELDS, {
            **dict.fromkeys(_FIELDS, self._field), name("text", "a"): self._link, name("draw", "frame"): self._frame,
        })  # fmt: skip

    def clean(self, part: str) -> bytes:
        root = parsed(self._members[part])
        if root.tag not in (name("office", "document-content"), name("office", "document-styles")):
            raise AttachmentRefused("attachment-unreadable")
        [cleaned] = self._reducer.reduced(root)
        return written(cleaned)

    def _field(self, field: Element) -> list[Element]:
        words = self._reducer.stripped(field, ())
        words.tag = name("text", "span")
        return [words]

    def _link(self, link: Element) -> list[Element]:
        address = allowed_address(link.get(_HREF))
        kept = self._reducer.stripped(link, _KEPT[link.tag])
        if address is None:
            kept.tag = name("text", "span")
        else:
            kept.set(_HREF, address)
            kept.set(_TYPE, "simple")
        return [kept]

    def _frame(self, frame: Element) -> list[Element]:
        """Keeps a frame with its text box, or with the first of its pictures that can be kept."""
        shown = next((one for image in frame.iter(name("draw", "image")) if (one := self._image(image))), None)
        kept = self._reducer.stripped(frame, _KEPT[frame.tag])
        if shown is not None:
            kept.insert(0, shown)
        elif not any(child.tag == name("draw", "text-box") for child in kept):
            words = Element(name("text", "span"))
            words.text = _NOT_KEPT
            return [words]
        return [kept]

    def _image(self, image: Element) -> Element | None:
        href = image.get(_HREF, "").removeprefix("./")
        if href not in self.pictures:
            if href not in self._members:
                return None
            try:
                media_type, picture = cleaned_picture(io.BytesIO(self._members[href]))
            except AttachmentRefused as refusal:
                if refusal.slug == "attachment-expands":
                    raise
                return None
            path = f"Pictures/{len(self.pictures) + 1}.{picture_extension(media_type)}"
            self.pictures[href], self.types[path] = (path, picture), media_type
        address = self.pictures[href][0]
        return Element(image.tag, {
            _HREF: address, _TYPE: "simple", name("xlink", "show"): "embed", name("xlink", "actuate"): "onLoad",
        })  # fmt: skip
