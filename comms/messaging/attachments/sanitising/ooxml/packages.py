"""Reads the parts and relationships of Office packages (docx, xlsx), and writes a new package from kept parts.

Part names ignore case. No part of the original is copied as it is: the caller asks for each part by its relationship.
Used only in the confined child.
"""

import io
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote
from xml.sax.saxutils import quoteattr  # only for writing

from comms.messaging.attachments.sanitising.images import cleaned_picture, picture_extension
from comms.messaging.attachments.sanitising.link_rules import allowed_address
from comms.messaging.attachments.sanitising.refusals import AttachmentRefused
from comms.messaging.attachments.sanitising.xml_parts import local_of, parsed
from comms.messaging.attachments.sanitising.zip_archives import repack

_RELATIONSHIPS: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
_KINDS: Final = (_RELATIONSHIPS, "http://purl.oclc.org/ooxml/officeDocument/relationships/")
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"
_RELS: Final = "application/vnd.openxmlformats-package.relationships+xml"
# Parts whose content would be lost silently, so the file is refused: other documents, programs, macro sheets.
_LOST: Final = {
    "afchunk": "attachment-nested-archive", "subdocument": "attachment-nested-archive",
    "package": "attachment-nested-archive", "oleobject": "attachment-nested-archive",
    "vbaproject": "attachment-active", "xlmacrosheet": "attachment-active", "xlintlmacrosheet": "attachment-active",
    "control": "attachment-active",
}  # fmt: skip


@dataclass(frozen=True)
class Relation:
    """`kind`: the last part of the relationship type if the type is Office's own. `target`: a part name or an
    address.
    """

    kind: str
    target: str
    external: bool


class SourcePackage:
    """The parts of the original package."""

    def __init__(self, members: Mapping[str, bytes]) -> None:
        self._parts = {name.lower(): content for name, content in members.items()}
        self._types = self._read_types()

    def main_part(self) -> tuple[str, str]:
        """The name and the content type of the main part."""
        found = [one.target for one in self.relations("").values() if one.kind == "officedocument" and not one.external]
        if len(found) != 1 or found[0] not in self._parts:
            raise AttachmentRefused("attachment-type-not-taken")
        return found[0], self.type_of(found[0])

    def type_of(self, part: str) -> str:
        return self._types.get(f"/{part}", self._types.get(part.rpartition(".")[2], ""))

    def content(self, part: str) -> bytes | None:
        return self._parts.get(part)

    def relations(self, part: str) -> dict[str, Relation]:
        """The relationships of the part ('': of the package) by id. Raises `AttachmentRefused` if content would be
        lost.
        """
        folder, _, file = part.rpartition("/")
        content = self._parts.get(posixpath.join(folder, "_rels", f"{file}.rels"))
        found = {}
        for one in parsed(content) if content is not None else ():
            address, external = one.get("Target", ""), one.get("TargetMode", "").lower() == "external"
            kind = next((one.get("Type", "")[len(k) :] for k in _KINDS if one.get("Type", "").startswith(k)), "")
            if (lost := _LOST.get(local_of(one.get("Type", "").replace("/", "}")).lower())) is not None:
                raise AttachmentRefused("attachment-active" if external else lost)
            target = address if external else self._resolved(folder, address)
            found[one.get("Id", "")] = Relation(kind.lower(), target, external)
        return found

    def related(self, part: str, kind: str) -> list[str]:
        """The names of existing parts that have this relationship to the part."""
        return [
            one.target
            for one in self.relations(part).values()
            if one.kind == kind and not one.external and one.target in self._parts
        ]

    def _resolved(self, folder: str, target: str) -> str:
        for written in (target, unquote(target)):
            whole = written[1:] if written.startswith("/") else posixpath.join(folder, written)
            if (known := posixpath.normpath(whole).lower()) in self._parts:
                return known
        return ""

    def _read_types(self) -> dict[str, str]:
        content = self._parts.get("[content_types].xml")
        if content is None:
            raise AttachmentRefused("attachment-type-not-taken")
        return {
            (one.get("PartName") or one.get("Extension") or "").lower(): one.get("ContentType", "").lower()
            for one in parsed(content)
        }


@dataclass
class CleanPart:
    """A part of the new package. `relations`: id, kind, target (part name or address), and whether it is external."""

    name: str
    content_type: str
    content: bytes = b""
    relations: list[tuple[str, str, str, bool]] = field(default_factory=list)

    def relate(self, kind: str, target: str, *, external: bool = False) -> str:
        """Adds a relationship and returns its id."""
        self.relations.append((id := f"rId{len(self.relations) + 1}", kind, target, external))
        return id

    def link(self, relation: Relation | None) -> str | None:
        """Adds a link to the same address and returns its id; None if the address is not allowed."""
        if relation is None or relation.kind != "hyperlink" or not relation.external:
            return None
        address = allowed_address(relation.target)
        return None if address is None else self.relate("hyperlink", address, external=True)


class CleanPackage:
    """The new package: its parts, their types and their relationships."""

    def __init__(self, given: SourcePackage, folder: str) -> None:
        self._given, self._folder = given, folder
        self._parts: list[CleanPart] = []
        self._pictures: dict[str, str | None] = {}

    def add(self, part: CleanPart) -> CleanPart:
        self._parts.append(part)
        return part

    def picture(self, part: CleanPart, relation: Relation | None) -> str | None:
        """Returns the id of a relationship from `part` to the re-encoded picture; None if it cannot be kept."""
        if relation is None or relation.kind != "image" or relation.external or not relation.target:
            return None
        if relation.target not in self._pictures:
            self._pictures[relation.target] = self._kept_picture(self._given.content(relation.target) or b"")
        name = self._pictures[relation.target]
        return None if name is None else part.relate("image", name)

    def packed(self) -> bytes:
        return repack(self._members())

    def _kept_picture(self, content: bytes) -> str | None:
        try:
            media_type, picture = cleaned_picture(io.BytesIO(content))
        except AttachmentRefused as refusal:
            if refusal.slug == "attachment-expands":
                raise
            return None
        name = f"{self._folder}/media/image{len(self._pictures) + 1}.{picture_extension(media_type)}"
        return self.add(CleanPart(name, media_type, picture)).name

    def _members(self) -> Iterator[tuple[str, bytes]]:
        overrides = "".join(
            f"<Override PartName={quoteattr('/' + part.name)} ContentType={quoteattr(part.content_type)}/>"
            for part in self._parts
        )
        types = f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" ContentType="{_RELS}"/>'
        yield "[Content_Types].xml", f"{types}{overrides}</Types>".encode()
        yield "_rels/.rels", _relationships("", [("rId1", "officeDocument", self._parts[0].name, False)])
        for part in self._parts:
            yield part.name, part.content
            if part.relations:
                folder, _, file = part.name.rpartition("/")
                yield f"{folder}/_rels/{file}.rels", _relationships(folder, part.relations)


def _relationships(folder: str, relations: list[tuple[str, str, str, bool]]) -> bytes:
    rows = "".join(
        f"<Relationship Id={quoteattr(id)} Type={quoteattr(_RELATIONSHIPS + kind)} "
        f"Target={quoteattr(target if external or not folder else _relative(target, folder))}"
        + (' TargetMode="External"/>' if external else "/>")
        for id, kind, target, external in relations
    )
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{rows}</Relationships>'.encode()


def _relative(part: str, folder: str) -> str:
    # Absolute paths: for relative ones posixpath needs the working directory, which the child does not have.
    return posixpath.relpath(f"/{part}", f"/{folder}")
