"""Tests with hostile files: content that acts, fetches or embeds is removed, text is kept. Each case has its own
sample.
"""

import io
import re
import zipfile
from typing import Any

import numpy as np
import pikepdf
import pytest
from defusedxml import ElementTree
from pypdf import PdfReader

from comms.messaging.attachments.media_types import PDF
from comms.messaging.attachments.sanitising.documents import cleaned_document
from comms.messaging.attachments.sanitising.jpeg_segments import without_boxes, without_metadata
from comms.messaging.attachments.sanitising.link_rules import allowed_address
from comms.messaging.attachments.sanitising.pdf.pages import rebuild_pdf
from comms.messaging.attachments.sanitising.refusals import AttachmentRefused
from comms.messaging.attachments.sanitising.text_extraction import TextCollector
from tests.comms import attachment_samples, hostile_documents
from tests.comms.messaging.test_attachment_sanitising import refusal as refusal_of_child


def cleaned(sent: bytes) -> tuple[str, bytes, str | None]:
    """The media type, the content to store and the text, from the child's code in this process: a child per sample
    would be slow.
    """
    if sent.startswith(b"%PDF-"):
        kept, words = rebuild_pdf(io.BytesIO(sent))
        return PDF, kept, words.text()
    media_type, kept, pieces = cleaned_document(io.BytesIO(sent))
    words = TextCollector()
    words.add(pieces)
    return media_type, kept, words.text()


def kept_of(sent: bytes) -> tuple[str, bytes]:
    return cleaned(sent)[:2]


def text_of(sent: bytes) -> str | None:
    return cleaned(sent)[2]


def refusal(sent: bytes) -> str:
    with pytest.raises(AttachmentRefused) as refused:
        cleaned(sent)
    return refused.value.slug


def inside_pdf(kept: bytes) -> tuple[bytes, set[str]]:
    """All decoded content of the document, and the keys of all its dictionaries."""
    said: list[bytes] = []
    keys: set[str] = set()

    def look(found: Any) -> None:
        said.append(bytes(found) if isinstance(found, pikepdf.String) else str(found).encode())
        if isinstance(found, (pikepdf.Dictionary, pikepdf.Stream)):
            keys.update(map(str, found))
            for value in found.values():
                if not getattr(value, "is_indirect", False):
                    look(value)
        elif isinstance(found, pikepdf.Array):
            for value in found:
                if not getattr(value, "is_indirect", False):
                    look(value)
        if isinstance(found, pikepdf.Stream):
            said.append(found.read_bytes())

    with pikepdf.Pdf.open(io.BytesIO(kept)) as document:
        for found in document.objects:
            look(found)
    return b"\n".join(said), keys


ACTING = {
    "/A", "/AA", "/OpenAction", "/JS", "/JavaScript", "/Names", "/AcroForm", "/XFA", "/AF", "/Outlines", "/Next",
    "/EmbeddedFiles", "/EF", "/F", "/FFilter", "/Metadata", "/PieceInfo", "/Ref", "/PS", "/OPI", "/Alternates",
    "/Dests",
}  # fmt: skip


@pytest.mark.parametrize("what", hostile_documents.PDFS)
def test_a_pdf_is_kept_without_what_acts_in_it(what: str) -> None:
    sent = hostile_documents.pdf(hostile_documents.PDFS[what])
    said, _ = inside_pdf(sent)
    assert hostile_documents.MARK.encode() in said
    media_type, kept = kept_of(sent)
    assert media_type == "application/pdf"
    said, keys = inside_pdf(kept)
    assert hostile_documents.MARK.encode() not in said + kept
    assert keys & ACTING == set()
    assert b"/Info" not in kept
    [page] = PdfReader(io.BytesIO(kept)).pages
    assert page.extract_text() == text_of(sent) == hostile_documents.WORDS


@pytest.mark.parametrize("what", hostile_documents.PACKED_PDFS)
def test_a_pdf_that_holds_more_than_pages_is_refused(what: str) -> None:
    assert refusal(hostile_documents.pdf(hostile_documents.PACKED_PDFS[what])) == "attachment-nested-archive"


def test_a_form_whose_pages_a_program_makes_is_refused() -> None:
    def change(made: pikepdf.Pdf, _: Any) -> None:
        made.Root["/NeedsRendering"] = True

    assert refusal(hostile_documents.pdf(change)) == "attachment-active"


def test_a_plain_link_of_a_pdf_is_made_anew() -> None:
    link = pikepdf.Dictionary(S=pikepdf.Name.URI, URI=pikepdf.String("https://www.nhs.uk/falls"), Next=pikepdf.Array())
    _, kept = kept_of(hostile_documents.pdf(hostile_documents.annotated("/Link", A=link)))
    with pikepdf.Pdf.open(io.BytesIO(kept)) as document:
        [made] = document.pages[0].obj["/Annots"]
        assert set(made) == {"/Type", "/Subtype", "/Rect", "/Border", "/A"}
        assert {key: str(value) for key, value in made["/A"].items()} == {
            "/S": "/URI", "/URI": "https://www.nhs.uk/falls",
        }  # fmt: skip


def test_what_was_filled_in_is_drawn_and_found() -> None:
    def change(made: pikepdf.Pdf, page: Any) -> None:
        shown = made.make_stream(b"/Tx BMC BT /F1 12 Tf 2 5 Td (Bruise on left arm) Tj ET EMC")
        shown["/Type"], shown["/Subtype"] = pikepdf.Name.XObject, pikepdf.Name.Form
        shown["/BBox"], shown["/Resources"] = pikepdf.Array([0, 0, 200, 30]), page.Resources
        field = made.make_indirect(pikepdf.Dictionary(
            Type=pikepdf.Name.Annot, Subtype=pikepdf.Name.Widget, FT=pikepdf.Name.Tx, T=pikepdf.String("seen"),
            V=pikepdf.String("Bruise on left arm"), Rect=[20, 20, 220, 50], AP=pikepdf.Dictionary(N=shown), F=4,
        ))  # fmt: skip
        page["/Annots"] = pikepdf.Array([field])
        made.Root["/AcroForm"] = pikepdf.Dictionary(Fields=pikepdf.Array([field]))

    sent = hostile_documents.pdf(change)
    _, kept = kept_of(sent)
    text = text_of(sent)
    assert text is not None
    assert {hostile_documents.WORDS, "Bruise on left arm"} <= set(text.split("\n"))
    assert "Bruise on left arm" in PdfReader(io.BytesIO(kept)).pages[0].extract_text()
    assert inside_pdf(kept)[1] & ACTING == set()


def test_the_words_of_a_note_are_found() -> None:
    note = hostile_documents.annotated("/Text", Contents=pikepdf.String("Do not tell her son."))
    assert text_of(hostile_documents.pdf(note)) == f"{hostile_documents.WORDS}\nDo not tell her son."


def test_a_picture_in_a_pdf_loses_its_place() -> None:
    jpeg = attachment_samples.picture()

    def change(made: pikepdf.Pdf, page: Any) -> None:
        shown = made.make_stream(jpeg)
        for key, value in {
            "/Type": pikepdf.Name.XObject, "/Subtype": pikepdf.Name.Image, "/Width": 64, "/Height": 32,
            "/ColorSpace": pikepdf.Name.DeviceRGB, "/BitsPerComponent": 8, "/Filter": pikepdf.Name.DCTDecode,
        }.items():  # fmt: skip
            shown[key] = value
        page.Resources["/XObject"] = pikepdf.Dictionary(P=shown)

    _, kept = kept_of(hostile_documents.pdf(change))
    with pikepdf.Pdf.open(io.BytesIO(kept)) as document:
        picture: Any = document.pages[0].Resources.XObject.P
        raw, seen = picture.read_raw_bytes(), pikepdf.PdfImage(picture).as_pil_image()
    assert attachment_samples.CAMERA.encode() in jpeg
    assert attachment_samples.CAMERA.encode() not in raw
    assert b"Exif" not in raw
    assert seen.size == (64, 32)
    assert np.asarray(seen.convert("RGB"))[8, 8, 0] > 240


def test_a_jpeg_keeps_its_points_alone() -> None:
    kept = without_metadata(attachment_samples.picture() + b"behind the end")
    assert b"behind" not in kept
    assert kept.endswith(b"\xff\xd9")
    for damaged in (b"", b"\xff\xd8\x00\x00\x00\x00", b"GIF89a"):
        with pytest.raises(ValueError, match="no"):
            without_metadata(damaged)
    boxes = b"".join((len(body) + 8).to_bytes(4) + kind + body for kind, body in ((b"jp2c", b"x"), (b"uuid", b"GPS")))
    assert without_boxes(boxes) == b"\0\0\0\x09jp2cx"


def test_a_pdf_that_grows_without_end_is_refused() -> None:
    def change(made: pikepdf.Pdf, page: Any) -> None:
        page["/Contents"] = pikepdf.Array([made.make_stream(bytes(30 << 20)) for _ in range(8)])

    assert refusal(hostile_documents.pdf(change)) == "attachment-expands"


def test_a_pdf_that_contains_itself_is_kept() -> None:
    def change(made: pikepdf.Pdf, page: Any) -> None:
        form = made.make_stream(b"/X Do")
        form["/Type"], form["/Subtype"], form["/BBox"] = pikepdf.Name.XObject, pikepdf.Name.Form, pikepdf.Array([0] * 4)
        form["/Resources"] = pikepdf.Dictionary(XObject=pikepdf.Dictionary(X=form))
        page.Resources["/XObject"] = pikepdf.Dictionary(X=form)

    _, kept = kept_of(hostile_documents.pdf(change))
    assert hostile_documents.WORDS in PdfReader(io.BytesIO(kept)).pages[0].extract_text()


# --- office --------------------------------------------------------------------------------------------------------


def inside(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as document:
        return {name: document.read(name) for name in document.namelist()}


OFFICE = {
    **{f"docx: {what}": sent for what, sent in hostile_documents.DOCXS.items()},
    **{f"xlsx: {what}": sent for what, sent in hostile_documents.XLSXS.items()},
    **{f"odt: {what}": sent for what, sent in hostile_documents.ODTS.items()},
}
REFUSED = hostile_documents.REFUSED_DOCXS | hostile_documents.REFUSED_XLSXS | hostile_documents.REFUSED_ODTS


@pytest.mark.parametrize("what", OFFICE)
def test_an_office_file_is_kept_without_what_acts_in_it(what: str) -> None:
    sent = OFFICE[what]
    assert any(b"HOSTILE" in content or b"192.0.2.1" in content for content in inside(sent).values())
    media_type, kept = kept_of(sent)
    parts = inside(kept)
    for name, content in parts.items():
        assert hostile_documents.MARK.encode() not in content, name
        assert b"192.0.2.1" not in content, name
        assert hostile_documents.MARK not in name
        if name.endswith((".xml", ".rels", ".vml")):
            ElementTree.fromstring(content)
    assert hostile_documents.WORDS in (text_of(sent) or "")
    assert kept_of(kept)[0] == media_type  # the stored content is itself a valid document with the same text
    assert text_of(kept) == text_of(sent)


@pytest.mark.parametrize("what", REFUSED)
def test_an_office_file_that_would_lose_content_is_refused(what: str) -> None:
    sent, slug = REFUSED[what]
    assert refusal(sent) == slug


def test_parts_of_a_document_that_are_not_known_are_not_kept() -> None:
    _, kept = kept_of(attachment_samples.docx("x"))
    assert set(inside(kept)) == {"[Content_Types].xml", "_rels/.rels", "word/document.xml"}
    _, kept = kept_of(attachment_samples.xlsx("x"))
    assert set(inside(kept)) == {
        "[Content_Types].xml", "_rels/.rels", "xl/workbook.xml", "xl/_rels/workbook.xml.rels", "xl/sharedStrings.xml",
        "xl/worksheets/sheet1.xml",
    }  # fmt: skip
    _, kept = kept_of(attachment_samples.odt("x y"))
    assert list(inside(kept)) == ["mimetype", "content.xml", "META-INF/manifest.xml"]


def test_plain_links_of_documents_stay() -> None:
    address = "https://www.nhs.uk/falls?a=1"
    link = attachment_samples.related(("h1", "hyperlink", address), external=True)
    words = '<w:p><w:hyperlink r:id="h1"><w:r><w:t>advice</w:t></w:r></w:hyperlink></w:p>'
    parts = inside(kept_of(attachment_samples.docx(inside=words, links=link))[1])
    assert address.encode() in parts["word/_rels/document.xml.rels"]
    assert b'<w:hyperlink r:id="rId1">' in parts["word/document.xml"]
    words = f'<text:p><text:a xlink:href="{address}">here</text:a></text:p>'
    parts = inside(kept_of(attachment_samples.odt("x y", inside=words))[1])
    assert f'xlink:href="{address}"'.encode() in parts["content.xml"]
    sheet = attachment_samples.xlsx("x", after='<hyperlinks><hyperlink ref="B2" r:id="h1"/></hyperlinks>', links=link)
    parts = inside(kept_of(sheet)[1])
    assert address.encode() in parts["xl/worksheets/_rels/sheet1.xml.rels"]


def test_a_page_number_is_still_counted_and_a_box_still_ticked() -> None:
    field = (
        '<w:p><w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText> PAGE \\* MERGEFORMAT </w:instrText></w:r>'
        '<w:r><w:fldChar w:fldCharType="separate"/></w:r><w:r><w:t>1</w:t></w:r>'
        '<w:r><w:fldChar w:fldCharType="end"/></w:r></w:p>'
    )
    box = (
        '<w:p><w:r><w:fldChar w:fldCharType="begin"><w:ffData><w:checkBox><w:default w:val="0"/>{}</w:checkBox>'
        "</w:ffData></w:fldChar></w:r><w:r><w:instrText>FORMCHECKBOX</w:instrText></w:r>"
        '<w:r><w:fldChar w:fldCharType="end"/></w:r><w:r><w:t> hurt</w:t></w:r></w:p>'
    )
    sent = attachment_samples.docx(inside=field + box.format("<w:checked/>") + box.format(""))
    document = inside(kept_of(sent)[1])["word/document.xml"]
    assert document.count(b"fldCharType") == 3
    assert b"PAGE" in document
    assert text_of(sent) == "1\n\u2612 hurt\n\u2610 hurt"


def test_the_words_of_boxes_headers_notes_and_formulas_are_kept() -> None:
    box = (
        "<w:p><w:r><mc:AlternateContent><mc:Choice Requires='wps'><w:drawing><wps:txbx><w:txbxContent><w:p><w:r>"
        "<w:t>in a box</w:t></w:r></w:p></w:txbxContent></wps:txbx></w:drawing></mc:Choice><mc:Fallback><w:pict>"
        "<v:textbox><w:txbxContent><w:p><w:r><w:t>in a box</w:t></w:r></w:p></w:txbxContent></v:textbox></w:pict>"
        "</mc:Fallback></mc:AlternateContent></w:r></w:p><w:p><w:r><w:footnoteReference w:id='2'/></w:r></w:p>"
        '<w:sectPr><w:headerReference w:type="default" r:id="h1"/></w:sectPr>'
    )
    part = "<w:{0} " + attachment_samples.NAMESPACES + ">{1}<w:p><w:r><w:t>{2}</w:t></w:r></w:p>{3}</w:{0}>"
    sent = attachment_samples.docx(
        "First.", inside=box,
        links=attachment_samples.related(("h1", "header", "header7.xml"), ("n1", "footnotes", "Footnotes.xml")),
        members={
            "word/header7.xml": part.format("hdr", "", "at the top", "").encode(),
            "word/footnotes.xml": part.format("footnotes", '<w:footnote w:id="2">', "below", "</w:footnote>").encode(),
        },
    )  # fmt: skip
    found = [line for line in (text_of(sent) or "").split("\n") if line]
    assert found == ["First.", "in a box", "below", "at the top"]
    assert {"word/header1.xml", "word/footnotes.xml"} <= set(inside(kept_of(sent)[1]))


def test_a_picture_that_cannot_be_kept_is_said_to_have_been_there() -> None:
    unknown = attachment_samples.docx_with_picture(b"\xd7\xcd\xc6\x9a an old metafile")
    assert "cannot be kept" in (text_of(unknown) or "")


def test_a_table_keeps_the_values_that_its_formulas_gave_its_notes_and_its_pictures() -> None:
    notes = (
        '<comments xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><authors><author>Mia</author>'
        '</authors><commentList><comment ref="B3" authorId="0"><text><t>Ask her son.</t></text></comment></commentList>'
        "</comments>"
    )
    drawing = (
        '<xdr:wsDr xmlns:xdr="http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing" '
        'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
        'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><xdr:twoCellAnchor><xdr:from>'
        "<xdr:col>2</xdr:col><xdr:row>5</xdr:row></xdr:from><xdr:pic><xdr:blipFill>"
        '<a:blip r:embed="p1"/></xdr:blipFill></xdr:pic></xdr:twoCellAnchor></xdr:wsDr>'
    )
    sent = attachment_samples.xlsx(
        "Ada",
        rows='<row r="2"><c r="A2" t="str"><f>A1&amp;"x"</f><v>seven falls</v></c><c r="B2"><f>1+6</f><v>7</v></c>'
        "</row>",
        after='<drawing r:id="d1"/>',
        links=attachment_samples.related(
            ("n1", "comments", "../comments1.xml"), ("d1", "drawing", "../drawings/drawing1.xml")
        ),
        members={
            "xl/comments1.xml": notes.encode(), "xl/drawings/drawing1.xml": drawing.encode(),
            "xl/drawings/_rels/drawing1.xml.rels": attachment_samples.related(("p1", "image", "../media/a.png")),
            "xl/media/a.png": attachment_samples.picture("PNG"),
        },
    )  # fmt: skip
    parts = inside(kept_of(sent)[1])
    sheet = parts["xl/worksheets/sheet1.xml"]
    assert b"<f" not in sheet.replace(b"<from", b"")
    assert re.search(rb'r="B2"[^>]*><[^>]*v>7<', sheet)
    assert text_of(sent) == "Ada\nseven falls\nAsk her son."
    assert parts["xl/media/image1.png"].startswith(b"\x89PNG")
    assert b"<x:Row>2</x:Row><x:Column>1</x:Column>" in parts["xl/drawings/notes1.vml"]
    assert b"<xdr:col>2</xdr:col>" in parts["xl/drawings/drawing1.xml"]


def test_dates_of_a_table_keep_their_year() -> None:
    book = (
        '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
        'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><workbookPr date1904="1"/>'
        '<sheets><sheet name="Plan" sheetId="1" r:id="s1"/></sheets></workbook>'
    )
    parts = inside(kept_of(attachment_samples.xlsx("x", members={"xl/workbook.xml": book.encode()}))[1])
    assert b'date1904="1"' in parts["xl/workbook.xml"]


def test_fields_of_an_open_document_keep_their_words() -> None:
    fields = (
        "<text:p>On <text:date>12 May</text:date> seen by <text:author-name>Mia</text:author-name>, "
        "<text:span>in <text:dde-connection>room 4</text:dde-connection></text:span>.</text:p>"
        "<text:table-of-content><text:index-body><text:p>Falls</text:p></text:index-body></text:table-of-content>"
    )
    assert text_of(attachment_samples.odt("x y", inside=fields)) == "x y\nOn 12 May seen by Mia, in room 4.\nFalls"


def test_strict_documents_are_read_too() -> None:
    strict = inside(attachment_samples.docx(hostile_documents.WORDS))
    strict["word/document.xml"] = strict["word/document.xml"].replace(
        b"http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        b"http://purl.oclc.org/ooxml/wordprocessingml/main",
    )
    assert text_of(attachment_samples.packed(strict)) == hostile_documents.WORDS


# --- text, addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [
        b"{\\rtf1 {\\object\\objupdate}}", b"%!PS-Adobe", b"MIME-Version: 1.0\r\n", b"\xef\xbb\xbf\r\n {\\RTF1",
        b'<?xml version="1.0"?><?mso-application progid="Word.Document"?>',
    ],
)  # fmt: skip
def test_text_that_other_programs_would_run_is_not_taken(content: bytes) -> None:
    assert refusal_of_child(content) == "attachment-type-not-taken"


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("https://www.nhs.uk/falls", True), ("http://example.org:8080/a?b=c#d", True),
        ("mailto:mia@home.example", True),
        ("javascript:alert(1)", False), ("file:///c:/x", False), ("\\\\host\\share", False), ("//host/share", False),
        ("https://nhs.uk@evil.example/", False), ("https://", False), ("ms-word:ofe|u|https://x.example", False),
        ("https://x.example/\u202egpj", False), ("data:text/html,x", False), ("http://x.example/a b", False),
        ("smb://x.example/", False), ("https:\\\\x.example", False), ("", False), (None, False),
    ],
)  # fmt: skip
def test_a_link_leads_to_a_web_page_or_a_mailbox_and_nowhere_else(address: str | None, *, allowed: bool) -> None:
    assert allowed_address(address) == (address if allowed else None)
