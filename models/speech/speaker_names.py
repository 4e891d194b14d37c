"""Proposes which participant a voice is, from the spoken words: 'it's Karen', 'thanks, Dot'. Pure functions.

It runs after `models/speech/attribution.py`, for calls on one track; with several tracks the owner of each track is
known. It only proposes: a person confirms a name. A voice with too little evidence stays 'Speaker 1'. All voices are
matched to names together, because two voices cannot be one person: a person who says 'thanks, Dot' is not Dot, so with
two people the other one is Dot.
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
# What each cue adds to the log-odds that a voice has a name. Fitted on half a corpus by training/evaluate_naming.py.
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
LEAST_PROBABILITY: Final = 0.95  # below this probability no name is proposed

_MOST: Final = 3  # maximum count of a cue
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
_OPENING: Final = 3  # words; a name this near to the start of an utterance addresses somebody


class NameProposal(Record):
    """Proposes that `speaker` is the participant with index `participant` in the list of names. A person confirms it.

    `utterances`: those that support the proposal; empty if it follows only from the other proposals.
    """

    speaker: str
    participant: int
    probability: Probability
    utterances: tuple[int, ...]


def propose_names(turns: Sequence[Turn], names: Sequence[str]) -> tuple[NameProposal, ...]:
    """Proposals for the speakers of `turns` (in order of time); each participant of `names` at most once."""
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
    """The count of each cue (speakers, names, cues), and the utterances that support each (speaker, name) pair."""
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
    """The best one-to-one matching of rows to columns by log-odds, with the probability of each pair.

    The log-odds of a pair are the difference between the best matching and the best matching without that pair. If
    there are more rows than columns, a row may stay unmatched, with a score of 0.
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
    """Part of a name -> participant, for the parts that only one participant has."""
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
