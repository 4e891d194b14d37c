"""Which participant a voice may be, by what is said: 'it's Karen', 'thanks, Dot'. Pure functions.

On the walk: after `models/speech/attribution.py`, for a call on one track; on several tracks a track's owner is
certain. It proposes and never decides: a person confirms a name, and a voice of which too little is said stays
'Speaker 1'. Voices are matched to names all at once, since two voices are not one person: who says 'thanks, Dot' is
not Dot, and of two people the other one then is.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from models.contract.records import Probability, Record, Turn

NAMING_VERSION: Final = "naming1"

Cue = Literal["introduced", "called", "called_back", "mentioned_before", "mentioned_after", "calls", "mentions"]
# What each cue adds to the log-odds that a voice has a name; fitted by training/evaluate_naming.py on half a corpus.
WEIGHTS: Final[dict[Cue, float]] = {
    "introduced": 3.33,
    "called": 2.54,
    "called_back": 0.4,
    "mentioned_before": 1.37,
    "mentioned_after": 0.27,
    "calls": -2.79,
    "mentions": -1.69,
}
CUES: Final[tuple[Cue, ...]] = tuple(WEIGHTS)
LEAST_PROBABILITY: Final = 0.95  # probability; below it nobody is proposed

_MOST: Final = 3  # times that a cue counts
_TITLES: Final = frozenset({"mr", "mrs", "ms", "miss", "dr", "sister", "nurse", "the", "and"})
_INTRODUCING: Final = {
    ("it's",),
    ("it", "is"),
    ("its",),
    ("this", "is"),
    ("i'm",),
    ("im",),
    ("name's",),
    ("name", "is"),
}
_OPENING: Final = 3  # words at the start of an utterance among which a name calls somebody


class NameProposal(Record):
    """That `speaker` may be the participant at `participant` (index of the names given); a person confirms it.

    `utterances` are those that speak for it; empty where it follows from who the others are.
    """

    speaker: str
    participant: int
    probability: Probability
    utterances: tuple[int, ...]


def propose_names(turns: Sequence[Turn], names: Sequence[str]) -> tuple[NameProposal, ...]:
    """Proposals for the speakers of `turns` (in order of time), each participant of `names` at most once."""
    speakers = sorted({turn.speaker for turn in turns if turn.speaker is not None})
    if not speakers or not names:
        return ()
    counts, where = count_cues(turns, speakers, names)
    probabilities = match_one_to_one(counts @ np.array([WEIGHTS[cue] for cue in CUES]))
    return tuple(
        NameProposal(
            speaker=speakers[row],
            participant=column,
            probability=round(probability, 4),
            utterances=tuple(sorted(where.get((row, column), ()))),
        )
        for row, column, probability in probabilities
        if probability >= LEAST_PROBABILITY
    )


def count_cues(
    turns: Sequence[Turn], speakers: Sequence[str], names: Sequence[str]
) -> tuple[NDArray[np.float64], dict[tuple[int, int], set[int]]]:
    """How often each cue is heard: (speakers, names, cues); and the utterances in favour of each pair."""
    counts = np.zeros((len(speakers), len(names), len(CUES)))
    where: dict[tuple[int, int], set[int]] = {}
    row_of = {speaker: row for row, speaker in enumerate(speakers)}
    parts = _unique_name_parts(names)
    said = [(at, row_of[turn.speaker], _words(turn.text)) for at, turn in enumerate(turns) if turn.speaker is not None]
    before: list[int | None] = [None] + [one[1] for one, _ in pairwise(said)]
    after: list[int | None] = [other[1] for _, other in pairwise(said)] + [None]

    def count(row: int | None, column: int, cue: Cue, at: int) -> None:
        if row is None:
            return
        counts[row, column, CUES.index(cue)] += 1
        if WEIGHTS[cue] > 0:
            where.setdefault((row, column), set()).add(at)

    for (at, row, words), previous, following in zip(said, before, after, strict=True):
        for place, word in enumerate(words):
            column = parts.get(word)
            if column is None:
                continue
            if _introduces(words, place):
                count(row, column, "introduced", at)
                continue
            calls = place < _OPENING or place == len(words) - 1
            count(row, column, "calls" if calls else "mentions", at)
            count(following if following != row else None, column, "called" if calls else "mentioned_before", at)
            count(previous if previous != row else None, column, "called_back" if calls else "mentioned_after", at)
    return np.minimum(counts, _MOST), where


def match_one_to_one(scores: NDArray[np.float64]) -> list[tuple[int, int, float]]:
    """The best one-to-one matching of rows to columns by log-odds, and how sure each pair of it is.

    A pair's log-odds are what the best matching loses without it. A row may stay unmatched at a score of 0, where
    there are more rows than columns.
    """
    rows, columns = linear_sum_assignment(scores, maximize=True)
    best = float(scores[rows, columns].sum())
    found = []
    for row, column in zip(rows, columns, strict=True):
        without = scores.copy()
        without[row, column] = -1e3
        others = linear_sum_assignment(without, maximize=True)
        lost = best - float(np.maximum(without[others], -50.0).sum())
        found.append((int(row), int(column), float(1.0 / (1.0 + np.exp(-lost)))))
    return found


def _unique_name_parts(names: Sequence[str]) -> dict[str, int]:
    """Each part of a name that belongs to one participant alone, and to whom."""
    parts = [{part for part in _words(name) if len(part) > 2 and part not in _TITLES} for name in names]
    shared = Counter(part for one in parts for part in one)
    return {part: at for at, one in enumerate(parts) for part in one if shared[part] == 1}


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", text.lower().replace("’", "'"))


def _introduces(words: Sequence[str], place: int) -> bool:
    spoken = tuple(words[max(0, place - 2) : place])
    return (
        spoken in _INTRODUCING
        or spoken[-1:] in _INTRODUCING
        or words[place + 1 : place + 2] in (["speaking"], ["here"])
    )
