"""Fields of Word documents: keeps their results, removes instructions that fetch or run something. Runs only in the
confined child.
"""

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
    """A field that has begun: its marks, its instruction, and text between instructions, which is not part of the
    result.
    """

    marks: list[Element] = field(default_factory=list)
    instruction: list[Element] = field(default_factory=list)
    among: list[Element] = field(default_factory=list)
    in_result: bool = False


@dataclass(frozen=True)
class Fields:
    """What to do with the fields of one part: `kept` are marks and instructions, `left_out` is text to remove. Elements
    are given by `id()`.
    """

    kept: frozenset[int]
    left_out: frozenset[int]


def fields_of(root: Element) -> Fields:
    """Decides about the fields of a part. A field that never ends is dropped: its marks are removed, its text stays."""
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
    """Whether the field only counts pages."""
    return re.fullmatch(HARMLESS_FIELD, instruction) is not None


def box_of(mark: Element) -> str | None:
    """The character for the check box that the mark begins; None if it begins something else."""
    box = mark.find(f"{name('w', 'ffData')}/{name('w', 'checkBox')}")
    if box is None:
        return None
    states = [box.find(name("w", which)) for which in ("checked", "default")]
    state = next((one.get(_VALUE, "1") for one in states if one is not None), "0")
    return NOT_TICKED if state.lower() in _OFF else TICKED
