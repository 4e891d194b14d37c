"""Detects turns that are not in English, because the text models were trained only on English.

A turn counts as foreign only on strong evidence: it is written in another alphabet, or it has hardly any English words
and a language detector is sure of another language. Dialect, typing errors and recognition errors count as English.
"""

import re
from collections import Counter
from functools import cache
from typing import Any, Final

from models.contract.records import Conversation, LanguageCoverage
from models.text.normalisation import normalised

ENGLISH: Final = "en"
UNKNOWN: Final = "und"  # ISO 639-2 code for an undetermined language
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_ABBREVIATION: Final = re.compile("[b-df-hj-np-tvxz]+")  # 'mg', 'prn': belongs to no language
_NOT_LATIN: Final = re.compile(r"[^\W\d_\u0000-\u024f\u1d00-\u1eff\u2c60-\u2c7f\ua720-\ua7ff]")
_ENGLISH_SHARE: Final = 0.08  # share of common English words from which a text counts as English
_FEWEST_WORDS: Final = 4
_FEWEST_TOGETHER: Final = 8  # words, of turns that are too short to classify one by one
_FEWEST_LETTERS: Final = 16
_SURE: Final = 0.6  # the detector's confidence in the other language
_NOT_ENGLISH: Final = 0.02  # the detector's highest confidence in English for a foreign text
_UNSUPPORTED_SHARE: Final = 0.3  # share of foreign words from which a conversation counts as foreign

_LANGUAGES: Final = (
    "ENGLISH", "WELSH", "IRISH", "POLISH", "ROMANIAN", "PORTUGUESE", "SPANISH", "FRENCH", "GERMAN", "ITALIAN",
    "DUTCH", "LITHUANIAN", "LATVIAN", "CZECH", "SLOVAK", "HUNGARIAN", "BULGARIAN", "RUSSIAN", "UKRAINIAN", "GREEK",
    "TURKISH", "ALBANIAN", "ARABIC", "PERSIAN", "URDU", "PUNJABI", "BENGALI", "GUJARATI", "HINDI", "MARATHI", "TAMIL",
    "TELUGU", "CHINESE", "JAPANESE", "KOREAN", "VIETNAMESE", "TAGALOG", "SOMALI", "SWAHILI", "YORUBA", "SHONA",
)  # fmt: skip

# The most common words of spoken English and of care, without those that are also words of other languages.
_ENGLISH_WORDS: Final = frozenset(_WORD.findall(
    "the and you that thats that's it it's its it'll i'm im i've ive i'll i'd he's shes she's what whats what's with "
    "for from have havent has hasn't been are aren't isn't wasn't were weren't not don't dont didn't didnt doesn't "
    "can't cant won't wont couldn't wouldn't shouldn't this these those there there's theres they they're them their "
    "we're our your youre you're ur u she he him who who's where when why how which would could should just now then "
    "yes yeah yep nope right okay ok well know think thought about out up down off after before again very really "
    "much some any all more good great lovely fine better get got getting go going gone went come coming came said "
    "say says saying tell told asked see saw seen look looking want wanted need needs like love thanks thank please "
    "sorry sure morning afternoon evening tonight yesterday tomorrow tmrw night day week month year nothing something "
    "anything everything someone nobody never still only because cos but my does did done doing one two three four "
    "five six seven eight nine ten back take took taken put give gave make made keep kept let call called ring rang "
    "hello hiya bye too here home bed bath room door time mum dad nan help stop hit hurt hurts fell fall pain tablets "
    "meds dose drink eat ate food tea lunch dinner breakfast money work shift staff people old new little bit left "
    "last first next if than into oh aye nae wee lass lad "
))  # fmt: skip

# Equally common words that are also words of other languages. Each counts as one third.
_SHARED_WORDS: Final = frozenset(
    ("his", "her", "of", "to", "is", "in", "be", "we", "us", "at", "on", "by", "had", "was", "will", "an", "if")
)


def detect_coverage(conversation: Conversation, *, recognised_language: str = ENGLISH) -> LanguageCoverage:
    """The language of a conversation. It is English unless there is strong evidence of another language.

    `recognised_language`: the language of the recording. If it is not English, all turns count as unread.
    """
    if recognised_language != ENGLISH:
        return LanguageCoverage(
            language=recognised_language, language_supported=False, unread_turns=tuple(range(len(conversation.turns)))
        )
    foreign = unsupported_languages(conversation)
    if not foreign:
        return LanguageCoverage()
    weight = Counter[str]()
    for at, turn in enumerate(conversation.turns):
        weight[foreign.get(at, ENGLISH)] += _word_count(turn.text)
    supported = sum(weight.values()) * _UNSUPPORTED_SHARE > sum(weight.values()) - weight[ENGLISH]
    language = ENGLISH if supported else max(sorted(weight.keys() - {ENGLISH}), key=lambda name: weight[name])
    return LanguageCoverage(language=language, language_supported=supported, unread_turns=tuple(sorted(foreign)))


def unsupported_languages(conversation: Conversation) -> dict[int, str]:
    """Turn -> language, for the turns in a language that the models do not know (`und`: language not identified)."""
    texts = [normalised(turn.text) for turn in conversation.turns]
    foreign = {at: found for at, text in enumerate(texts) if (found := foreign_language(text)) is not None}
    unclear = [at for at, text in enumerate(texts) if at not in foreign and _words(text) and not _is_english(text)]
    together = foreign_language(" ".join(texts[at] for at in unclear), fewest_words=_FEWEST_TOGETHER)
    foreign |= dict.fromkeys(unclear, together) if together is not None else {}
    return foreign


def foreign_language(text: str, *, fewest_words: int = _FEWEST_WORDS) -> str | None:
    """The ISO 639-1 code of `text`'s language if it is surely not English, else None (`und`: not identified)."""
    letters = sum(map(str.isalpha, text))
    if letters >= 2 and len(_NOT_LATIN.findall(text)) > letters / 2:
        return _detect(text, sure=0.0) or UNKNOWN
    if len(_words(text)) < fewest_words or letters < _FEWEST_LETTERS or _is_english(text):
        return None
    return _detect(text, sure=_SURE)


def _is_english(text: str) -> bool:
    words = _words(text)
    sure, shared = (sum(word in listed for word in words) for listed in (_ENGLISH_WORDS, _SHARED_WORDS))
    return sure + shared / 3 >= _ENGLISH_SHARE * len(words)


def _words(text: str) -> list[str]:
    found = [word.lower().replace("’", "'") for word in _WORD.findall(text)]
    return [word for word in found if not _ABBREVIATION.fullmatch(word)]


def _word_count(text: str) -> int:
    """Number of words. In text that is not in Latin letters, at least one word for every four letters."""
    return max(len(_words(text)), len(_NOT_LATIN.findall(text)) // 4)


def _detect(text: str, *, sure: float) -> str | None:
    found = _detector().compute_language_confidence_values(text)
    best, english = found[0], next(one.value for one in found if one.language.name == "ENGLISH")
    if best.language.name == "ENGLISH" or best.value <= sure or english > _NOT_ENGLISH:
        return None
    return str(best.language.iso_code_639_1.name).lower()


@cache
def _detector() -> Any:
    """The language detector, loaded at first use. It uses only trigrams: 40 MB of memory instead of 530 MB."""
    from lingua import Language, LanguageDetectorBuilder  # noqa: PLC0415 - a file of 90 MB, seldom needed

    chosen = [getattr(Language, name) for name in _LANGUAGES]
    return LanguageDetectorBuilder.from_languages(*chosen).with_low_accuracy_mode().build()
