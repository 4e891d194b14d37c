"""Combines several recognitions (readings) of the same speech by a vote on each word. Pure functions.

`models/speech/transcription.py` recognises a call several times, with windows cut in different places and at another
speed. The errors of a small recogniser differ between readings; words that the readings share are nearly always right.
Method: Fiscus, "A post-processing system to yield reduced word error rates: ROVER", 1997.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.contract.records import Word

Slot = tuple[Word | None, ...]  # the word of each reading so far at one position

_FIRST_BONUS: Final = 0.1  # added to the confidence of the first reading
_NO_WORD_CONFIDENCE: Final = 0.5  # the vote of a reading that has no word at a position
_PAUSE_SECONDS: Final = 0.6  # at a pause of this length in all readings, a new part begins
_MOST_COMPARED: Final = 300  # words; a longer part is split without a pause, since the alignment is quadratic
_SUBSTITUTED: Final = 1.2  # cost; a word or a slot without a partner costs 1
_FREE_SHIFT_SECONDS: Final = 0.25  # time difference of a word in two readings that costs nothing
_PER_SECOND: Final = 1.5  # cost of a larger time difference, up to _TOO_FAR
_TOO_FAR: Final = 3.0


def vote(readings: Sequence[Sequence[Word]]) -> list[tuple[Word, int]]:
    """Combine readings into one, in order of start: each word with the number of readings that have it.

    The times of a word are those of the first reading that has it. Its confidence is the mean over all readings, with 0
    for readings that have another word or none. If most readings have a word at a position, one word is always kept.
    """
    words = [found for parts in _split_at_shared_pauses(readings) for found in _vote_on_part(parts)]
    return sorted(words, key=lambda found: _by_start(found[0]))


def _split_at_shared_pauses(readings: Sequence[Sequence[Word]]) -> Iterator[list[list[Word]]]:
    """Split the readings where all of them pause."""
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
    """Add one more reading to the slots. A word that fits no slot gets a new slot, with `empty` for the others."""
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
    """The cheapest last step for each pair of positions: 0 slot and word, 1 only a slot, 2 only a word."""
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
