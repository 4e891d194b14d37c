"""Decides which language is spoken in each part of a recording, from Whisper's probabilities for each window.

A window counts as foreign only if the recogniser is sure: with noise, telephone sound and short cries it guesses.
Speech that is neither English nor surely another language is `und`, and is reported to a person.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from models.speech.voice_activity import TimeSpan

DEFAULT_LANGUAGE: Final = "en"  # the language of the homes, and the only one that the text models know
UNDETERMINED: Final = "und"  # ISO 639-2

# Languages that Whisper base writes well enough to read. For others its text is unusable. A larger model writes all.
WHISPER_BASE_LANGUAGES: Final = frozenset({"en", "fr", "es", "de", "it", "pt", "nl", "ca", "pl", "ru"})

_ENGLISH_ENOUGH: Final = 0.4  # probability of English; English calls are above 0.9, other languages below 0.3
_SURE: Final = 0.5  # least probability of another language, over the whole recording
_ENGLISH_UNLIKELY: Final = 0.15  # highest probability of English in a foreign part; very quiet speech looks Japanese
_SURE_OF_WINDOW: Final = 0.8  # least probability for a window in another language than the rest
_LONG_ENOUGH: Final = 3.0  # seconds of speech; the language of a single cry is never certain


@dataclass(frozen=True)
class WindowLanguages:
    """A window of speech with the probability of each language."""

    start: float
    end: float
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class LanguagePart:
    """A part of the recording in one language."""

    start: float
    end: float
    language: str


def split_by_language(windows: Sequence[WindowLanguages], expected: str = DEFAULT_LANGUAGE) -> list[LanguagePart]:
    """Split the recording where the language changes. Consecutive windows of one language become one part."""
    pooled: dict[str, float] = defaultdict(float)
    total = sum(window.end - window.start for window in windows)
    for window in windows:
        for language, probability in window.probabilities.items():
            pooled[language] += probability * (window.end - window.start) / total
    main = _decide_language(pooled, total, expected, _SURE) if windows else expected
    found: list[LanguagePart] = []
    for window in windows:
        own = _decide_language(window.probabilities, window.end - window.start, expected, _SURE_OF_WINDOW)
        language = main if own == UNDETERMINED or window.end - window.start < _LONG_ENOUGH else own
        if found and found[-1].language == language:
            found[-1] = LanguagePart(found[-1].start, window.end, language)
        else:
            found.append(LanguagePart(window.start, window.end, language))
    return found


def main_language(found: Sequence[LanguagePart], expected: str = DEFAULT_LANGUAGE) -> str:
    """The language with the longest total time."""
    seconds: dict[str, float] = defaultdict(float)
    for part in found:
        seconds[part.language] += part.end - part.start
    return max(seconds, key=lambda language: seconds[language]) if seconds else expected


def clip_to_part(speech: Sequence[TimeSpan], part: LanguagePart) -> list[TimeSpan]:
    """The time spans of speech inside a part, cut at its ends."""
    cut = [(max(start, part.start), min(end, part.end)) for start, end in speech]
    return [(start, end) for start, end in cut if end > start]


def _decide_language(probabilities: Mapping[str, float], seconds: float, expected: str, sure: float) -> str:
    if seconds < _LONG_ENOUGH or probabilities.get(expected, 0.0) >= _ENGLISH_ENOUGH:
        return expected
    best = max(probabilities, key=lambda language: probabilities[language])
    other = probabilities[best] >= sure and probabilities.get(expected, 0.0) < _ENGLISH_UNLIKELY
    return best if other else UNDETERMINED
