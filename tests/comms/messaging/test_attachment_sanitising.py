"""Tests of sanitising: the content decides which kind a file is, what of it is kept, and whether it is accepted."""

import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from comms.messaging.attachments.file_names import kept_name, refuse_false_claim
from comms.messaging.attachments.media_types import FILE_KINDS
from comms.messaging.attachments.sanitising import inspection
from comms.messaging.attachments.sanitising.inspection import Contents, read_contents
from comms.messaging.attachments.sanitising.text_extraction import MAX_CHARACTERS
from models.confinement.process import Limits, confined, open_descriptor
from models.contract.errors import Kind, WriteCareError
from tests import factories
from tests.comms import attachment_samples

MOST = 64 << 20


@contextmanager
def opened(content: bytes, most: int = MOST) -> Iterator[Contents]:
    with tempfile.TemporaryFile() as sent, tempfile.TemporaryFile() as kept:
        sent.write(content)
        sent.seek(0)
        yield read_contents(sent, kept, most)


def kept_of(content: bytes) -> tuple[str, bytes]:
    with opened(content) as found:
        return found.media_type, found.file.read()


def text_of(content: bytes) -> str | None:
    with opened(content) as found:
        return found.text


def refusal(content: bytes) -> str:
    with pytest.raises(WriteCareError) as refused, opened(content):
        pass
    assert refused.value.kind in (Kind.INVALID, Kind.TOO_LARGE)
    return refused.value.slug


# --- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_kept_without_its_place_its_time_and_its_camera(format: str) -> None:
    sent = attachment_samples.picture(format)
    assert attachment_samples.CAMERA.encode() in sent
    assert b"GPSLatitude" in sent
    media_type, kept = kept_of(sent)
    assert media_type == f"image/{format.lower()}"
    for told in (attachment_samples.CAMERA.encode(), b"GPS", b"Exif", b"xmpmeta", b"2026:11:23"):
        assert told not in kept
    with Image.open(io.BytesIO(kept)) as shown:
        assert (shown.format, shown.size, dict(shown.getexif())) == (format, (64, 32), {})
        assert {"exif", "xmp", "comment"} & set(shown.info) == set()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_picture_that_was_taken_sideways_is_kept_upright(format: str) -> None:
    _, kept = kept_of(attachment_samples.picture(format, size=(64, 32), orientation=6))  # 6: rotated 90° clockwise
    with Image.open(io.BytesIO(kept)) as shown:
        assert shown.size == (32, 64)
        seen = np.asarray(shown.convert("RGB")).astype(int)
    assert seen[8, 24].tolist() == pytest.approx([255, 0, 0], abs=12)
    assert seen[8, 8].tolist() == pytest.approx([255, 255, 255], abs=12)


def test_what_is_hung_to_the_end_of_a_picture_is_not_kept() -> None:
    archive = attachment_samples.packed({"stolen.txt": b"resident list"})
    _, kept = kept_of(attachment_samples.picture() + archive)
    assert b"PK\x03\x04" not in kept
    assert not zipfile.is_zipfile(io.BytesIO(kept))


def test_transparency_and_colours_survive() -> None:
    file = io.BytesIO()
    Image.new("RGBA", (8, 8), (10, 200, 30, 0)).save(file, "PNG")
    _, kept = kept_of(file.getvalue())
    with Image.open(io.BytesIO(kept)) as shown:
        assert np.asarray(shown)[0, 0].tolist() == [10, 200, 30, 0]


def test_a_picture_that_would_fill_the_memory_is_refused() -> None:
    bomb = attachment_samples.bomb_png()
    assert len(bomb) < 10_000
    assert refusal(bomb) == "attachment-expands"


def test_a_picture_that_moves_is_refused_and_so_is_one_that_is_cut_off() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    assert refusal(file.getvalue()) == "attachment-type-not-taken"
    whole = attachment_samples.picture(size=(400, 400))
    assert refusal(whole[: len(whole) // 2]) == "attachment-unreadable"


# --- documents -----------------------------------------------------------------------------------------------------


def test_the_words_inside_documents_are_found() -> None:
    assert text_of(attachment_samples.docx("She fell.", "Bruises on both arms.")) == "She fell.\nBruises on both arms."
    assert text_of(attachment_samples.xlsx("Ada", "12 May")) == "Ada\n12 May"
    assert text_of(attachment_samples.odt("Her arms were bruised")) == "Her arms were bruised"
    assert text_of(attachment_samples.pdf("Ada fell at nine")) == "Ada fell at nine"
    assert text_of(b"Ada fell at nine\r\n") == "Ada fell at nine"
    assert text_of(attachment_samples.picture()) is None
    assert text_of(attachment_samples.pdf()) is None


def test_notes_beside_the_text_are_words_too() -> None:
    assert text_of(attachment_samples.docx_with_comment("All is well.", "Do not tell her son.")) == (
        "All is well.\nDo not tell her son."
    )


def test_words_of_any_encoding_are_kept_as_utf8() -> None:
    written = "Ada said “no”, twice. It cost £5 at the café."
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        with opened(written.encode(encoding)) as found:
            assert (found.media_type, found.text, found.file.read()) == ("text/plain", written, written.encode())


def test_more_words_than_are_kept_are_said_to_be_cut() -> None:
    with opened(b"word " * 100_000) as found:
        assert found.text is not None
        assert (found.text_cut, len(found.text)) == (True, MAX_CHARACTERS - 1)
    with opened(b"word") as found:
        assert not found.text_cut


def test_pictures_inside_a_document_lose_their_place_too() -> None:
    _, kept = kept_of(attachment_samples.docx_with_picture(attachment_samples.picture()))
    with zipfile.ZipFile(io.BytesIO(kept)) as document:
        picture = document.read("word/media/image1.jpg")
        assert b'r:embed="rId1"' in document.read("word/document.xml")
    assert picture.startswith(b"\xff\xd8\xff")
    assert attachment_samples.CAMERA.encode() not in picture
    assert b"GPS" not in picture


def test_what_lies_around_a_document_is_not_kept() -> None:
    sent = attachment_samples.docx("Plan") + b"MZ hidden behind the end"
    _, kept = kept_of(sent)
    assert b"hidden behind" not in kept


def test_archives_are_not_taken_and_neither_are_archives_within_documents() -> None:
    assert (
        refusal(attachment_samples.packed({"a.txt": b"x", "b.jpg": attachment_samples.picture()}))
        == "attachment-type-not-taken"
    )
    assert refusal(attachment_samples.packed({})) == "attachment-type-not-taken"
    inner = attachment_samples.packed({"inner.txt": b"x"})
    for hidden in (inner, b"7z\xbc\xaf\x27\x1c" + bytes(20), b"\x1f\x8b\x08" + bytes(20), b"Rar!\x1a\x07\x01\x00"):
        assert (
            refusal(attachment_samples.docx("x", members={"word/embeddings/inner.bin": hidden}))
            == "attachment-nested-archive"
        )
    assert refusal(attachment_samples.pdf("x", file=inner)) == "attachment-nested-archive"
    assert refusal(attachment_samples.pdf("x") + inner) == "attachment-nested-archive"


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/passwd", "..\\..\\boot.ini", "C:\\x", "word/../../x"])
def test_names_that_lead_out_of_a_document_are_refused(name: str) -> None:
    assert refusal(attachment_samples.docx("x", members={name: b"y"})) == "attachment-leads-out"


def test_a_link_inside_a_document_is_refused() -> None:
    file = io.BytesIO(attachment_samples.docx("x"))
    with zipfile.ZipFile(file, "a") as document:
        link = zipfile.ZipInfo("word/link")
        link.external_attr = 0o120777 << 16
        document.writestr(link, "/etc/passwd")
    assert refusal(file.getvalue()) == "attachment-leads-out"


def test_documents_that_are_small_only_while_they_are_shut_are_refused() -> None:
    assert refusal(attachment_samples.docx("x", members={"word/big.xml": bytes(40 << 20)})) == "attachment-expands"
    assert (
        refusal(attachment_samples.docx("x", members={f"m/{n}.xml": b"" for n in range(2100)})) == "attachment-expands"
    )
    many = {f"word/{n}.xml": os.urandom(8192) + bytes(1 << 20) for n in range(120)}
    assert refusal(attachment_samples.docx("x", members=many)) == "attachment-expands"


def test_entities_that_multiply_are_refused_at_once() -> None:
    levels = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    laughs = f'<!DOCTYPE d [<!ENTITY a0 "ha">{levels}]><d><p>&a11;</p></d>'.encode()
    assert refusal(attachment_samples.docx(members={"word/document.xml": laughs})) == "attachment-unreadable"
    outside = b'<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/passwd">]><d><p>&a;</p></d>'
    assert refusal(attachment_samples.docx(members={"word/document.xml": outside})) == "attachment-unreadable"


def test_programs_and_macros_are_refused() -> None:
    assert refusal(attachment_samples.docx("x", members={"word/vbaProject.bin": b"y"})) == "attachment-active"
    assert refusal(attachment_samples.docx("x", members={"word/object.bin": b"MZ\x90\0"})) == "attachment-active"
    for program in (b"MZ\x90\0" + bytes(60), b"\x7fELF\x02\x01\x01" + bytes(60)):
        assert refusal(program) == "attachment-type-not-taken"


def test_what_is_locked_is_refused() -> None:
    assert refusal(attachment_samples.pdf("x", password="secret")) == "attachment-encrypted"


# --- sound ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "codec", "media_type"),
    [
        ("flac", "flac", "audio/flac"), ("mp3", "mp3", "audio/mpeg"), ("ogg", "libopus", "audio/ogg"),
        ("mp4", "aac", "audio/mp4"), ("webm", "libopus", "audio/webm"),
    ],
)  # fmt: skip
def test_sound_is_kept_as_it_was(container: str, codec: str, media_type: str) -> None:
    sent = factories.encoded(container, codec)
    found, kept = kept_of(sent)
    assert found == media_type
    assert heard(kept) == heard(sent)


def heard(file: bytes) -> bytes:
    import av  # noqa: PLC0415

    with av.open(io.BytesIO(file)) as container:
        return b"".join(frame.to_ndarray().tobytes() for frame in container.decode(audio=0))


def test_a_voice_message_is_kept_without_the_place_where_it_was_spoken() -> None:
    sent = attachment_samples.located_sound()
    assert b"+51.5073" in sent
    media_type, kept = kept_of(sent)
    assert media_type == "audio/mp4"
    assert b"+51.5073" not in kept
    assert attachment_samples.CAMERA.encode() not in kept


def test_a_play_list_behind_the_beginning_of_a_sound_is_not_followed(tmp_path: Path) -> None:
    beside = tmp_path / "beside.wav"
    beside.write_bytes(factories.wav(0.5))
    for begin in (b"ID3\x04\0\0\0\0\0\0", b"\xff\xfb", b""):
        listed = begin + f"ffconcat version 1.0\nfile '{beside}'\n".encode()
        if begin:
            assert refusal(listed) in ("attachment-unreadable", "attachment-type-not-taken")
        else:
            assert text_of(listed) is not None  # plain text: stored as it is, never opened as audio


def test_a_film_is_no_sound() -> None:
    assert refusal(factories.encoded("mp4", "aac", picture=True)) == "attachment-type-not-taken"


# # --- any content --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [bytes(range(256)), b"GIF89a" + bytes(60), b"<svg/>\0", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)]
)
def test_what_is_not_on_the_list_is_not_taken(content: bytes) -> None:
    assert refusal(content) == "attachment-type-not-taken"


_SEEDS = {
    "jpeg": attachment_samples.picture(), "docx": attachment_samples.docx("Ada"),
    "pdf": attachment_samples.pdf("Ada"), "wav": factories.wav(0.1),
}  # fmt: skip


@given(data=st.data(), name=st.sampled_from(sorted(_SEEDS)))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_damaged_file_is_refused_or_kept_and_nothing_worse(data: st.DataObject, name: str) -> None:
    content = bytearray(_SEEDS[name])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    slug = None
    try:
        with opened(bytes(content)) as found:
            assert found.media_type in FILE_KINDS
    except WriteCareError as refused:
        slug = refused.slug
    assert slug is None or slug.startswith("attachment-")


def test_a_child_that_gives_no_verdict_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_MEMORY_BYTES", 16 << 20)
    assert refusal(attachment_samples.picture(size=(4_000, 3_000))) in ("attachment-unreadable", "attachment-expands")


@pytest.mark.parametrize(
    "content",
    [
        *(attachment_samples.picture(format, orientation=6) for format in ("JPEG", "PNG", "WEBP")),
        attachment_samples.docx_with_picture(attachment_samples.picture("JPEG")),
        attachment_samples.xlsx("Ada", "fell"), attachment_samples.odt("Ada fell."),
        attachment_samples.pdf("Ada fell."), attachment_samples.located_sound(),
        "Ada fell – näher am Fenster, sagte Zoë.".encode("cp1252"), "Ada fell.".encode("utf-16"),
    ],
    ids=["jpeg", "png", "webp", "docx", "xlsx", "odt", "pdf", "sound", "latin text", "utf-16 text"],
)  # fmt: skip
def test_once_the_child_is_confined_it_lacks_no_module_and_no_encoding(content: bytes) -> None:
    with (
        open_descriptor(io.BytesIO(content)) as descriptor,
        confined("tests.comms.import_recording_child", (), descriptor, Limits(3 << 29, 90)) as records,
    ):
        found = list(records)
    assert b"E" in [kind for kind, _ in found]
    assert [body.decode() for kind, body in found if kind == b"I"] == []


def test_more_than_may_be_kept_is_refused() -> None:
    with pytest.raises(WriteCareError) as refused, opened(attachment_samples.picture(), most=100):
        pass
    assert (refused.value.kind, refused.value.slug) == (Kind.TOO_LARGE, "attachment-expands")


def test_the_process_of_the_api_loads_no_library_that_opens_files() -> None:
    script = (
        "import sys; import comms.app.application; "
        "opening = ('PIL', 'pypdf', 'pikepdf', 'lxml', 'av', 'defusedxml', 'charset_normalizer'); "
        "print([m for m in opening if m in sys.modules])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/cron.d/photo.jpg", "photo.jpg"),
        ("..\\..\\Windows\\photo.JPG", "photo.JPG"),
        ("/absolute/photo.jpg", "photo.jpg"),
        ("bruise\u202egpj.exe.jpg", "bruisegpj.exe.jpg"),  # the character that reverses the reading direction
        ("a\x00b\r\nSet-Cookie: x.jpg", "abSet-Cookie_ x.jpg"),
        ("zero\u200bwidth\ufeff.jpg", "zerowidth.jpg"),
        ("  . Ada's photo . jpg", "Ada's photo . jpg.jpg"),
        ("CON.jpg", "_CON.jpg"),
        ("aux.2024.jpeg", "_aux.2024.jpeg"),
        ('<b>"|?*.jpg', "_b_____.jpg"),
        ("..", "file.jpg"),
        (".jpg", "jpg.jpg"),
        ("", "file.jpg"),
        (None, "file.jpg"),
        ("Dr. Smith letter", "Dr. Smith letter.jpg"),
        ("e\u0301te\u0301.jpg", "été.jpg"),
        ("写真.jpg", "写真.jpg"),
    ],
)
def test_a_name_is_made_harmless(sent: str | None, kept: str) -> None:
    assert kept_name(sent, "image/jpeg") == kept


@pytest.mark.parametrize(("sent", "kept"), [("list.csv", "list.csv.txt"), ("=cmd.CSV", "=cmd.CSV.txt")])
def test_a_table_in_plain_text_is_kept_under_a_name_that_no_spreadsheet_opens(sent: str, kept: str) -> None:
    assert kept_name(sent, "text/plain") == kept


@given(sent=st.text(max_size=300))
@settings(deadline=None)
def test_whatever_a_file_is_called_its_name_leads_nowhere(sent: str) -> None:
    name = kept_name(f"{sent}.pdf", "application/pdf")
    assert 1 <= len(name) <= 150
    assert not set(name) & set('/\\:\0\r\n\t"<>|?*')
    assert name.isprintable()
    assert name.lower().endswith(".pdf")
    assert not name.startswith(".")


@pytest.mark.parametrize("name", ["invoice.pdf.exe", "photo.jpg", "page.html", "picture.svg", "plan.docx"])
def test_a_name_of_another_kind_is_refused(name: str) -> None:
    with pytest.raises(WriteCareError, match="does not match its name"):
        kept_name(name, "application/pdf")


def test_a_claim_of_another_kind_is_refused_and_a_usual_name_of_the_same_is_not() -> None:
    for claimed in (None, "", "application/octet-stream", "IMAGE/JPEG; q=1", "image/jpg"):
        refuse_false_claim(claimed, "image/jpeg")
    for claimed in ("image/png", "application/pdf", "text/html", "nonsense"):
        with pytest.raises(WriteCareError, match="does not match its name"):
            refuse_false_claim(claimed, "image/jpeg")


def test_the_file_that_was_sent_is_left_as_it_was() -> None:
    content = attachment_samples.picture()
    with tempfile.TemporaryFile() as sent, tempfile.TemporaryFile() as kept:
        sent.write(content)
        read_contents(sent, kept, MOST)
        assert whole(sent) == content


def whole(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()
