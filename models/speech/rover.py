"""Several readings of the same speech made one: where they differ, the readings vote. Pure functions.

On the walk: inside `models/speech/transcription.py`, which reads a call with windows cut in different places and at
another speed. A small recogniser's errors differ between such readings; what they share is nearly always right. The
vote is Fiscus's, "A post-processing system to yield reduced word error rates: ROVER", 1997.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.contract.records import Word

Slot = tuple[Word | None, ...]  # of one moment, what each reading so far has there

_FIRST_BONUS: Final = 0.1  # what the first reading has in advance in confidence
_NO_WORD_CONFIDENCE: Final = 0.5  # the confidence of a reading that has no word there in there being none
_PAUSE_SECONDS: Final = 0.6  # where all readings pause this long, the comparison starts afresh
_MOST_COMPARED: Final = 300  # words: from there on no pause is needed, since the comparison is quadratic
_SUBSTITUTED: Final = 1.2  # cost; a word or a slot without a partner costs 1
_FREE_SHIFT_SECONDS: Final = 0.25  # the same word may lie this far apart in two readings
_PER_SECOND: Final = 1.5  # cost of lying further apart, up to _TOO_FAR
_TOO_FAR: Final = 3.0


def vote(readings: Sequence[Sequence[Word]]) -> list[tuple[Word, int]]:
    """One reading out of several, in order of start: each word with the number of readings that have it.

    A word's times are those of the first reading that has it, its confidence is the mean over all readings, 0 for those
    that have another word or none. Where most readings have a word, one stands, however unsure.
    """
    words = [found for parts in _split_at_shared_pauses(readings) for found in _vote_on_part(parts)]
    return sorted(words, key=lambda found: _by_start(found[0]))


def _split_at_shared_pauses(readings: Sequence[Sequence[Word]]) -> Iterator[list[list[Word]]]:
    """The readings cut where all of them pause."""
    together = [(word, number) for number, reading in enumerate(readings) for word in reading]
    parts: list[list[Word]] = [[] for _ in readings]
    until = 0.0
    for word, number in sorted(together, key=lambda item: _by_start(item[0])):
        pause = 0.0 if max(len(part) for part in parts) >= _MOST_COMPARED else _PAUSE_SECONDS
        if word.start_seconds - until >= pause:
            yield parts
            parts = [[] for _ in readings]
        parts[number].append(word)
        until = max(until, word.end_seconds)
    yield parts


def _vote_on_part(parts: Sequence[Sequence[Word]]) -> Iterator[tuple[Word, int]]:
    slots: list[Slot] = [(word,) for word in parts[0]]
    for number, part in enumerate(parts[1:], start=1):
        slots = _align_next(slots, part, (None,) * number)
    for slot in slots:
        votes: dict[str, float] = defaultdict(float)
        for number, word in enumerate(slot):
            if word is not None:
                votes[_plain(word)] += word.confidence + (_FIRST_BONUS if number == 0 else 0.0)
        winner = max(votes, key=lambda text: votes[text])
        heard = len(slot) - slot.count(None)
        if 2 * heard > len(slot) or votes[winner] >= _NO_WORD_CONFIDENCE * slot.count(None):
            having = [word for word in slot if word is not None and _plain(word) == winner]
            confidence = round(sum(word.confidence for word in having) / len(slot), 4)
            yield having[0].model_copy(update={"confidence": confidence}), len(having)


def _align_next(slots: Sequence[Slot], words: Sequence[Word], empty: Slot) -> list[Slot]:
    """The slots with one reading more; a word that fits none gets a slot of its own, `empty` but for it."""
    came_from = _alignment_steps(slots, words)
    joined: list[Slot] = []
    row, column = len(slots), len(words)
    while row or column:
        step = int(came_from[row, column])
        row -= step != 2
        column -= step != 1
        joined.append((*(empty if step == 2 else slots[row]), None if step == 1 else words[column]))
    return joined[::-1]


def _alignment_steps(slots: Sequence[Slot], words: Sequence[Word]) -> NDArray[np.int8]:
    """For each pair of positions the cheapest last step: 0 a slot and a word, 1 a slot alone, 2 a word alone."""
    cost = np.zeros((len(slots) + 1, len(words) + 1))
    cost[:, 0], cost[0] = np.arange(len(slots) + 1), np.arange(len(words) + 1)
    came_from = np.zeros(cost.shape, dtype=np.int8)
    came_from[:, 0], came_from[0] = 1, 2
    plain, middles = [_plain(word) for word in words], [_middle(word) for word in words]
    for row, slot in enumerate(slots, start=1):
        known = [word for word in slot if word is not None]
        texts, middle = {_plain(word) for word in known}, _middle(known[0])
        for column in range(1, len(words) + 1):
            far = max(0.0, abs(middle - middles[column - 1]) - _FREE_SHIFT_SECONDS)
            both = min(_TOO_FAR, far * _PER_SECOND) + (0.0 if plain[column - 1] in texts else _SUBSTITUTED)
            steps = (cost[row - 1, column - 1] + both, cost[row - 1, column] + 1, cost[row, column - 1] + 1)
            came_from[row, column] = steps.index(min(steps))
            cost[row, column] = min(steps)
    return came_from


def _plain(word: Word) -> str:
    return re.sub(r"[^\w']", "", word.word).lower()


def _middle(word: Word) -> float:
    return (word.start_seconds + word.end_seconds) / 2


def _by_start(word: Word) -> tuple[float, float]:
    return word.start_seconds, word.end_seconds
