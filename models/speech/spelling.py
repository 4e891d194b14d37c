"""Corrects the spelling of recognised words: British spelling, words of care, names of participants.

It is the last step of `models/speech/transcription.py`. It changes only the spelling: a word gets its British
spelling, the pieces of one word are joined, and an unsure word that is close to a participant's name becomes that name.
Times and confidences stay.
"""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

from models.contract.records import Word

_SURE_OF_NAME: Final = 0.6  # a word with this confidence is not changed to a name
_SHORTEST_NAME: Final = 5  # letters; shorter names are too similar to other words
_NAME_LIKENESS: Final = 0.82
_NEAR_WORDS: Final = 15  # words before and after in which a word of care must be found

# American spellings with one British spelling in every sense ('program', 'tire' and 'check' have two).
_BRITISH: Final = {
    "mom": "mum", "moms": "mums", "mommy": "mummy", "favorite": "favourite", "favorites": "favourites",
    "favor": "favour", "color": "colour", "colors": "colours", "colored": "coloured", "center": "centre",
    "centers": "centres", "gray": "grey", "neighbor": "neighbour", "neighbors": "neighbours",
    "behavior": "behaviour", "behaviors": "behaviours", "honor": "honour", "humor": "humour", "labor": "labour",
    "odor": "odour", "rumor": "rumour", "rumors": "rumours", "tumor": "tumour", "flavor": "flavour",
    "harbor": "harbour", "vapor": "vapour", "fiber": "fibre", "liter": "litre", "liters": "litres",
    "theater": "theatre", "pajamas": "pyjamas", "yogurt": "yoghurt", "yogurts": "yoghurts", "cozy": "cosy",
    "jewelry": "jewellery", "mustache": "moustache", "traveled": "travelled", "traveling": "travelling",
    "canceled": "cancelled", "canceling": "cancelling", "labeled": "labelled", "counselor": "counsellor",
    "councilor": "councillor", "councilors": "councillors", "defense": "defence", "enroll": "enrol",
    "fulfill": "fulfil", "analyze": "analyse", "catalog": "catalogue", "apologize": "apologise",
    "apologized": "apologised", "recognize": "recognise", "recognized": "recognised", "realize": "realise",
    "realized": "realised", "organize": "organise", "organized": "organised", "paralyzed": "paralysed",
    "hospitalized": "hospitalised", "traumatized": "traumatised", "anemia": "anaemia", "anemic": "anaemic",
    "diarrhea": "diarrhoea", "edema": "oedema", "hemoglobin": "haemoglobin", "hemorrhage": "haemorrhage",
    "leukemia": "leukaemia", "orthopedic": "orthopaedic", "pediatric": "paediatric", "estrogen": "oestrogen",
    "esophagus": "oesophagus", "anesthetic": "anaesthetic", "aging": "ageing",
}  # fmt: skip

# One word that is often recognised as two. The pairs of the second list are joined only near a word of care.
_SPLIT_WORDS: Final = {
    ("safe", "guarding"): "safeguarding", ("safe", "guard"): "safeguard", ("safe", "guarded"): "safeguarded",
}  # fmt: skip
_HEARD_AS_SAFEGUARDING: Final = {("safe", "writing"), ("safe", "riding"), ("safe", "garden"), ("save", "guarding")}
_CARE_WORDS: Final = frozenset(
    {
        "abuse", "adult", "adults", "alert", "bruise", "bruises", "care", "carer", "carers", "concern", "concerns",
        "council", "disclosure", "harm", "incident", "investigation", "lead", "manager", "neglect", "nurse", "police",
        "policy", "raise", "raised", "refer", "referral", "report", "reported", "resident", "residents", "social",
        "team", "worker",
    }
)  # fmt: skip


def correct_spelling(words: Sequence[Word], names: Sequence[str], *, language: str = "en") -> list[Word]:
    """The words with corrected spelling, in order. `names`: the participants'. Not in English: only names."""
    if language != "en":
        return [correct_name(word, names) for word in words]
    plain = [re.sub(r"[^\w']", "", word.word).lower() for word in words]
    written: list[Word] = []
    index = 0
    while index < len(words):
        pair = (plain[index], plain[index + 1].removesuffix("'s")) if index + 1 < len(words) else ("", "")
        joined_word = _SPLIT_WORDS.get(pair) or ("safeguarding" if _is_safeguarding(pair, plain, index) else None)
        if joined_word and re.search(r"\w$", words[index].word):  # no punctuation between the two
            written.append(_joined(words[index], words[index + 1], joined_word))
            index += 2
        elif plain[index] == "nero" and _is_zero(plain, index):
            written.append(
                words[index].model_copy(update={"word": re.sub("nero", "zero", words[index].word, flags=re.I)})
            )
            index += 1
        else:
            written.append(correct_name(_british_spelling(words[index]), names))
            index += 1
    return written


def correct_name(word: Word, names: Sequence[str]) -> Word:
    """Replace a misspelt name of a participant ('Agneska' for 'Agnieszka').

    A prompt to the recogniser could do this, but it makes Whisper base skip turns. Another person's name must not
    become a participant's name, so only long, capitalised words with low confidence are compared.
    """
    letters = re.search(r"[^\W\d_]+", word.word)
    plain = letters.group() if letters else ""
    if word.confidence >= _SURE_OF_NAME or len(plain) < _SHORTEST_NAME or not plain[0].isupper():
        return word
    parts = [part for name in names for part in name.split() if len(part) >= _SHORTEST_NAME]
    close = get_close_matches(plain, parts, n=1, cutoff=_NAME_LIKENESS)
    return word.model_copy(update={"word": word.word.replace(plain, close[0])}) if close else word


def _british_spelling(word: Word) -> Word:
    found = re.match(r"(\W*)([A-Za-z]+)('s)?(\W*)$", word.word)
    spelling = _BRITISH.get(found[2].lower()) if found else None
    if found is None or spelling is None:
        return word
    return word.model_copy(update={"word": f"{found[1]}{_match_case(spelling, found[2])}{found[3] or ''}{found[4]}"})


def _match_case(spelling: str, like: str) -> str:
    return spelling.upper() if like.isupper() else spelling.capitalize() if like[0].isupper() else spelling


def _is_safeguarding(pair: tuple[str, str], plain: Sequence[str], index: int) -> bool:
    around = [*plain[max(0, index - _NEAR_WORDS) : index], *plain[index + 2 : index + 2 + _NEAR_WORDS]]
    return pair in _HEARD_AS_SAFEGUARDING and not _CARE_WORDS.isdisjoint(around)


def _is_zero(plain: Sequence[str], index: int) -> bool:
    """Whether 'nero' is part of a number: the nearest other words on both sides are digits."""
    before = next((word for word in reversed(plain[:index]) if word != "nero"), "")
    after = next((word for word in plain[index + 1 :] if word != "nero"), "")
    return before.isdigit() and (after.isdigit() or not after)


def _joined(first: Word, second: Word, joined_word: str) -> Word:
    marks = re.search(r"('s)?\W*$", second.word)
    opening = re.match(r"\W*", first.word)
    letters = first.word.lstrip("\"'(")
    text = f"{opening[0] if opening else ''}{_match_case(joined_word, letters[:1] + 'a')}{marks[0] if marks else ''}"
    return first.model_copy(
        update={
            "word": text,
            "end_seconds": max(first.end_seconds, second.end_seconds),
            "confidence": min(first.confidence, second.confidence),
        }
    )
