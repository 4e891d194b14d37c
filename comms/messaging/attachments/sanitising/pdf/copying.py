"""Copies PDF objects into a new document by rules; what no rule allows is not copied. Used only in the confined child.

A rule takes a value of the original document and returns the value for the new one, or None if the value does not have
the allowed form. Rules for dictionaries and streams list the allowed keys, each with its own rule.
"""

import binascii
import zlib
from base64 import a85decode
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import pikepdf

from comms.messaging.attachments.sanitising.jpeg_segments import without_boxes, without_metadata
from comms.messaging.attachments.sanitising.refusals import AttachmentRefused

_MAX_DEPTH: Final = 60
_MAX_ITEMS: Final = 200_000
_MAX_STRING: Final = 1 << 16
_MAX_DECODED: Final = 200 << 20
_GENERAL: Final = frozenset({"/FlateDecode", "/LZWDecode", "/ASCII85Decode", "/ASCIIHexDecode", "/RunLengthDecode"})
_OF_PICTURES: Final = frozenset({"/DCTDecode", "/JPXDecode", "/CCITTFaxDecode", "/JBIG2Decode"})

Rule = Callable[["PdfCopier", Any], Any]


class PdfCopier:
    """The objects copied from one document so far. A shared object is copied once; an object may contain itself."""

    def __init__(self, target: pikepdf.Pdf) -> None:
        self.target = target
        self._copied: dict[tuple[Any, int], Any] = {}
        self._depth = 0
        self._decoded = 0

    def copied(self, found: Any, rule: Rule, key_rules: Mapping[str, Rule], begin: Callable[[], Any]) -> Any:
        """Copies the allowed keys of `found` into the dictionary or stream that `begin` makes."""
        own = (found.objgen, id(rule))
        if found.is_indirect and own in self._copied:
            return self._copied[own]
        made = begin()
        if made is None:
            return None
        if found.is_indirect:
            made = self._copied[own] = self.target.make_indirect(made)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise AttachmentRefused("attachment-unreadable")
        for key, key_rule in key_rules.items():
            if key in found and (value := key_rule(self, found[key])) is not None:
                made[key] = value
        self._depth -= 1
        return made

    def count(self, content: bytes) -> bytes:
        """Returns the content. Raises `AttachmentRefused` if the total decoded size is too large."""
        self._decoded += len(content)
        if self._decoded > _MAX_DECODED:
            raise AttachmentRefused("attachment-expands")
        return content


# --- simple values ---------------------------------------------------------------------------------------------------


def number(_: PdfCopier, found: Any) -> Any:
    """An integer or a decimal number."""
    return found if isinstance(found, (int, Decimal)) and not isinstance(found, bool) else None


def boolean(_: PdfCopier, found: Any) -> Any:
    return found if isinstance(found, bool) else None


def name(_: PdfCopier, found: Any) -> Any:
    return pikepdf.Name(str(found)) if isinstance(found, pikepdf.Name) else None


def string(_: PdfCopier, found: Any) -> Any:
    is_string = isinstance(found, pikepdf.String) and len(bytes(found)) <= _MAX_STRING
    return pikepdf.String(bytes(found)) if is_string else None


def one_of(*names: str) -> Rule:
    """One of these names."""
    return lambda _, found: pikepdf.Name(str(found)) if isinstance(found, pikepdf.Name) and found in names else None


def either(*rules: Rule) -> Rule:
    """The value of the first rule that allows it."""

    def rule(copier: PdfCopier, found: Any) -> Any:
        return next((value for each in rules if (value := each(copier, found)) is not None), None)

    return rule


# --- arrays, dictionaries and streams --------------------------------------------------------------------------------


def array(item: Rule, length: int | None = None) -> Rule:
    """An array in which the rule allows every item."""

    def rule(copier: PdfCopier, found: Any) -> Any:
        if not isinstance(found, pikepdf.Array) or len(found) > _MAX_ITEMS or length not in (None, len(found)):
            return None
        copier._depth += 1
        if copier._depth > _MAX_DEPTH:
            raise AttachmentRefused("attachment-unreadable")
        items = [item(copier, one) for one in found]
        copier._depth -= 1
        return None if any(one is None for one in items) else pikepdf.Array(items)

    return rule


def row(*items: Rule) -> Rule:
    """An array with one rule for each item; further items are not copied."""

    def rule(copier: PdfCopier, found: Any) -> Any:
        if not isinstance(found, pikepdf.Array) or len(found) < len(items):
            return None
        values = [each(copier, one) for each, one in zip(items, found, strict=False)]
        return None if any(one is None for one in values) else pikepdf.Array(values)

    return rule


def dictionary(keys: Mapping[str, Rule], needs: frozenset[str] = frozenset()) -> Rule:
    """A dictionary with these keys; None if a key in `needs` is missing."""

    def rule(copier: PdfCopier, found: Any) -> Any:
        if not isinstance(found, pikepdf.Dictionary) or isinstance(found, pikepdf.Stream) or not needs <= set(found):
            return None
        made = copier.copied(found, rule, keys, pikepdf.Dictionary)
        return made if needs <= set(made) or found.is_indirect else None

    return rule


def named(value: Rule) -> Rule:
    """A dictionary whose keys the document chose; entries that the rule does not allow are left out."""

    def rule(copier: PdfCopier, found: Any) -> Any:
        if not isinstance(found, pikepdf.Dictionary) or isinstance(found, pikepdf.Stream) or len(found) > _MAX_ITEMS:
            return None
        return copier.copied(found, rule, dict.fromkeys(map(str, found), value), pikepdf.Dictionary)

    return rule


def stream(keys: Mapping[str, Rule], allowed: Callable[[Any], bool] = lambda _: True) -> Rule:
    """A stream with these keys; its content is decoded and encoded again."""

    def rule(copier: PdfCopier, found: Any) -> Any:
        if not isinstance(found, pikepdf.Stream) or not allowed(found):
            return None
        return copier.copied(found, rule, keys, lambda: _decoded_stream(copier, found))

    return rule


def picture_stream(keys: Mapping[str, Rule], parameters: Rule, allowed: Callable[[Any], bool]) -> Rule:
    """A stream of image data, which keeps its image encoding; metadata in JPEG data is removed."""

    def rule(copier: PdfCopier, found: Any) -> Any:
        if not isinstance(found, pikepdf.Stream) or not allowed(found):
            return None
        return copier.copied(found, rule, keys, lambda: _picture_stream(copier, found, parameters))

    return rule


def _filters(found: Any) -> list[str] | None:
    """The names of the stream's filters; None if the content is in another file or a filter is not known."""
    if {"/F", "/FFilter", "/FDecodeParms"} & set(found):
        return None
    given = found.get("/Filter", pikepdf.Array())
    names = [str(each) for each in given] if isinstance(given, pikepdf.Array) else [str(given)]
    return names if set(names) <= _GENERAL | _OF_PICTURES and len(names) <= 4 else None


def _decoded_stream(copier: PdfCopier, found: Any) -> Any:
    names = _filters(found)
    if names is None or not set(names) <= _GENERAL:
        return None
    return copier.target.make_stream(copier.count(found.read_bytes()))


def _picture_stream(copier: PdfCopier, found: Any, parameters: Rule) -> Any:
    names = _filters(found)
    if names is None or set(names[:-1]) & _OF_PICTURES:
        return None
    if not names or names[-1] not in _OF_PICTURES:  # losslessly compressed pixels: copied without decoding
        made = copier.target.make_stream(copier.count(found.read_raw_bytes()))
        return _with_filters(copier, made, found, names, parameters)
    content = copier.count(_unwrapped(found.read_raw_bytes(), names[:-1]))
    if names[-1] == "/DCTDecode":
        content = without_metadata(content)
    if names[-1] == "/JPXDecode":
        content = without_boxes(content)
    given = found.get("/DecodeParms")
    made = copier.target.make_stream(content)
    made["/Filter"] = pikepdf.Name(names[-1])
    last = given[-1] if isinstance(given, pikepdf.Array) and len(given) else given
    if (kept := parameters(copier, last)) is not None:
        made["/DecodeParms"] = kept
    return made


def _with_filters(copier: PdfCopier, made: Any, found: Any, names: list[str], parameters: Rule) -> Any:
    if names:
        made["/Filter"] = pikepdf.Array([pikepdf.Name(each) for each in names])
        given = found.get("/DecodeParms")
        each_given = list(given) if isinstance(given, pikepdf.Array) else [given]
        kept = [parameters(copier, one) for one in each_given]
        if any(one is not None for one in kept) and len(kept) == len(names):
            made["/DecodeParms"] = pikepdf.Array([pikepdf.Dictionary() if one is None else one for one in kept])
    return made


def _unwrapped(content: bytes, names: list[str]) -> bytes:
    """Decodes the filters around the image encoding."""
    for each in names:
        if each == "/FlateDecode":
            content = zlib.decompressobj().decompress(content, _MAX_DECODED)
        elif each == "/ASCII85Decode":
            content = a85decode(content.strip().removesuffix(b"~>"))
        elif each == "/ASCIIHexDecode":
            content = binascii.unhexlify(b"".join(content.split()).removesuffix(b">"))
        else:
            raise AttachmentRefused("attachment-unreadable")
    return content
