"""The confined child process that opens an untrusted attachment. `inspection.py` starts it.

The library for a file type decides from the content whether the file has this type. The child does not know the file's
name or its claimed media type. It answers with these records (`models/confinement/process.py`):

    B  a piece of the content to store; no B record: store the original
    T  text found in the file (UTF-8)             E  JSON: {"media_type", "text_cut"}: the last record of a good file
    X  JSON: {"slug"}: why the file is refused; no content of the file

`models/confinement/sandbox.py` runs this module. After it has confined the process, no module can be imported, not even
an encoding's codec. So `load` imports them before.
"""

import codecs
from dataclasses import dataclass
from importlib import import_module
from typing import BinaryIO

from models.audio.decoder_child import load as load_decoder
from models.confinement.sandbox import HEAD_BYTES, send

_PIECE_BYTES = 1 << 20
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_SOUNDS = (b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\x1aE\xdf\xa3")
_ARCHIVE, _PDF = b"PK\x03\x04", b"%PDF-"
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# Other programs recognise these by their first characters, whatever the file name is: RTF, PostScript, Word's and
# Office's XML, e-mail.
_NOT_PLAIN = ("{\\rtf", "%!ps", "<?xml", "mime-version:")
_LATIN = ("cp1252", "latin_1", "iso8859_15", "mac_roman", "cp437", "cp850")
# pypdf imports these when a file first needs them.
_PDF_LIBRARY = ("pypdf.filters", "pypdf.xmp")
# Encodings of plain text, of names in archives, of XML with an encoding declaration, and of strings and fonts in PDF.
_ENCODINGS = (
    *_LATIN, "ascii", "charmap", "utf_8_sig", "utf_16", "utf_16_le", "utf_16_be", "utf_32", "cp1250", "cp1251",
    "iso8859_2", "gb2312", "gbk", "gb18030", "cp932", "cp949", "cp950", "euc_jp", "euc_kr",
)  # fmt: skip


@dataclass(frozen=True)
class _CleanedFile:
    """`kept`: the content to store; None to store the original."""

    media_type: str
    kept: bytes | None = None
    text: str | None = None
    text_cut: bool = False


def load(head: bytes) -> None:
    """Imports the libraries for a file that begins with `head`, and all encodings that its text may have."""
    from comms.messaging.attachments import media_types  # noqa: F401, PLC0415
    from comms.messaging.attachments.sanitising import refusals  # noqa: F401, PLC0415
    from comms.messaging.attachments.sanitising import text_extraction as words  # noqa: F401, PLC0415

    for encoding in _ENCODINGS:
        codecs.lookup(encoding)
    if _is_picture(head):
        from comms.messaging.attachments.sanitising import images  # noqa: F401, PLC0415
    elif head.startswith(_ARCHIVE):
        from comms.messaging.attachments.sanitising import documents  # noqa: F401, PLC0415
    elif head.startswith(_PDF):
        from comms.messaging.attachments.sanitising.pdf import pages  # noqa: F401, PLC0415

        for name in _PDF_LIBRARY:
            import_module(name)
    elif _is_sound(head):
        from comms.messaging.attachments.sanitising import audio_files  # noqa: F401, PLC0415

        load_decoder(head)
    else:
        import charset_normalizer  # noqa: F401, PLC0415


def main(arguments: list[str], source: BinaryIO, out: BinaryIO) -> None:
    """Reads `source` and writes the records to `out`."""
    from comms.messaging.attachments.sanitising.refusals import AttachmentRefused  # noqa: PLC0415

    try:
        _write_answer(out, _clean(source))
    except AttachmentRefused as refusal:
        send(out, b"X", {"slug": refusal.slug})
    except MemoryError:
        send(out, b"X", {"slug": "attachment-expands"})


def _write_answer(out: BinaryIO, found: _CleanedFile) -> None:
    kept = found.kept or b""
    for start in range(0, len(kept), _PIECE_BYTES):
        send(out, b"B", kept[start : start + _PIECE_BYTES])
    if found.text is not None:
        send(out, b"T", found.text.encode())
    send(out, b"E", {"media_type": found.media_type, "text_cut": found.text_cut})


def _clean(source: BinaryIO) -> _CleanedFile:
    # `load` has imported each library only for files of its kind
    source.seek(0)
    head = source.read(HEAD_BYTES)
    source.seek(0)
    if _is_picture(head):
        from comms.messaging.attachments.sanitising.images import cleaned_picture  # noqa: PLC0415

        return _CleanedFile(*cleaned_picture(source))
    if head.startswith(_ARCHIVE):
        return _document(source)
    if head.startswith(_PDF):
        return _pdf(source)
    if _is_sound(head):
        from comms.messaging.attachments.sanitising.audio_files import cleaned_sound  # noqa: PLC0415

        return _CleanedFile(*cleaned_sound(source))
    return _plain_text(source.read())


def _is_picture(head: bytes) -> bool:
    return head.startswith(_PICTURES) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")


def _is_sound(head: bytes) -> bool:
    return head.startswith(_SOUNDS) or head[4:8] == b"ftyp" or (head.startswith(b"RIFF") and head[8:12] == b"WAVE")


def _document(source: BinaryIO) -> _CleanedFile:
    from comms.messaging.attachments.sanitising.documents import cleaned_document  # noqa: PLC0415
    from comms.messaging.attachments.sanitising.text_extraction import TextCollector  # noqa: PLC0415

    media_type, kept, pieces = cleaned_document(source)
    words = TextCollector()
    words.add(pieces)
    return _CleanedFile(media_type, kept, words.text(), words.cut)


def _pdf(source: BinaryIO) -> _CleanedFile:
    from comms.messaging.attachments.media_types import PDF  # noqa: PLC0415
    from comms.messaging.attachments.sanitising.pdf.pages import rebuild_pdf  # noqa: PLC0415

    kept, words = rebuild_pdf(source)
    return _CleanedFile(PDF, kept, words.text(), words.cut)


def _plain_text(content: bytes) -> _CleanedFile:
    """Accepts what can be decoded as text, and stores it as UTF-8."""
    from comms.messaging.attachments.media_types import TEXT  # noqa: PLC0415
    from comms.messaging.attachments.sanitising.refusals import AttachmentRefused  # noqa: PLC0415
    from comms.messaging.attachments.sanitising.text_extraction import TextCollector  # noqa: PLC0415

    try:
        written = content.decode(_encoding_of(content))
    except (UnicodeError, LookupError):
        raise AttachmentRefused("attachment-type-not-taken") from None
    if any(sign < " " and sign not in "\t\n\r\f" for sign in set(written)) or "\x7f" in written:
        raise AttachmentRefused("attachment-type-not-taken")
    if written.lstrip("\ufeff \t\r\n\f").lower().startswith(_NOT_PLAIN):
        raise AttachmentRefused("attachment-type-not-taken")
    words = TextCollector()
    words.add([written])
    kept = written.encode()
    return _CleanedFile(TEXT, kept if kept != content else None, words.text(), words.cut)


def _encoding_of(content: bytes) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    try:
        content.decode()
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes  # noqa: PLC0415

        # text contains no control characters; some encodings would read them as letters
        guessed = from_bytes(content[: 1 << 16], cp_isolation=list(_LATIN)).best()
        return guessed.encoding if guessed is not None else "ascii"
    return "utf-8"
