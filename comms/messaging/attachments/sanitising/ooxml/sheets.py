"""Rebuilds Excel tables (xlsx) with the last calculated values and without formulas. Runs only in the confined child.

A formula can call external resources (DDE, web services, links to other files) and can be written in many ways. So no
formula is kept, only the value in its cell.
"""

from collections.abc import Collection
from typing import Final

from comms.messaging.attachments.sanitising.ooxml.packages import CleanPackage, CleanPart, SourcePackage
from comms.messaging.attachments.sanitising.ooxml.sheet_notes import boxes_of_notes
from comms.messaging.attachments.sanitising.ooxml.sheet_pictures import cleaned_drawing
from comms.messaging.attachments.sanitising.refusals import AttachmentRefused
from comms.messaging.attachments.sanitising.xml_parts import Element, Reducer, name, names, parsed, written

_MAIN: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_ID, _SPACE = name("r", "id"), "{http://www.w3.org/XML/1998/namespace}space"
_MAX_SHEETS: Final = 500


def _allowed(**attributes: str) -> dict[str, Collection[str]]:
    return {name("x", local): frozenset(known.split()) for local, known in attributes.items()}


_RICH: Final = _allowed(
    r="", rPr="", b="val", i="val", u="val", strike="val", sz="val", color="rgb indexed theme tint", rFont="val",
    family="val", charset="val", scheme="val", vertAlign="val",
) | {name("x", "t"): frozenset({_SPACE})}  # fmt: skip
_STRINGS: Final = Reducer(_RICH | _allowed(sst="", si=""), (), {name("x", "t")}, {})
_NOTES: Final = Reducer(
    _RICH | _allowed(comments="", authors="", author="", commentList="", comment="ref authorId", text=""),
    (), names("x", "t author"), {},
)  # fmt: skip
_LINE: Final = "style"
_STYLES: Final = Reducer(
    _RICH | _allowed(
        styleSheet="", numFmts="", numFmt="numFmtId formatCode", fonts="", font="", name="val", fills="", fill="",
        patternFill="patternType", fgColor="rgb indexed theme tint auto", bgColor="rgb indexed theme tint auto",
        color="rgb indexed theme tint auto", gradientFill="type degree left right top bottom", stop="position",
        borders="", border="diagonalUp diagonalDown outline", left=_LINE, right=_LINE, top=_LINE, bottom=_LINE,
        start=_LINE, end=_LINE, diagonal=_LINE, cellStyleXfs="", cellXfs="", alignment="horizontal vertical wrapText "
        "textRotation indent shrinkToFit readingOrder", cellStyles="", cellStyle="name xfId builtinId",
        xf="numFmtId fontId fillId borderId xfId applyNumberFormat applyFont applyFill applyBorder applyAlignment",
    ),
    (), (), {},
)  # fmt: skip
_SHEET: Final = _RICH | _allowed(
    worksheet="", sheetFormatPr="defaultRowHeight defaultColWidth baseColWidth customHeight", cols="",
    col="min max width style customWidth bestFit", sheetData="", row="r s customFormat ht customHeight", v="",
    mergeCells="", mergeCell="ref", pageMargins="left right top bottom header footer",
    pageSetup="orientation paperSize",
)  # fmt: skip


def cleaned_table(given: SourcePackage, main: str) -> tuple[bytes, list[bytes]]:
    """Returns the rebuilt tables and their parts that contain text, in reading order."""
    kept = CleanPackage(given, "xl")
    book = kept.add(CleanPart("xl/workbook.xml", f"{_MAIN}.sheet.main+xml"))
    given_book = parsed(given.content(main) or b"")
    made = Element(name("x", "workbook"))
    _keep_dates(given_book, made)
    sheets = Element(name("x", "sheets"))
    worded = _keep_strings(given, kept, main, book)
    relations = given.relations(main)
    for one in given_book.findall(f"{name('x', 'sheets')}/{name('x', 'sheet')}"):
        relation = relations.get(one.get(_ID, ""))
        if relation is None or relation.external or given.content(relation.target) is None:
            continue
        if relation.kind == "chartsheet":
            continue  # only a drawing of values that the tables contain
        if relation.kind != "worksheet" or len(sheets) >= _MAX_SHEETS:
            raise AttachmentRefused("attachment-active")
        sheet, number = _Sheet(given, kept, relation.target, len(sheets) + 1), str(len(sheets) + 1)
        worded += sheet.keep()
        attributes = {"name": one.get("name", f"Sheet {number}"), "sheetId": number}
        sheets.append(Element(name("x", "sheet"), attributes | {_ID: book.relate("worksheet", sheet.part.name)}))
    made.append(sheets)
    book.content = written(made)
    return kept.packed(), worded


def _keep_dates(given: Element, made: Element) -> None:
    """Keeps the start of the date system (1900 or 1904): without it every date would be wrong by four years."""
    properties = given.find(name("x", "workbookPr"))
    if properties is not None and properties.get("date1904", "").lower() in ("1", "true"):
        made.append(Element(name("x", "workbookPr"), {"date1904": "1"}))


def _keep_strings(given: SourcePackage, kept: CleanPackage, main: str, book: CleanPart) -> list[bytes]:
    worded = []
    for kind, reducer in (("sharedStrings", _STRINGS), ("styles", _STYLES)):
        for source in given.related(main, kind.lower())[:1]:
            part = kept.add(CleanPart(f"xl/{kind}.xml", f"{_MAIN}.{kind}+xml"))
            book.relate(kind, part.name)
            part.content = _reduced(given, source, reducer)
            worded += [part.content] if kind == "sharedStrings" else []
    return worded


def _reduced(given: SourcePackage, source: str, reducer: Reducer) -> bytes:
    found = reducer.reduced(parsed(given.content(source) or b""))
    if not found:
        raise AttachmentRefused("attachment-unreadable")
    return written(found[0])


class _Sheet:
    """One sheet being cleaned."""

    def __init__(self, given: SourcePackage, kept: CleanPackage, source: str, number: int) -> None:
        self._given, self._kept, self._source, self._number = given, kept, source, number
        self._relations = given.relations(source)
        self.part = kept.add(CleanPart(f"xl/worksheets/sheet{number}.xml", f"{_MAIN}.worksheet+xml"))
        self._reducer = Reducer(_SHEET, (), names("x", "t v"), {
            name("x", "c"): self._cell, name("x", "hyperlinks"): self._links, name("x", "drawing"): self._drawing,
        })  # fmt: skip

    def keep(self) -> list[bytes]:
        """Cleans the sheet and its notes; returns the parts that contain text."""
        found = self._reducer.reduced(parsed(self._given.content(self._source) or b""))
        if not found:
            raise AttachmentRefused("attachment-unreadable")
        notes = self._keep_notes(found[0])
        self.part.content = written(found[0])
        return [self.part.content, *notes]

    def _cell(self, cell: Element) -> list[Element]:
        kept = Element(cell.tag, {key: cell.attrib[key] for key in ("r", "s", "t") if key in cell.attrib})
        inside, value = cell.find(name("x", "is")), cell.find(name("x", "v"))
        if inside is not None and kept.get("t") == "inlineStr":
            kept.append(self._reducer.stripped(inside, ()))
        elif value is not None and kept.get("t") == "str":  # the result of a formula is stored as text
            kept.set("t", "inlineStr")
            words = Element(name("x", "t"), {_SPACE: "preserve"})
            words.text = value.text
            kept.append(Element(name("x", "is")))
            kept[0].append(words)
        elif value is not None:
            kept.append(self._reducer.stripped(value, ()))
        return [kept]

    def _links(self, links: Element) -> list[Element]:
        made = Element(links.tag)
        for link in links:
            id = self.part.link(self._relations.get(link.get(_ID, "")))
            if id is not None:
                made.append(Element(name("x", "hyperlink"), {"ref": link.get("ref", "A1"), _ID: id}))
        return [made] if len(made) else []

    def _drawing(self, drawing: Element) -> list[Element]:
        relation = self._relations.get(drawing.get(_ID, ""))
        if relation is None or relation.kind != "drawing" or relation.external or not relation.target:
            return []
        part = cleaned_drawing(self._given, self._kept, relation.target, self._number)
        return [] if part is None else [Element(drawing.tag, {_ID: self.part.relate("drawing", part.name)})]

    def _keep_notes(self, sheet: Element) -> list[bytes]:
        for source in self._given.related(self._source, "comments")[:1]:
            part = CleanPart(f"xl/comments{self._number}.xml", f"{_MAIN}.comments+xml")
            part.content = _reduced(self._given, source, _NOTES)
            boxes = CleanPart(
                f"xl/drawings/notes{self._number}.vml", "application/vnd.openxmlformats-officedocument.vmlDrawing",
                boxes_of_notes(parsed(part.content)),
            )  # fmt: skip
            self._kept.add(part)
            self._kept.add(boxes)
            self.part.relate("comments", part.name)
            sheet.append(Element(name("x", "legacyDrawing"), {_ID: self.part.relate("vmlDrawing", boxes.name)}))
            return [part.content]
        return []
