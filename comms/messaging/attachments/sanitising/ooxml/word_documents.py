"""Rebuilds Word documents (docx): text, formatting, tables, notes and pictures. Runs only in the confined child."""

import re
from collections.abc import Iterator
from typing import Final

from comms.messaging.attachments.sanitising.ooxml.packages import CleanPackage, CleanPart, Relation, SourcePackage
from comms.messaging.attachments.sanitising.ooxml.word_fields import box_of, fields_of, is_harmless
from comms.messaging.attachments.sanitising.ooxml.word_rules import (
    BLOCKS,
    KEPT,
    PARAGRAPH,
    RUN,
    TEXT,
    UNWRAPPED,
    WORDED,
)
from comms.messaging.attachments.sanitising.refusals import AttachmentRefused
from comms.messaging.attachments.sanitising.xml_parts import Element, Reducer, local_of, name, names, parsed, written

_MAIN: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml"
_ID, _EMBEDDED = name("r", "id"), name("r", "embed")
_COMPATIBILITY: Final = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_MATH: Final = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
NOT_KEPT: Final = "[A picture or drawing that cannot be kept. Send it as PDF or on its own.]"
_ROOTS: Final = names("w", "document styles numbering footnotes endnotes comments hdr ftr")
_MAX_SIDE: Final = 914_400 * 60
_SIDE: Final = 914_400 * 4  # 4 inches in English Metric Units, for pictures without a size
# Further parts of the document by the kind of their relationship: the file name, and whether they contain text.
_SIDES: Final = {
    "styles": ("styles", False), "numbering": ("numbering", False), "footnotes": ("footnotes", True),
    "endnotes": ("endnotes", True), "comments": ("comments", True),
}  # fmt: skip


def cleaned_word_document(given: SourcePackage, main: str) -> tuple[bytes, list[bytes]]:
    """Returns the rebuilt document and its parts that contain text, in reading order."""
    kept = CleanPackage(given, "word")
    document = kept.add(CleanPart("word/document.xml", f"{_MAIN}.document.main+xml"))
    story = _DocumentPart(given, kept, main, document)
    worded = [story.clean()]
    for kind, (file, has_words) in _SIDES.items():
        for source in given.related(main, kind)[:1]:
            part = kept.add(CleanPart(f"word/{file}.xml", f"{_MAIN}.{file}+xml"))
            document.relate(kind, part.name)
            content = _DocumentPart(given, kept, source, part, fonts=story.fonts).clean()
            worded += [content] if has_words else []
    return kept.packed(), worded + story.around


class _DocumentPart:
    """One part being cleaned. `around`: its headers and footers."""

    def __init__(
        self,
        given: SourcePackage,
        kept: CleanPackage,
        source: str,
        part: CleanPart,
        fonts: dict[str, str] | None = None,
    ) -> None:
        self._given, self._kept, self._source, self._part = given, kept, source, part
        self._relations = given.relations(source)
        self._boxes: list[Element] = []  # blocks of text boxes, put after the paragraph that anchors them
        self.around: list[bytes] = []
        self._shared: dict[str, str] = {}
        self.fonts = _theme_fonts(given, source) if fonts is None else fonts
        self._reducer = Reducer(KEPT, UNWRAPPED, WORDED, {
            name("w", "hyperlink"): self._hyperlink, name("w", "fldSimple"): self._simple_field,
            name("w", "fldChar"): self._field_mark, name("w", "instrText"): self._instruction,
            name("w", "headerReference"): self._reference, name("w", "footerReference"): self._reference,
            name("w", "drawing"): self._drawing, name("w", "pict"): self._drawing, name("w", "object"): self._drawing,
            name("w", "rFonts"): self._fonts, TEXT: self._text, PARAGRAPH: self._paragraph,
            f"{_COMPATIBILITY}AlternateContent": self._alternatives,
            f"{_MATH}oMath": self._formula, f"{_MATH}oMathPara": self._formula,
        })  # fmt: skip

    def clean(self) -> bytes:
        """Cleans the part and returns its new content."""
        root = parsed(self._given.content(self._source) or b"")
        self._fields = fields_of(root)
        if root.tag not in _ROOTS:
            raise AttachmentRefused("attachment-unreadable")
        [cleaned] = self._reducer.reduced(root)
        for cell in cleaned.iter(name("w", "tc")):
            if not any(child.tag in BLOCKS for child in cell):
                cell.append(Element(PARAGRAPH))  # Word rejects a cell without a paragraph
        self._part.content = written(cleaned)
        return self._part.content

    def _paragraph(self, element: Element) -> list[Element]:
        outer, self._boxes = self._boxes, []
        paragraph = self._reducer.stripped(element, KEPT[PARAGRAPH])
        boxes, self._boxes = self._boxes, outer
        return [paragraph, *boxes]

    def _text(self, element: Element) -> list[Element]:
        return [] if id(element) in self._fields.left_out else [self._reducer.stripped(element, KEPT[TEXT])]

    def _fonts(self, element: Element) -> list[Element]:
        """Replaces theme fonts by their names, because the theme is not kept."""
        for which, themed in (
            ("ascii", "asciiTheme"), ("hAnsi", "hAnsiTheme"), ("cs", "cstheme"), ("eastAsia", "eastAsiaTheme"),
        ):  # fmt: skip
            font = self.fonts.get(element.get(name("w", themed), "")[:5])
            if font is not None:
                element.set(name("w", which), font)
        return [self._reducer.stripped(element, KEPT[element.tag])]

    # --- links and fields ---

    def _hyperlink(self, element: Element) -> list[Element]:
        id = self._part.link(self._relations.get(element.get(_ID, "")))
        anchor = element.get(name("w", "anchor"))
        inside = self._reducer.children_of(element)
        if id is None and anchor is None:
            return inside
        link = Element(element.tag, {name("w", "anchor"): anchor} if id is None and anchor else {_ID: id or ""})
        link[:] = inside
        return [link]

    def _simple_field(self, element: Element) -> list[Element]:
        instruction = element.get(name("w", "instr"), "")
        inside = self._reducer.children_of(element)
        if not is_harmless(instruction):
            return inside
        field = Element(element.tag, {name("w", "instr"): instruction})
        field[:] = inside
        return [field]

    def _field_mark(self, element: Element) -> list[Element]:
        if (sign := box_of(element)) is not None:
            return [_words(sign)]
        kind = element.get(name("w", "fldCharType"), "")
        return [Element(element.tag, {name("w", "fldCharType"): kind})] if id(element) in self._fields.kept else []

    def _instruction(self, element: Element) -> list[Element]:
        if id(element) not in self._fields.kept:
            return []
        kept = Element(element.tag)
        kept.text = element.text
        return [kept]

    def _formula(self, element: Element) -> list[Element]:
        run = Element(RUN)
        run.append(_words("".join(one.text or "" for one in element.iter() if local_of(one.tag) == "t")))
        return [run]

    def _reference(self, element: Element) -> list[Element]:
        """Keeps a header or footer: a separate part, which is cleaned too."""
        relation, kind = self._relations.get(element.get(_ID, "")), local_of(element.tag)[:6]
        if relation is None or relation.kind != kind or relation.external or not relation.target:
            return []
        if self._part.name != "word/document.xml":
            return []
        if relation.target not in self._shared:  # several sections may share it
            part = self._kept.add(CleanPart(f"word/{kind}{len(self._shared) + 1}.xml", f"{_MAIN}.{kind}+xml"))
            self.around.append(_DocumentPart(self._given, self._kept, relation.target, part, self.fonts).clean())
            self._shared[relation.target] = self._part.relate(kind, part.name)
        attributes = {_ID: self._shared[relation.target]}
        if (which := element.get(name("w", "type"))) in ("default", "even", "first"):
            attributes[name("w", "type")] = which
        return [Element(element.tag, attributes)]

    # --- pictures and boxes ---

    def _alternatives(self, element: Element) -> list[Element]:
        """Keeps the first alternative of which something can be kept."""
        for alternative in element:
            before = len(self._boxes)
            found = self._reducer.children_of(alternative)
            if len(self._boxes) > before:
                return []
            if found and not all(one.text == NOT_KEPT for one in found):
                return found
        return [_words(NOT_KEPT)] if len(element) else []

    def _drawing(self, element: Element) -> list[Element]:
        """Re-encodes pictures and moves the text of text boxes below the paragraph. If neither is left, inserts a
        note.
        """
        boxes = list(element.iter(name("w", "txbxContent")))
        for box in boxes:
            self._boxes += [one for one in self._reducer.children_of(box) if one.tag in BLOCKS]
        found = list(self._pictures(element))
        return found if found or boxes else [_words(NOT_KEPT)]

    def _pictures(self, element: Element) -> Iterator[Element]:
        sides = element.find(f".//{name('wp', 'extent')}")
        width, height = (_side(sides.get(side) if sides is not None else None) for side in ("cx", "cy"))
        shown = [*element.iter(name("a", "blip")), *element.iter(name("v", "imagedata"))]
        for blip in shown:
            relation: Relation | None = self._relations.get(blip.get(_EMBEDDED) or blip.get(_ID) or "")
            if (id := self._kept.picture(self._part, relation)) is not None:
                yield _picture(id, len(self._part.relations), width, height)


def _words(text: str) -> Element:
    element = Element(TEXT, {"{http://www.w3.org/XML/1998/namespace}space": "preserve"})
    element.text = text
    return element


def _side(written_: str | None) -> int:
    return min(int(written_), _MAX_SIDE) if written_ and re.fullmatch("[0-9]{1,12}", written_) else _SIDE


def _picture(id: str, number: int, width: int, height: int) -> Element:
    """A picture inline in the text."""
    drawing = Element(name("w", "drawing"))
    inline = _below(drawing, "wp", "inline", distT="0", distB="0", distL="0", distR="0")
    _below(inline, "wp", "extent", cx=str(width), cy=str(height))
    _below(inline, "wp", "docPr", id=str(number), name=f"Picture {number}")
    graphic = _below(_below(inline, "a", "graphic"), "a", "graphicData", uri=name("pic", "")[1:-1])
    picture = _below(graphic, "pic", "pic")
    about = _below(picture, "pic", "nvPicPr")
    _below(about, "pic", "cNvPr", id=str(number), name=f"Picture {number}")
    _below(about, "pic", "cNvPicPr")
    fill = _below(picture, "pic", "blipFill")
    _below(fill, "a", "blip").set(_EMBEDDED, id)
    _below(_below(fill, "a", "stretch"), "a", "fillRect")
    shape = _below(picture, "pic", "spPr")
    place = _below(shape, "a", "xfrm")
    _below(place, "a", "off", x="0", y="0")
    _below(place, "a", "ext", cx=str(width), cy=str(height))
    _below(_below(shape, "a", "prstGeom", prst="rect"), "a", "avLst")
    return drawing


def _below(parent: Element, prefix: str, local: str, **attributes: str) -> Element:
    child = Element(name(prefix, local), attributes)
    parent.append(child)
    return child


def _theme_fonts(given: SourcePackage, main: str) -> dict[str, str]:
    """The Latin fonts of the theme for headings ('major') and text ('minor')."""
    fonts = {}
    for source in given.related(main, "theme")[:1]:
        theme = parsed(given.content(source) or b"")
        for which in ("major", "minor"):
            found = theme.find(f".//{name('a', f'{which}Font')}/{name('a', 'latin')}")
            if found is not None and found.get("typeface", "").replace(" ", "").isalnum():
                fonts[which] = found.get("typeface", "")
    return fonts
