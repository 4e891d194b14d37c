"""Rebuilds the pictures of a sheet; other drawings are dropped. Runs only in the confined child."""

import re
from typing import Final

from comms.messaging.attachments.sanitising.ooxml.packages import CleanPackage, CleanPart, SourcePackage
from comms.messaging.attachments.sanitising.xml_parts import Element, name, names, parsed, written

_TYPE: Final = "application/vnd.openxmlformats-officedocument.drawing+xml"
_ANCHORS: Final = names("xdr", "oneCellAnchor twoCellAnchor absoluteAnchor")
_MAX_PLACE: Final = 1_000_000
_SIDE, _MAX_SIDE = 914_400 * 3, 914_400 * 60  # English Metric Units: 914,400 are an inch


def cleaned_drawing(given: SourcePackage, kept: CleanPackage, source: str, number: int) -> CleanPart | None:
    """A drawing that contains only the pictures of the sheet; None if it has none."""
    relations = given.relations(source)
    part = CleanPart(f"xl/drawings/drawing{number}.xml", _TYPE)
    made = Element(name("xdr", "wsDr"))
    for anchor in parsed(given.content(source) or b""):
        for blip in anchor.iter(name("a", "blip")) if anchor.tag in _ANCHORS else ():
            if (id := kept.picture(part, relations.get(blip.get(name("r", "embed"), "")))) is not None:
                made.append(_anchor(anchor, id, len(made) + 1))
    if not len(made):
        return None
    part.content = written(made)
    return kept.add(part)


def _anchor(given: Element, id: str, number: int) -> Element:
    anchor = Element(name("xdr", "oneCellAnchor"))
    start = _below(anchor, "xdr", "from")
    for which in ("col", "colOff", "row", "rowOff"):
        found = given.findtext(f"{name('xdr', 'from')}/{name('xdr', which)}") or "0"
        _below(start, "xdr", which).text = str(_number(found, 0, _MAX_PLACE))
    sides = given.find(f".//{name('a', 'ext')}[@cx]")
    sides = given.find(name("xdr", "ext")) if sides is None else sides
    width, height = (
        str(_number(sides.get(side, "") if sides is not None else "", _SIDE, _MAX_SIDE)) for side in ("cx", "cy")
    )
    _below(anchor, "xdr", "ext", cx=width, cy=height)
    picture = _below(anchor, "xdr", "pic")
    about = _below(picture, "xdr", "nvPicPr")
    _below(about, "xdr", "cNvPr", id=str(number), name=f"Picture {number}")
    _below(about, "xdr", "cNvPicPr")
    fill = _below(picture, "xdr", "blipFill")
    _below(fill, "a", "blip").set(name("r", "embed"), id)
    _below(_below(fill, "a", "stretch"), "a", "fillRect")
    shape = _below(picture, "xdr", "spPr")
    place = _below(shape, "a", "xfrm")
    _below(place, "a", "off", x="0", y="0")
    _below(place, "a", "ext", cx=width, cy=height)
    _below(_below(shape, "a", "prstGeom", prst="rect"), "a", "avLst")
    _below(anchor, "xdr", "clientData")
    return anchor


def _number(written_: str, otherwise: int, most: int) -> int:
    return min(int(written_), most) if re.fullmatch("[0-9]{1,12}", written_) else otherwise


def _below(parent: Element, prefix: str, local: str, **attributes: str) -> Element:
    child = Element(name(prefix, local), attributes)
    parent.append(child)
    return child
