"""Removes words that the recogniser invented over silence or noise, or repeated in a decoding loop.

Whisper invents words for sounds without speech, and sometimes repeats a word until its window is full. A person in
distress repeats words, too. So a repetition is removed only if there was no time to say it, or nobody spoke.
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from faster_whisper.transcribe import Segment

from models.contract.records import Word
from models.speech.voice_activity import TimeSpan

_MAX_COMPRESSION: Final = 2.4  # Whisper's own limit: text with a higher compression ratio repeats itself
_MIN_COMPRESSED: Final = 100  # characters; the compression ratio of shorter texts means nothing
_MIN_LOG_PROBABILITY: Final = -1.2
_UNSURE_LOG_PROBABILITY: Final = (
    -0.5
)  # limit if 'no speech' is also likely; calls: log probability > -0.55, no speech < 0.15
_MAX_NO_SPEECH: Final = 0.5
_MIN_AGREED: Final = 0.4  # mean confidence of neighbours; calls are above 0.55, babble is near 0.3
_MIN_AGREED_OF_MOST: Final = 0.38  # limit if most readings have the word; calls are above 0.45, babble below 0.34
_NEIGHBOURS: Final = 4  # words on either side
_NEIGHBOUR_SECONDS: Final = 4.0
_REPEATS: Final = 4  # the same one to ten words this often in a row may be a decoding loop
_DOUBT: Final = 0.5  # factor on the confidence of the words that remain of a loop
_LONGEST_UNIT: Final = 10  # words
_LETTER_SECONDS: Final = 0.035  # nobody speaks faster: 'help me' takes at least 0.2 s
_DIGIT_SECONDS: Final = 0.12
_WORD_SLACK_SECONDS: Final = 0.3  # word times from attention may be this far outside the detected speech
_EARLY_SECONDS: Final = 0.1  # word times from attention are this much too early (median; the same for all voices)


@dataclass(frozen=True)
class RepeatedRun:
    """Words `start:end` repeat a unit of `size` words."""

    start: int
    end: int
    size: int

    def repeats(self) -> Iterator[slice]:
        """The slice of words of each repeat."""
        return (slice(at, at + self.size) for at in range(self.start, self.end, self.size))


def keep_believed_words(
    window: Sequence[Segment], speech: Sequence[TimeSpan], *, offset: float = 0.0, pace: float = 1.0
) -> list[Word]:
    """The reliable words of one window. Their times are shifted by `offset` seconds, then scaled by `pace`."""
    if is_hallucinated(window):
        return []
    words = [_trim_duration(word) for segment in window for word in segment_words(segment, offset, pace)]
    return drop_repetition_loops([word for word in words if _overlaps_speech(word, speech)], speech)


def is_hallucinated(window: Sequence[Segment]) -> bool:
    """Whether the recogniser was so unsure of the window that it probably invented the text."""
    log_probability = float(np.mean([segment.avg_logprob for segment in window]))
    unsure = log_probability < _UNSURE_LOG_PROBABILITY and window[0].no_speech_prob > _MAX_NO_SPEECH
    return unsure or log_probability < _MIN_LOG_PROBABILITY


def may_be_loop(window: Sequence[Segment]) -> bool:
    """Whether the text compresses so well that it repeats itself: in a decoding loop, or because somebody does."""
    text = " ".join(segment.text for segment in window).encode()
    return len(text) > _MIN_COMPRESSED and len(text) / len(zlib.compress(text)) > _MAX_COMPRESSION


def segment_words(segment: Segment, offset: float = 0.0, pace: float = 1.0) -> list[Word]:
    """The words of the segment. A piece without a space before it ('-call', '.02') is joined to the word before it.

    In scripts without spaces each piece is a word. Digits in a row ('0-7-7') are separate words.
    """
    words: list[Word] = []
    for piece in segment.words or ():
        end = round((max(piece.start + 0.02, piece.end) + offset) * pace + _EARLY_SECONDS, 3)
        if words and not piece.word.startswith(" ") and not _stands_alone(piece.word):
            words[-1] = words[-1].model_copy(update={"word": words[-1].word + piece.word, "end_seconds": end})
        elif re.search(r"\w", piece.word):
            words.append(
                Word(
                    word=piece.word.strip().lstrip("-") or piece.word.strip(),
                    start_seconds=round(max(0.0, piece.start + offset) * pace + _EARLY_SECONDS, 3),
                    end_seconds=end,
                    confidence=min(1.0, max(0.0, float(piece.probability))),
                )
            )
    return words


def _stands_alone(piece: str) -> bool:
    return (
        re.fullmatch(r"-\d\W*", piece) is not None
        or re.match(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u9fff]", piece) is not None
    )


def _trim_duration(word: Word) -> Word:
    """Shorten a word that is much longer than its spoken length; its end stays.

    If Whisper skips a turn, it stretches the next word over that turn. After the cut, the skipped speech has no words,
    so it is recognised again.
    """
    digits = sum(letter.isdigit() for letter in word.word)
    spoken = 0.3 + 0.06 * (len(word.word) - digits) + 0.35 * digits
    if word.end_seconds - word.start_seconds <= max(1.0, 1.5 * spoken):
        return word
    return word.model_copy(update={"start_seconds": round(word.end_seconds - spoken, 3)})


def _overlaps_speech(word: Word, speech: Sequence[TimeSpan]) -> bool:
    return any(
        word.start_seconds < end + _WORD_SLACK_SECONDS and word.end_seconds > start - _WORD_SLACK_SECONDS
        for start, end in speech
    )


# --- repetitions --------------------------------------------------------------------------------------------------


def drop_repetition_loops(words: Sequence[Word], speech: Sequence[TimeSpan]) -> list[Word]:
    """Remove impossible repeats from runs of four or more: too little time to say them, or no speech at their time.

    Repeats that a person really said ('help me') stay. The repeats of a decoding loop overlap, or are after the end of
    the speech. If a run has impossible repeats, the others are uncertain: they keep half their confidence, so that
    another reading must confirm them.
    """
    kept: list[Word] = []
    at = 0
    for run in repetitions(words):
        kept += words[at : run.start]
        repeats = [words[part] for part in run.repeats()]
        said = [
            repeat
            for repeat, room in zip(repeats, _available_seconds(repeats), strict=True)
            if _is_possible_repeat(repeat, room, speech)
        ] or repeats[:1]
        whole = len(said) == len(repeats)
        kept += [word if whole else _reduce_confidence(word) for repeat in said for word in repeat]
        at = run.end
    return kept + list(words[at:])


def _reduce_confidence(word: Word) -> Word:
    return word.model_copy(update={"confidence": word.confidence * _DOUBT})


def repetitions(words: Sequence[Word]) -> Iterator[RepeatedRun]:
    """Each unit of one to ten words that is repeated `_REPEATS` times or more in a row."""
    plain = [re.sub(r"\W", "", word.word).lower() for word in words]
    at = 0
    while at < len(words):
        for size in range(1, min(_LONGEST_UNIT, len(words) - at) + 1):
            repeats = 1
            while plain[at : at + size] == plain[at + repeats * size : at + (repeats + 1) * size]:
                repeats += 1
            if repeats >= _REPEATS:
                yield RepeatedRun(at, at + repeats * size, size)
                at += repeats * size
                break
        else:
            at += 1


def _available_seconds(repeats: Sequence[Sequence[Word]]) -> list[float]:
    """The seconds from the start of each repeat to the start of the next one; for the last one, to its own end."""
    starts = [repeat[0].start_seconds for repeat in repeats]
    return [after - start for start, after in zip(starts, [*starts[1:], repeats[-1][-1].end_seconds], strict=True)]


def _is_possible_repeat(repeat: Sequence[Word], room: float, speech: Sequence[TimeSpan]) -> bool:
    letters = [letter for word in repeat for letter in word.word if letter.isalnum()]
    needed = sum(_DIGIT_SECONDS if letter.isdigit() else _LETTER_SECONDS for letter in letters)
    middle = (repeat[0].start_seconds + repeat[-1].end_seconds) / 2
    return room >= needed and any(start - 0.1 <= middle <= end + 0.1 for start, end in speech)


# --- after the vote -----------------------------------------------------------------------------------------------


def drop_disputed_words(words: Sequence[tuple[Word, int]], *, majority: int) -> list[Word]:
    """Remove words in places where the readings hardly agree: over babble, each reading invents other words.

    `words`: each word with the number of readings that have it. One unsure word alone is never removed. A word is
    removed if the mean confidence of it and its eight neighbours is below `_MIN_AGREED`, or below `_MIN_AGREED_OF_MOST`
    if a `majority` of the readings has the word, because over babble most readings may invent the same word. Removed
    words are reported as not understood, so that a person listens.
    """
    kept: list[Word] = []
    for index, (word, count) in enumerate(words):
        around = [near for near, _ in words[max(0, index - _NEIGHBOURS) : index + _NEIGHBOURS + 1]]
        near = [one.confidence for one in around if abs(one.start_seconds - word.start_seconds) < _NEIGHBOUR_SECONDS]
        if float(np.mean(near)) >= (_MIN_AGREED_OF_MOST if count >= majority else _MIN_AGREED):
            kept.append(word)
    return kept
