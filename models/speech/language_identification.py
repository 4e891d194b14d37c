"""Which language is spoken where in a recording: told by Whisper window by window, decided over all of them.

A window of speech is called foreign only where the recogniser is sure of it: noise, telephones and short cries make it
guess. What is neither English nor surely another language is `und`, and a person is told.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from models.speech.voice_activity import TimeSpan

DEFAULT_LANGUAGE: Final = "en"  # the language of the homes, and the one that all other readers know
UNDETERMINED: Final = "und"  # ISO 639-2

# What Whisper base writes well enough to be read: others come out as sounds in some alphabet. A larger model reads all.
WHISPER_BASE_LANGUAGES: Final = frozenset({"en", "fr", "es", "de", "it", "pt", "nl", "ca", "pl", "ru"})

_ENGLISH_ENOUGH: Final = 0.4  # of the probability: English calls lie above 0.9, other languages below 0.3
_SURE: Final = 0.5  # of another language, over the whole recording
_ENGLISH_UNLIKELY: Final = 0.15  # more than this beside another language: a voice 60 dB too quiet is 0.5 Japanese
_SURE_OF_WINDOW: Final = 0.8  # of a window in another language than the rest
_LONG_ENOUGH: Final = 3.0  # seconds of speech: a cry alone has no sure language


@dataclass(frozen=True)
class WindowLanguages:
    """A window of speech with the probability of each language in it."""

    start: float
    end: float
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class LanguagePart:
    """A stretch of the recording in one language."""

    start: float
    end: float
    language: str


def split_by_language(windows: Sequence[WindowLanguages], expected: str = DEFAULT_LANGUAGE) -> list[LanguagePart]:
    """The recording cut where the language changes; neighbouring windows of one language are one part."""
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
    """The language that is spoken longest."""
    seconds: dict[str, float] = defaultdict(float)
    for part in found:
        seconds[part.language] += part.end - part.start
    return max(seconds, key=lambda language: seconds[language]) if seconds else expected


def clip_to_part(speech: Sequence[TimeSpan], part: LanguagePart) -> list[TimeSpan]:
    """The stretches of speech inside a part, cut at its ends."""
    cut = [(max(start, part.start), min(end, part.end)) for start, end in speech]
    return [(start, end) for start, end in cut if end > start]


def _decide_language(probabilities: Mapping[str, float], seconds: float, expected: str, sure: float) -> str:
    if seconds < _LONG_ENOUGH or probabilities.get(expected, 0.0) >= _ENGLISH_ENOUGH:
        return expected
    best = max(probabilities, key=lambda language: probabilities[language])
    other = probabilities[best] >= sure and probabilities.get(expected, 0.0) < _ENGLISH_UNLIKELY
    return best if other else UNDETERMINED
