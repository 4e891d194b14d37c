"""PDF and Office samples that act, fetch or embed something. The hostile part of each contains HOSTILE."""

import io
from collections.abc import Callable
from typing import Any, Final

import pikepdf
from pikepdf import Array, Dictionary, Name, String

from tests.comms import attachment_samples

MARK: Final = "HOSTILE"
ADDRESS: Final = f"http://192.0.2.1/{MARK}"
SHARE: Final = f"\\\\\\\\192.0.2.1\\\\share\\\\{MARK}"
WORDS: Final = "Ada fell at nine"

Change = Callable[[pikepdf.Pdf, Any], None]


def pdf(change: Change, text: str = WORDS) -> bytes:
    """A PDF page with the text; `change` may then change the document and the page."""
    with pikepdf.Pdf.open(io.BytesIO(attachment_samples.pdf(text))) as made:
        change(made, made.pages[0].obj)
        written = io.BytesIO()
        made.save(written)
    return written.getvalue()


def script(made: pikepdf.Pdf) -> Any:
    return made.make_indirect(Dictionary(S=Name.JavaScript, JS=String(f"app.alert('{MARK}')")))


def _program(made: pikepdf.Pdf) -> Any:
    return made.make_indirect(
        Dictionary(
            Type=Name.Filespec, F=String(f"{MARK}.exe"), EF=Dictionary(F=made.make_stream(b"MZ" + MARK.encode()))
        )
    )


def _launch(_: pikepdf.Pdf) -> Any:
    return Dictionary(S=Name.Launch, F=String(SHARE), Win=Dictionary(F=String(f"{MARK}.exe")))


def annotated(subtype: str, **keys: Any) -> Change:
    """An annotation on the page."""

    def change(made: pikepdf.Pdf, page: Any) -> None:
        given = {key: value(made) if callable(value) else value for key, value in keys.items()}
        one = Dictionary(Type=Name.Annot, Subtype=Name(subtype), Rect=[10, 10, 90, 40], **given)
        page["/Annots"] = Array([made.make_indirect(one)])

    return change


def _in_root(key: str, value: Callable[[pikepdf.Pdf], Any]) -> Change:
    def change(made: pikepdf.Pdf, _: Any) -> None:
        made.Root[key] = value(made)

    return change


def _outlines(made: pikepdf.Pdf) -> Any:
    entry = made.make_indirect(Dictionary(Title=String("Begin"), A=script(made)))
    return made.make_indirect(Dictionary(Type=Name.Outlines, First=entry, Last=entry, Count=1))


def _form(made: pikepdf.Pdf) -> Any:
    return Dictionary(
        Fields=Array([made.make_indirect(Dictionary(FT=Name.Tx, T=String("x"), AA=Dictionary(K=script(made))))]),
        XFA=Array([String("template"), made.make_stream(f"<script>{MARK}</script>".encode())]),
    )


def _chained(made: pikepdf.Pdf) -> Any:
    return Dictionary(S=Name.GoTo, D=Array([made.pages[0].obj, Name.Fit]), Next=Array([script(made), _launch(made)]))


def _external_stream(made: pikepdf.Pdf, page: Any) -> None:
    far = made.make_stream(b"")
    far["/F"] = Dictionary(Type=Name.Filespec, FS=Name.URL, F=String(ADDRESS))
    page["/Contents"] = Array([page["/Contents"], far])


def _drawn(subtype: str, **keys: Any) -> Change:
    """An XObject that the page draws."""

    def change(made: pikepdf.Pdf, page: Any) -> None:
        drawn = made.make_stream(MARK.encode() if subtype != "/Image" else b"\0")
        drawn["/Type"], drawn["/Subtype"], drawn["/BBox"] = Name.XObject, Name(subtype), Array([0, 0, 9, 9])
        for key, value in keys.items():
            drawn[f"/{key}"] = value(made) if callable(value) else value
        page.Resources["/XObject"] = Dictionary(X0=drawn)

    return change


def _font_matrix(made: pikepdf.Pdf, page: Any) -> None:
    page.Resources.Font.F1["/FontMatrix"] = Array([1, 0, 0, 1, 0, String(f"0);alert('{MARK}')")])


def _page_actions(made: pikepdf.Pdf, page: Any) -> None:
    page["/AA"] = Dictionary(O=script(made), C=_launch(made))
    page["/PieceInfo"] = Dictionary(X=Dictionary(Private=String(MARK)))
    page["/Metadata"] = made.make_stream(MARK.encode())


def _titled(made: pikepdf.Pdf, _: Any) -> None:
    made.docinfo["/Author"] = String(MARK)
    made.Root["/Metadata"] = made.make_stream(f"<x:xmpmeta>{MARK}</x:xmpmeta>".encode())


# Stored without the hostile part.
PDFS: Final[dict[str, Change]] = {
    "script when it is opened": _in_root("/OpenAction", script),
    "script in the document's actions": _in_root("/AA", lambda made: Dictionary(WC=script(made), DS=script(made))),
    "script in outlines": _in_root("/Outlines", _outlines),
    "script in names": _in_root(
        "/Names", lambda made: Dictionary(JavaScript=Dictionary(Names=Array([String("a"), script(made)])))
    ),
    "script in a form's field, and XFA": _in_root("/AcroForm", _form),
    "script behind a chain of actions": _in_root("/OpenAction", _chained),
    "document on a share": _in_root(
        "/OpenAction", lambda _: Dictionary(S=Name.GoToR, F=String(SHARE), D=Array([0, Name.Fit]))
    ),
    "embedded document": annotated("/Link", A=Dictionary(S=Name.GoToE, T=Dictionary(R=Name.C, N=String(MARK)))),
    "page's actions, private data, metadata": _page_actions,
    "author and metadata": _titled,
    "link that launches": annotated("/Link", A=_launch),
    "link to a script": annotated("/Link", A=Dictionary(S=Name.URI, URI=String(f"javascript:{MARK}"))),
    "link to a file": annotated("/Link", A=Dictionary(S=Name.URI, URI=String(f"file:///c:/{MARK}.exe"))),
    "link to a share": annotated("/Link", A=Dictionary(S=Name.URI, URI=String(SHARE))),
    "link whose host is hidden": annotated("/Link", A=Dictionary(S=Name.URI, URI=String(f"https://nhs.uk@{MARK}.xyz/"))),
    "form that is sent": annotated("/Link", A=Dictionary(S=Name.SubmitForm, F=String(ADDRESS))),
    "form that is filled": annotated("/Link", A=Dictionary(S=Name.ImportData, F=String(SHARE))),
    "link that plays": annotated("/Link", A=Dictionary(S=Name.Rendition, JS=String(MARK))),
    "field that acts": annotated("/Widget", FT=Name.Tx, T=String("x"), AA=lambda made: Dictionary(E=script(made))),
    "link with further actions": annotated("/Link", AA=lambda made: Dictionary(E=script(made), U=_launch(made))),
    "stream that lies elsewhere": _external_stream,
    "page of another document": _drawn("/Form", Ref=lambda _: Dictionary(F=String(ADDRESS), Page=0)),
    "PostScript": _drawn("/PS"),
    "form with PostScript": _drawn("/Form", Subtype2=Name.PS, PS=lambda made: made.make_stream(MARK.encode())),
    "picture with others elsewhere": _drawn(
        "/Image", Width=1, Height=1, BitsPerComponent=8, ColorSpace=Name.DeviceGray,
        OPI=Dictionary({"/2.0": Dictionary(F=String(ADDRESS))}),
    ),
    "font whose matrix is a script": _font_matrix,
}  # fmt: skip

# Refused, because content beside the pages would be lost.
PACKED_PDFS: Final[dict[str, Change]] = {
    "embedded files": _in_root(
        "/Names", lambda made: Dictionary(EmbeddedFiles=Dictionary(Names=Array([String("a"), _program(made)])))
    ),
    "associated file": _in_root("/AF", lambda made: Array([_program(made)])),
    "portfolio": _in_root("/Collection", lambda _: Dictionary(Type=Name.Collection)),
    "attached to a page": annotated("/FileAttachment", FS=_program),
    "film": annotated("/RichMedia", RichMediaContent=lambda _: Dictionary()),
    "older film": annotated("/Movie", Movie=lambda _: Dictionary(F=String(SHARE))),
    "sound": annotated("/Sound", Sound=lambda made: made.make_stream(b"")),
    "screen": annotated("/Screen", A=script),
    "space": annotated("/3D"),
}


def _instruction(written: str, result: str = WORDS) -> str:
    return (
        '<w:p><w:r><w:fldChar w:fldCharType="begin"/></w:r>'
        f"<w:r><w:instrText>{written}</w:instrText></w:r>"
        '<w:r><w:fldChar w:fldCharType="separate"/></w:r>'
        f'<w:r><w:t>{result}</w:t></w:r><w:r><w:fldChar w:fldCharType="end"/></w:r></w:p>'
    )


def _split(*pieces: str) -> str:
    rows = "".join(f"<w:r><w:instrText>{piece}</w:instrText></w:r>" for piece in pieces)
    return f'<w:p><w:r><w:fldChar w:fldCharType="begin"/></w:r>{rows}<w:r><w:fldChar w:fldCharType="end"/></w:r></w:p>'


_BLIP: Final = (
    '<w:p><w:r><w:drawing><wp:inline><a:graphic><a:graphicData uri="x"><pic:pic><pic:blipFill>'
    '<a:blip r:link="h1" r:embed="h1"/></pic:blipFill></pic:pic></a:graphicData></a:graphic></wp:inline></w:drawing>'
    "</w:r></w:p>"
)
_SETTINGS: Final = attachment_samples.related(("s1", "settings", "settings.xml"))


def _outside(kind: str) -> bytes:
    return attachment_samples.docx(WORDS, links=attachment_samples.related(("h1", kind, ADDRESS), external=True))


DOCXS: Final[dict[str, bytes]] = {
    "DDEAUTO": attachment_samples.docx(inside=_instruction(f'DDEAUTO c:\\\\cmd.exe "/k {MARK}"')),
    "DDE in pieces": attachment_samples.docx(WORDS, inside=_split("DD", "EAUTO ", MARK)),
    "DDE in a simple field": attachment_samples.docx(
        inside=f'<w:p><w:fldSimple w:instr="DDE {MARK}"><w:r><w:t>{WORDS}</w:t></w:r></w:fldSimple></w:p>'
    ),
    "DDE inside a page number": attachment_samples.docx(
        WORDS, inside=_instruction(f"PAGE </w:instrText></w:r>{_split(f'DDE {MARK}')[5:-6]}<w:r><w:instrText>", "1")
    ),
    "PAGE that goes on": attachment_samples.docx(inside=_instruction(f'PAGE \\* "{MARK}"')),
    "INCLUDEPICTURE": attachment_samples.docx(inside=_instruction(f'INCLUDEPICTURE "{ADDRESS}" \\d')),
    "INCLUDETEXT": attachment_samples.docx(inside=_instruction(f'INCLUDETEXT "{ADDRESS}"')),
    "IMPORT, LINK, DATABASE": attachment_samples.docx(
        inside=_instruction(f"IMPORT {ADDRESS}") + _instruction(f"LINK {MARK}") + _instruction(f"DATABASE \\c {MARK}")
    ),
    "MACROBUTTON": attachment_samples.docx(inside=_instruction(f"MACROBUTTON {MARK}")),
    "HYPERLINK": attachment_samples.docx(inside=_instruction(f'HYPERLINK "file:///{MARK}"')),
    "QUOTE with nested fields": attachment_samples.docx(inside=_instruction(f"QUOTE {{ SET x {MARK} }}")),
    "macros of a field": attachment_samples.docx(
        inside='<w:p><w:r><w:fldChar w:fldCharType="begin"><w:ffData><w:entryMacro '
        f'w:val="{MARK}"/><w:exitMacro w:val="{MARK}"/></w:ffData></w:fldChar></w:r><w:r><w:t>{WORDS}</w:t></w:r></w:p>'
    ),
    "picture from elsewhere": attachment_samples.docx(
        WORDS, inside=_BLIP, links=attachment_samples.related(("h1", "image", ADDRESS), external=True)
    ),
    "picture of the older kind": attachment_samples.docx(
        WORDS, inside='<w:p><w:r><w:pict><v:shape><v:imagedata r:id="h1" src="' + ADDRESS + f'" o:href="{ADDRESS}"/>'
        "</v:shape></w:pict></w:r></w:p>", links=attachment_samples.related(("h1", "image", ADDRESS), external=True),
    ),
    "template of a relationship": _outside("attachedTemplate"),
    "template in capital letters": attachment_samples.docx(WORDS, links=_SETTINGS, members={
        "word/settings.xml": (
            f'<w:settings {attachment_samples.NAMESPACES}><w:attachedTemplate r:id="t1"/></w:settings>'
        ).encode(),
        "word/_RELS/settings.xml.RELS": attachment_samples.related(("t1", "attachedTemplate", ADDRESS), external=True),
    }),
    "data of a mail merge": attachment_samples.docx(WORDS, links=_SETTINGS, members={
        "word/settings.xml": (
            f'<w:settings {attachment_samples.NAMESPACES}><w:mailMerge><w:query w:val="{MARK}"/></w:mailMerge>'
            "</w:settings>"
        ).encode(),
    }),
    "frames": attachment_samples.docx(
        WORDS, links=attachment_samples.related(("w1", "webSettings", "webSettings.xml")), members={
        "word/webSettings.xml": (
            f'<w:webSettings {attachment_samples.NAMESPACES}><w:frameset><w:frame><w:sourceFileName r:id="f1"/>'
            "</w:frame></w:frameset></w:webSettings>"
        ).encode(),
        "word/_rels/webSettings.xml.rels": attachment_samples.related(("f1", "frame", ADDRESS), external=True),
    }),
    "frame of a relationship": _outside("frame"),
    "data that is bound": attachment_samples.docx(
        inside="<w:sdt><w:sdtPr><w:dataBinding w:xpath='x' w:storeItemID='" + MARK + "'/></w:sdtPr><w:sdtContent><w:p>"
        f"<w:r><w:t>{WORDS}</w:t></w:r></w:p></w:sdtContent></w:sdt>",
        links=attachment_samples.related(("x1", "customXml", "../customXml/item1.xml")),
        members={"customXml/item1.xml": f"<a>{MARK}</a>".encode()},
    ),
    "link to a share": attachment_samples.docx(
        inside=f'<w:p><w:hyperlink r:id="h1" w:tgtFrame="{MARK}"><w:r><w:t>{WORDS}</w:t></w:r></w:hyperlink></w:p>',
        links=attachment_samples.related(("h1", "hyperlink", SHARE), external=True),
    ),
    "link to a script": attachment_samples.docx(
        inside=f'<w:p><w:hyperlink r:id="h1"><w:r><w:t>{WORDS}</w:t></w:r></w:hyperlink></w:p>',
        links=attachment_samples.related(("h1", "hyperlink", f"javascript:{MARK}"), external=True),
    ),
    "link of a picture": attachment_samples.docx(
        WORDS, inside=f'<w:p><w:r><w:drawing><wp:docPr id="1" name="{MARK}"><a:hlinkClick r:id="h1"/></wp:docPr>'
        "</w:drawing></w:r></w:p>",
        links=attachment_samples.related(("h1", "hyperlink", f"file:///{MARK}"), external=True),
    ),
    "ribbon": attachment_samples.docx(WORDS, members={"_rels/.rels": attachment_samples.related(
        ("r1", "officeDocument", "word/document.xml"),
        ("r2", "http://schemas.microsoft.com/office/2006/relationships/ui/extensibility", "ribbon.xml"),
    ), "ribbon.xml": f'<customUI onLoad="{MARK}"/>'.encode()}),
    "metadata and preview": attachment_samples.docx(WORDS, members={
        "docProps/core.xml": f"<a>{MARK}</a>".encode(), "docProps/thumbnail.jpeg": MARK.encode(),
    }),
    "part that nothing names": attachment_samples.docx(WORDS, members={"word/document2.xml": MARK.encode()}),
    "instruction outside of a field": attachment_samples.docx(
        WORDS, inside=f"<w:p><w:r><w:instrText>DDE {MARK}</w:instrText></w:r></w:p>"
    ),
}  # fmt: skip

# Refused, because content would be lost, or because the file is only a program.
REFUSED_DOCXS: Final[dict[str, tuple[bytes, str]]] = {
    "altChunk": (attachment_samples.docx(
        WORDS, inside='<w:altChunk r:id="a1"/>', links=attachment_samples.related(("a1", "aFChunk", "chunk.mht")),
        members={"word/chunk.mht": MARK.encode()},
    ), "attachment-nested-archive"),
    "subdocument": (_outside("subDocument"), "attachment-active"),
    "object from elsewhere": (_outside("oleObject"), "attachment-active"),
    "object": (
        attachment_samples.docx(WORDS, links=attachment_samples.related(("o1", "oleObject", "embeddings/o.bin"))),
        "attachment-nested-archive",
    ),
    "control": (
        attachment_samples.docx(WORDS, members={"word/activeX/activeX1.xml": MARK.encode()}), "attachment-active",
    ),
    "macros": (attachment_samples.office(
        "application/vnd.ms-word.document.macroEnabled", "word/document.xml",
        f"<w:document {attachment_samples.NAMESPACES}/>",
    ), "attachment-active"),
    "template": (attachment_samples.office(
        "application/vnd.openxmlformats-officedocument.wordprocessingml.template", "word/document.xml",
        f"<w:document {attachment_samples.NAMESPACES}/>",
    ), "attachment-type-not-taken"),
    "the same part twice": (
        attachment_samples.docx(WORDS, members={"WORD/Document.xml": MARK.encode()}), "attachment-unreadable",
    ),
    "two documents": (attachment_samples.docx(WORDS, members={"_rels/.rels": attachment_samples.related(
        ("r1", "officeDocument", "word/document.xml"), ("r2", "officeDocument", "word/other.xml")
    )}), "attachment-type-not-taken"),
}  # fmt: skip


def _beside(kind: str, part: str, content: str) -> bytes:
    return attachment_samples.xlsx(
        WORDS, links=attachment_samples.related(("k1", kind, f"../{part}")), members={f"xl/{part}": content.encode()}
    )


def _in_book(kind: str, part: str, content: str, *, outside: str = "") -> bytes:
    links = attachment_samples.related(
        ("s1", "worksheet", "worksheets/sheet1.xml"), ("s2", "sharedStrings", "sharedStrings.xml"), ("s3", kind, part)
    )
    further = {"xl/_rels/workbook.xml.rels": links, f"xl/{part}": content.encode()}
    if outside:
        folder, _, file = part.rpartition("/")
        further[f"xl/{folder}/_rels/{file}.rels"] = attachment_samples.related(
            ("e1", "externalLinkPath", outside), external=True
        )
    return attachment_samples.xlsx(WORDS, members=further)


XLSXS: Final[dict[str, bytes]] = {
    "ddeLink": _in_book(
        "externalLink", "externalLinks/externalLink1.xml",
        f'<externalLink><ddeLink ddeService="cmd" ddeTopic="{MARK}"/></externalLink>',
    ),
    "link to another book": _in_book("externalLink", "externalLinks/externalLink1.xml", "<a/>", outside=SHARE),
    "connections": _in_book("connections", "connections.xml", f'<connections><webPr url="{ADDRESS}"/></connections>'),
    "web query": _beside("queryTable", "queryTables/queryTable1.xml", f'<queryTable name="{MARK}"/>'),
    "formulas": attachment_samples.xlsx(WORDS, rows=(
        f'<row r="2"><c r="A2" t="str"><f>WEBSERVICE("{ADDRESS}")</f><v>kept</v></c>'
        f"<c r=\"B2\"><f>cmd|'/c {MARK}'!A1</f><v>7</v></c><c r=\"C2\"><f>HYPERLINK(\"{MARK}\")</f></c></row>"
    )),
    "names": attachment_samples.xlsx(WORDS, members={"xl/workbook.xml": (
        '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
        'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>'
        '<sheet name="Plan" sheetId="1" r:id="s1"/></sheets><definedNames>'
        f'<definedName name="_xlnm.Auto_Open">{MARK}</definedName></definedNames></workbook>'
    ).encode()}),
    "rules and controls of a sheet": attachment_samples.xlsx(WORDS, after=(
        f'<conditionalFormatting sqref="A1"><cfRule type="expression"><formula>{MARK}</formula></cfRule>'
        f'</conditionalFormatting><dataValidations><dataValidation><formula1>{MARK}</formula1></dataValidation>'
        f'</dataValidations><hyperlinks><hyperlink ref="A1" r:id="h1" location="{MARK}"/></hyperlinks>'
        f'<legacyDrawing r:id="v1"/><oleObjects><oleObject progId="{MARK}" link="x"/></oleObjects>'
    ), links=attachment_samples.related(("h1", "hyperlink", SHARE), external=True)),
    "drawing of the older kind": _beside(
        "vmlDrawing", "drawings/vmlDrawing1.vml", f'<xml><v:imagedata o:href="{ADDRESS}"/></xml>'
    ),
    "drawing with links and macros": attachment_samples.xlsx(
        WORDS, after='<drawing r:id="d1"/>',
        links=attachment_samples.related(("d1", "drawing", "../drawings/drawing1.xml")),
        members={
            "xl/drawings/drawing1.xml": f'<d:wsDr xmlns:d="http://x"><d:sp macro="{MARK}"/></d:wsDr>'.encode(),
        },
    ),
    "pivot": _in_book("pivotCacheDefinition", "pivotCache/pivotCacheDefinition1.xml", f'<a r="{MARK}"/>'),
}  # fmt: skip
REFUSED_XLSXS: Final[dict[str, tuple[bytes, str]]] = {
    "sheet of macros": (_in_book("xlMacrosheet", "macro1.xml", f"<a>{MARK}</a>"), "attachment-active"),
    "sheet of macros by its folder": (
        attachment_samples.xlsx(WORDS, members={"xl/macrosheets/sheet1.xml": MARK.encode()}), "attachment-active",
    ),
    "macros": (
        attachment_samples.office("application/vnd.ms-excel.sheet.macroEnabled", "xl/workbook.xml", "<a/>"),
        "attachment-active",
    ),
}  # fmt: skip

ODTS: Final[dict[str, bytes]] = {
    "picture from elsewhere": attachment_samples.odt(
        WORDS, inside=f'<text:p><draw:frame><draw:image xlink:href="{ADDRESS}"/></draw:frame></text:p>'
    ),
    "scripts": attachment_samples.odt(
        WORDS, before=f"<office:scripts><office:script>{MARK}</office:script></office:scripts>"
    ),
    "events of the document": attachment_samples.odt(WORDS, before=(
        '<office:scripts><office:event-listeners><script:event-listener script:event-name="dom:load" '
        f'xlink:href="vnd.sun.star.script:{MARK}"/></office:event-listeners></office:scripts>'
    )),
    "events of a link": attachment_samples.odt(WORDS, inside=(
        f'<text:p><text:a xlink:href="{SHARE}" office:target-frame-name="{MARK}"><office:event-listeners>'
        f'<script:event-listener xlink:href="{MARK}"/></office:event-listeners>here</text:a></text:p>'
    )),
    "script in the text": attachment_samples.odt(
        WORDS, inside=f'<text:p><text:script script:language="x">{MARK}</text:script></text:p>'
    ),
    "form": attachment_samples.odt(WORDS, inside=(
        f'<office:forms><form:form xlink:href="{ADDRESS}"><form:button form:label="{MARK}"/></form:form></office:forms>'
    )),
    "section from elsewhere": attachment_samples.odt(WORDS, inside=(
        f'<text:section text:name="s"><text:section-source xlink:href="{ADDRESS}"/><text:p>x</text:p></text:section>'
    )),
    "DDE": attachment_samples.odt(WORDS, inside=(
        f'<text:section text:name="s"><office:dde-source office:dde-application="{MARK}"/></text:section><text:p>'
        f'<text:dde-connection text:connection-name="{MARK}">x</text:dde-connection></text:p>'
    )),
    "macro of a field": attachment_samples.odt(
        WORDS, inside=f'<text:p><text:execute-macro text:name="{MARK}">x</text:execute-macro></text:p>'
    ),
    "object and plug-in": attachment_samples.odt(WORDS, inside=(
        f'<text:p><draw:frame><draw:object xlink:href="{ADDRESS}"/></draw:frame><draw:frame><draw:plugin '
        f'xlink:href="{ADDRESS}"/></draw:frame><draw:frame><draw:floating-frame xlink:href="{ADDRESS}"/></draw:frame>'
        "</text:p>"
    )),
    "table from elsewhere, and formulas": attachment_samples.odt(WORDS, inside=(
        f'<table:table><table:table-source xlink:href="{ADDRESS}"/><table:table-row><table:table-cell '
        f'table:formula="ooow:DDE({MARK})"><text:p>7</text:p></table:table-cell></table:table-row></table:table>'
    )),
    "picture of a style": attachment_samples.odt(WORDS, before=(
        '<office:automatic-styles><style:style style:name="a"><style:paragraph-properties><style:background-image '
        f'xlink:href="{ADDRESS}"/></style:paragraph-properties></style:style></office:automatic-styles>'
    )),
    "font from elsewhere": attachment_samples.odt(WORDS, before=(
        '<office:font-face-decls><style:font-face style:name="a"><svg:font-face-src><svg:font-face-uri '
        f'xlink:href="{ADDRESS}"/></svg:font-face-src></style:font-face></office:font-face-decls>'
    )),
    "settings, metadata, preview": attachment_samples.odt(WORDS, members={
        "settings.xml": f"<a>{MARK}</a>".encode(), "meta.xml": MARK.encode(), "Thumbnails/thumbnail.png": MARK.encode(),
        "Configurations2/accelerator/current.xml": MARK.encode(), "manifest.rdf": MARK.encode(),
        "Object 1/content.xml": MARK.encode(),
    }),
}  # fmt: skip
REFUSED_ODTS: Final[dict[str, tuple[bytes, str]]] = {
    "macros": (
        attachment_samples.odt(WORDS, members={"Basic/Standard/Module1.xml": MARK.encode()}), "attachment-active",
    ),
    "programs": (attachment_samples.odt(WORDS, members={"Scripts/python/x.py": MARK.encode()}), "attachment-active"),
    "locked": (
        attachment_samples.odt(WORDS, members={"META-INF/manifest.xml": b"<m:encryption-data/>"}),
        "attachment-encrypted",
    ),
}  # fmt: skip
