"""Fields of Word documents: the result is kept, what a program is told to fetch or run is not. For the child alone."""

import re
from dataclasses import dataclass, field
from typing import Final

from comms.messaging.attachments.sanitising.ooxml.word_rules import HARMLESS_FIELD
from comms.messaging.attachments.sanitising.xml_parts import Element, name

_CHARACTER, _INSTRUCTION, _DELETED = name("w", "fldChar"), name("w", "instrText"), name("w", "delInstrText")
_TYPE, _VALUE, _TEXT = name("w", "fldCharType"), name("w", "val"), name("w", "t")
_OFF: Final = frozenset({"0", "false", "off"})
TICKED, NOT_TICKED = "\u2612", "\u2610"


@dataclass
class _Field:
    """A field that has begun: its marks and its instruction, and the words among that, which are no result."""

    marks: list[Element] = field(default_factory=list)
    instruction: list[Element] = field(default_factory=list)
    among: list[Element] = field(default_factory=list)
    in_result: bool = False


@dataclass(frozen=True)
class Fields:
    """Of one part: the marks and instructions to keep, and the words to leave out. Elements by identity."""

    kept: frozenset[int]
    left_out: frozenset[int]


def fields_of(root: Element) -> Fields:
    """What is to be done with the fields of a part. One that never ends is none: its marks go, its words stay."""
    kept: set[int] = set()
    left_out: set[int] = set()
    begun: list[_Field] = []
    for element in root.iter():
        if element.tag == _CHARACTER:
            _mark(element, begun, kept, left_out)
        elif begun and not begun[-1].in_result and element.tag in (_INSTRUCTION, _DELETED):
            begun[-1].instruction.append(element)
        elif element.tag == _TEXT:
            for one in begun:
                if not one.in_result:
                    one.among.append(element)
    return Fields(frozenset(kept), frozenset(left_out))


def _mark(mark: Element, begun: list[_Field], kept: set[int], left_out: set[int]) -> None:
    kind = mark.get(_TYPE)
    if kind == "begin":
        begun.append(_Field())
    if not begun:
        return
    begun[-1].marks.append(mark)
    begun[-1].in_result = begun[-1].in_result or kind == "separate"
    if kind == "end":
        ended = begun.pop()
        left_out |= set(map(id, ended.among))
        written = "".join(one.text or "" for one in ended.instruction)
        if not ended.among and is_harmless(written):
            kept |= set(map(id, [*ended.marks, *ended.instruction]))


def is_harmless(instruction: str) -> bool:
    """Whether it only counts pages."""
    return re.fullmatch(HARMLESS_FIELD, instruction) is not None


def box_of(mark: Element) -> str | None:
    """The sign for a box to tick that the mark begins; None where it begins something else."""
    box = mark.find(f"{name('w', 'ffData')}/{name('w', 'checkBox')}")
    if box is None:
        return None
    states = [box.find(name("w", which)) for which in ("checked", "default")]
    state = next((one.get(_VALUE, "1") for one in states if one is not None), "0")
    return NOT_TICKED if state.lower() in _OFF else TICKED
