"""Types for text that people send: names of one line and words of several; text that nobody can see is refused.

Both are stored in Unicode's form NFC, without space at either end. Invisible characters must not make one name look
like another, nor change the order in which words are read (docs/decisions/0041).
"""

import unicodedata
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, StringConstraints
from pydantic_core import PydanticCustomError

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


TEXT_INVALID: Final = "text_invalid"  # becomes the problem's type

_JOINERS: Final = frozenset("\u200c\u200d")  # between two characters: in emoji, and in several scripts
_MARKS: Final = frozenset("\u061c\u200e\u200f")  # they set the direction of the next character, and reverse no text
_OVERRIDES: Final = frozenset("\u202d\u202e")
_EMBEDDINGS: Final = frozenset("\u202a\u202b")
_END_OF_EMBEDDING: Final = "\u202c"
_ISOLATES: Final = frozenset("\u2066\u2067\u2068")
_END_OF_ISOLATE: Final = "\u2069"
_LINES: Final = frozenset("\n\r\t")
# Letters and symbols that have no visible form, so they are not a name.
_DRAWN_AS_NOTHING: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
# The flags of Wales, Scotland and England: a black flag, then invisible letters.
_FLAG: Final = "\U0001f3f4"
_TAGS: Final = frozenset(map(chr, range(0xE0020, 0xE0080)))


def _name(text: str) -> str:
    kept = _tidy(text)
    if unseen := next(_unseen_in_name(kept), None):
        raise PydanticCustomError(TEXT_INVALID, "A name must not contain {what}: type it again.", {"what": unseen})
    return kept


def _words(text: str) -> str:
    kept = _tidy(text)
    if any(unicodedata.category(sign) == "Cc" and sign not in _LINES for sign in kept):
        raise PydanticCustomError(TEXT_INVALID, "Text must not contain control characters except line ends and tabs.")
    if any(sign in _OVERRIDES for sign in kept) or not all(_balanced(line) for line in kept.splitlines()):
        raise PydanticCustomError(
            TEXT_INVALID,
            "Text must not override the direction of reading; an embedding or isolate must end in its line.",
        )
    return kept


def _tidy(text: str) -> str:
    """The text in NFC, without space at either end; raises if it contains nothing that can be seen."""
    kept = unicodedata.normalize("NFC", text).strip()
    if text and not any(map(_is_visible, kept)):
        raise PydanticCustomError(TEXT_INVALID, "The text contains nothing that can be seen: type some text.")
    return kept


def _is_visible(sign: str) -> bool:
    # Cn (unassigned): may be an emoji that is newer than the tables of this Python
    return sign not in _DRAWN_AS_NOTHING and (unicodedata.category(sign)[0] in "LNPS" or _is_younger(sign))


def _is_younger(sign: str) -> bool:
    return unicodedata.category(sign) == "Cn" and ord(sign) & 0xFFFE != 0xFFFE and not 0xFDD0 <= ord(sign) <= 0xFDEF


def _unseen_in_name(name: str) -> Iterator[str]:
    """Describes each character of the name that is invisible and not allowed in it."""
    for at, sign in enumerate(name):
        kind = unicodedata.category(sign)
        if sign in _JOINERS and 0 < at < len(name) - 1 and _stands(name[at - 1]) and _stands(name[at + 1]):
            continue
        if sign in _TAGS and _FLAG in name[:at]:
            continue
        if kind in ("Cc", "Zl", "Zp"):
            yield "control characters"
        elif kind == "Cf" or sign in _DRAWN_AS_NOTHING:
            yield "characters that are invisible or change the direction of reading"


def _stands(sign: str) -> bool:
    """Whether a joiner may be next to it: any visible character, also an accent or a variation selector."""
    return unicodedata.category(sign)[0] in "LMNPS" or _is_younger(sign)


def _balanced(line: str) -> bool:
    """Whether every embedding and isolate of the line is closed in it, in the right order."""
    open_ones: list[str] = []
    for sign in line:
        if sign in _EMBEDDINGS:
            open_ones.append(_END_OF_EMBEDDING)
        elif sign in _ISOLATES:
            open_ones.append(_END_OF_ISOLATE)
        elif sign in (_END_OF_EMBEDDING, _END_OF_ISOLATE) and (not open_ones or open_ones.pop() != sign):
            return False
    return not open_ones


def shown_name(text: str) -> str:
    """A name from another system (a single sign-on provider) without the characters that `Name` refuses; or empty."""
    kept = unicodedata.normalize("NFC", text)
    drawn = "".join(sign for sign in kept if _stands(sign) or sign in _JOINERS or sign == " ")
    drawn = " ".join(drawn.split()).strip("".join(_JOINERS))
    try:
        return _name(drawn)
    except PydanticCustomError:
        return ""


def _of_text(check: Callable[[str], str]) -> Callable[[Any], Any]:
    return lambda value: check(value) if isinstance(value, str) else value


# Each field sets its own length: `Field(min_length=1, max_length=255)`, checked after this.
Name = Annotated[str, BeforeValidator(_of_text(_name))]
Words = Annotated[str, BeforeValidator(_of_text(_words))]
