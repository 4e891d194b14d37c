"""Normalises text for the models: replaces full-width and look-alike letters, removes invisible characters.

`He hit her` can be written with look-alike letters of other alphabets, with full-width letters or with invisible
characters. A person reads the same words; a model does not. Only the input of the models is changed; the stored text is
not. Real text in another alphabet is not changed, nor are accents and emoji.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Final

from models.contract.records import Conversation

_PLAIN: Final = re.compile(r"[\t\n\r\x20-\x7e\xa1-\xac\xae-\u02ff\u2010-\u2027\u2030-\u205e\u20a0-\u20bf]*")
_WORD: Final = re.compile(r"[^\W_]+")
_JOINERS: Final = "\u200c\u200d\ufe0e\ufe0f"  # used in emoji, and in words of Arabic and Indian scripts
_REPLACED_FORMS: Final = frozenset({"<wide>", "<narrow>", "<font>", "<circle>", "<square>", "<compat>", "<noBreak>"})
_SMALL_CAPITAL: Final = re.compile(r"LATIN LETTER SMALL CAPITAL ([A-Z])")
_ROUGH_LOOK_ALIKES: Final = {"м": "m", "г": "r", "п": "n", "ω": "w", "ε": "e", "η": "n", "χ": "x", "β": "b", "μ": "u"}
_SHORTEST_ALONE: Final = 8  # letters; a shorter text in another alphabet may be a real word that only looks Latin


def normalised(text: str) -> str:
    """`text` in the form that the models get. Text of plain letters is returned unchanged."""
    if _PLAIN.fullmatch(text):
        return text
    visible = "".join(_visible_characters(text))
    return _in_latin(unicodedata.normalize("NFC", visible))


def normalised_conversation(conversation: Conversation) -> Conversation:
    """The conversation with its texts normalised."""
    turns = tuple(turn.model_copy(update={"text": normalised(turn.text)}) for turn in conversation.turns)
    return conversation.model_copy(update={"turns": turns})


def _visible_characters(text: str) -> Iterator[str]:
    """The characters that a person sees, each in its plain form."""
    before = ""
    for letter in text:
        category = unicodedata.category(letter)
        if letter in _JOINERS:
            if before and not before.isascii() and not _is_latin(before):
                yield letter
            continue
        if category in ("Zl", "Zp"):
            yield " "
        elif category.startswith("M"):
            # Keep a combining mark that forms a real letter; any other mark only disguises the letter.
            if not _is_latin(before) or len(unicodedata.normalize("NFC", before + letter)) == 1:
                yield letter
            continue
        elif category not in ("Cf", "Cn", "Co", "Cs") and (category != "Cc" or letter.isspace()):
            before = _plain_form(letter)
            yield before
            continue
        before = before if category.startswith("C") else letter


def _plain_form(letter: str) -> str:
    """The plain letter or digit of a full-width, mathematical or encircled one; other characters are unchanged."""
    if unicodedata.decomposition(letter).partition(" ")[0] not in _REPLACED_FORMS:
        return letter
    plain = unicodedata.normalize("NFKC", letter)
    is_wide = unicodedata.east_asian_width(letter) in "FH"
    return plain if is_wide or plain == " " or all(one.isalnum() for one in plain) else letter


# --- letters that imitate Latin ones ----------------------------------------------------------------------------


def _in_latin(text: str) -> str:
    """Replace look-alike letters by Latin ones, in words with some Latin letters or with only imitated ones."""
    words = _WORD.findall(text)
    without_latin = [word for word in words if not any(map(_is_latin, word)) and any(map(str.isalpha, word))]
    imitates = all(_imitation(word) is not None for word in without_latin) and (
        len(without_latin) < len(words) or sum(map(len, without_latin)) >= _SHORTEST_ALONE
    )
    return _WORD.sub(lambda found: _word_in_latin(found[0], imitates=imitates), text)


def _word_in_latin(word: str, *, imitates: bool) -> str:
    if word.isascii():
        return word
    if any(map(_is_latin, word)):  # a mix of two alphabets, which only occurs when somebody hides a word
        return "".join(_look_alikes().get(letter) or _ROUGH_LOOK_ALIKES.get(letter, letter) for letter in word)
    whole = _imitation(word)
    return whole if imitates and whole is not None else word


def _imitation(word: str) -> str | None:
    """The Latin word that a word of another alphabet looks like; None if a letter of it looks like no Latin letter."""
    found = [letter if letter.isdigit() else _look_alikes().get(letter) for letter in word]
    return None if None in found else "".join(letter for letter in found if letter)


def _is_latin(letter: str) -> bool:
    return letter.isalpha() and (letter.isascii() or unicodedata.name(letter, "").startswith("LATIN "))


@cache
def _look_alikes() -> dict[str, str]:
    """Letter -> the Latin letter that it looks like, from Unicode's table of confusable characters (UTS 39)."""
    table = json.loads(files("confusable_homoglyphs").joinpath("confusables.json").read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    for letter, similar in table.items():
        if len(letter) != 1 or letter.isascii() or not letter.isalpha():
            continue
        latin = [plain for one in similar if (plain := _ascii_of(one["c"], one["n"]))]
        own = _ascii_of(letter, unicodedata.name(letter, ""))
        if own is not None or (latin and not _is_latin(letter)):
            found[letter] = own or latin[0]
    return found


def _ascii_of(letter: str, name: str) -> str | None:
    """The ASCII letter of a Latin variant (small capitals, dotless i); None for all other letters."""
    if len(letter) != 1:
        return None
    if letter.isascii():
        return letter if letter.isalpha() else None
    if found := _SMALL_CAPITAL.match(name):
        return found[1].lower()
    if "KRA" in name.split():  # the small letter that Cyrillic and Greek k look like
        return "k"
    return None
