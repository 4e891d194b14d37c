"""Parses XML parts of documents without entities, reduces them to allowed elements and writes them again. Used only in
the confined child.
"""

import io
import re
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Final
from xml.etree import ElementTree as Written  # only for writing; defusedxml parses

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from comms.messaging.attachments.sanitising.refusals import AttachmentRefused

Element = Written.Element
Handler = Callable[[Element], list[Element]]

_PREFIXES: Final = {
    "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "r": "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
    "pic": "http://schemas.openxmlformats.org/drawingml/2006/picture",
    "wp": "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing",
    "x": "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
    "xdr": "http://schemas.openxmlformats.org/drawingml/2006/spreadsheetDrawing",
    "v": "urn:schemas-microsoft-com:vml",
    "office": "urn:oasis:names:tc:opendocument:xmlns:office:1.0",
    "style": "urn:oasis:names:tc:opendocument:xmlns:style:1.0",
    "text": "urn:oasis:names:tc:opendocument:xmlns:text:1.0",
    "table": "urn:oasis:names:tc:opendocument:xmlns:table:1.0",
    "draw": "urn:oasis:names:tc:opendocument:xmlns:drawing:1.0",
    "fo": "urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0",
    "svg": "urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0",
    "xlink": "http://www.w3.org/1999/xlink",
    "dc": "http://purl.org/dc/elements/1.1/",
}
for _prefix, _namespace in _PREFIXES.items():
    Written.register_namespace(_prefix, _namespace)
# Office's strict XML format uses other names for the same namespaces.
_STRICT: Final = re.compile(
    rb"http://purl\.oclc\.org/ooxml/(wordprocessingml/main|spreadsheetml/main|officeDocument/relationships"
    rb"|drawingml/(?:main|picture|wordprocessingDrawing|spreadsheetDrawing))"
)
# Attribute values that could be an address: a scheme, a network share, a host.
_ADDRESS: Final = re.compile(r"(?i)//|\\\\|^\s*(https?|ftp|file|mhtml|javascript|vbscript|data|ms-[a-z-]+):")
_PARAGRAPHS: Final = frozenset({"p", "h", "si", "is", "text"})
_SPACES: Final = frozenset({"tab", "br", "cr", "line-break", "s"})
_MAX_DEPTH: Final = 200


def name(prefix: str, local: str) -> str:
    """The qualified name of an element or attribute, as ElementTree writes it."""
    return f"{{{_PREFIXES[prefix]}}}{local}"


def names(prefix: str, locals_: str) -> frozenset[str]:
    """The qualified names of several local names, separated by spaces."""
    return frozenset(name(prefix, local) for local in locals_.split())


def local_of(tag: str) -> str:
    return tag.rpartition("}")[2]


def parsed(part: bytes) -> Element:
    """Parses the part and returns its root. Raises `AttachmentRefused`, also for a document type: these formats have
    none, so they have no entities.
    """
    try:
        root: Element = ElementTree.fromstring(_STRICT.sub(_transitional, part), forbid_dtd=True)
    except (Written.ParseError, DefusedXmlException, LookupError, ValueError):
        raise AttachmentRefused("attachment-unreadable") from None
    if _depth(root) > _MAX_DEPTH:
        raise AttachmentRefused("attachment-unreadable")
    return root


def written(root: Element) -> bytes:
    """Serialises the part."""
    content: bytes = Written.tostring(root, encoding="UTF-8", xml_declaration=True)
    return content


def _transitional(found: "re.Match[bytes]") -> bytes:
    kind = found[1].decode()
    if kind.startswith("officeDocument"):
        return b"http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    family, _, rest = kind.partition("/")
    return f"http://schemas.openxmlformats.org/{family}/2006/{rest}".encode()


def _depth(root: Element) -> int:
    level, depth = [root], 0
    while level and depth <= _MAX_DEPTH:
        level, depth = [child for element in level for child in element], depth + 1
    return depth


class Reducer:
    """Reduces an XML tree in place to what is allowed.

    `kept`: elements to keep, each with its allowed attributes. `unwrapped`: elements that are replaced by their
    children. `handlers`: functions for elements that need more checks; each returns the replacement. All other elements
    are removed with their content. `worded`: elements whose own text is kept.
    """

    def __init__(
        self, kept: Mapping[str, Container[str]], unwrapped: Container[str], worded: Container[str],
        handlers: Mapping[str, Handler],
    ) -> None:  # fmt: skip
        self._kept, self._unwrapped, self._worded, self._handlers = kept, unwrapped, worded, handlers

    def reduced(self, element: Element) -> list[Element]:
        """Returns the replacement of the element."""
        if (handler := self._handlers.get(element.tag)) is not None:
            return handler(element)
        if (allowed := self._kept.get(element.tag)) is not None:
            return [self.stripped(element, allowed)]
        return self.children_of(element) if element.tag in self._unwrapped else []

    def stripped(self, element: Element, allowed: Container[str]) -> Element:
        """Removes attributes that are not allowed, and reduces the children."""
        for key in [key for key in element.attrib if key not in allowed or _ADDRESS.search(element.attrib[key])]:
            del element.attrib[key]
        if element.tag not in self._worded:
            element.text = None
        element[:] = self.children_of(element)
        return element

    def children_of(self, element: Element) -> list[Element]:
        """Returns the replacements of the children. Text between them is kept if the element may contain text."""
        found: list[Element] = []
        for child in list(element):
            tail, child.tail = child.tail, None
            found += self.reduced(child)
            if found and element.tag in self._worded:
                found[-1].tail = (found[-1].tail or "") + (tail or "")
            elif element.tag in self._worded:
                element.text = (element.text or "") + (tail or "")
        return found


def paragraphs(part: bytes) -> Iterator[str]:
    """The text of an XML part, one piece for each paragraph. A nested paragraph (note, text box) comes before its
    parent.
    """
    depth = 0
    for event, element in ElementTree.iterparse(io.BytesIO(part), events=("start", "end"), forbid_dtd=True):
        tag = local_of(element.tag)
        if event == "start":
            depth += tag in _PARAGRAPHS
            continue
        if tag in _SPACES:
            element.text = " "
        elif tag == "instrText":
            element.text = None  # a field instruction is not text
        elif tag in _PARAGRAPHS:
            depth -= 1
            yield "".join(element.itertext()) + "\n"
            element.clear()
        if depth == 0:
            element.clear()
