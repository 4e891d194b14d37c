"""Builds passages for search, and fuses two rankings into one.

It reads no words and calls no model. Full text (`comms`, PostgreSQL) and vectors (`models/text/embedding`) each rank
passages; this module fuses the rankings. It imports no large library, so that every package may use it.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key", bound=Hashable)

RANK_CONSTANT: Final = 60.0  # Cormack, Clarke and Buettcher (2009)


@dataclass(frozen=True)
class Passage:
    """A passage of a transcript: utterances `first` to `last`, both included."""

    first: int
    last: int


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[Key]], weights: Sequence[float] | None = None, constant: float = RANK_CONSTANT
) -> list[tuple[Key, float]]:
    """All keys of `rankings`, best first, with their score: the sum of `weight / (constant + rank)` over the rankings.

    `rankings`: each best first; ranks count from 1. If a key is twice in one ranking, the first counts. Keys with equal
    scores keep the order of their first occurrence. Raises ValueError if the number of weights is not that of rankings.
    """
    scores: dict[Key, float] = defaultdict(float)
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for rank, key in enumerate(dict.fromkeys(ranking), start=1):
            scores[key] += weight / (constant + rank)
    return sorted(scores.items(), key=lambda scored: -scored[1])


def split_passages(lengths: Sequence[int], most_words: int, overlap: float = 0.5) -> list[Passage]:
    """Overlapping windows of consecutive utterances. `lengths`: number of words of each utterance.

    A window holds as many whole utterances as fit in `most_words` words, and at least one. The next window begins after
    the first `1 - overlap` of its words. Every utterance is in a window; no window is part of the window before it.
    """
    found: list[Passage] = []
    first = 0
    while first < len(lengths):
        last, size = first, lengths[first]
        while last + 1 < len(lengths) and size + lengths[last + 1] <= most_words:
            last += 1
            size += lengths[last]
        if not found or last > found[-1].last:
            found.append(Passage(first, last))
        step = 0
        begin = first
        while first <= last and (first == begin or step + lengths[first] <= size * (1 - overlap)):
            step += lengths[first]
            first += 1
    return found


def pool_passages(
    vectors: NDArray[np.float32], lengths: Sequence[int], windows: Sequence[Passage]
) -> NDArray[np.float32]:
    """Unit vectors (windows, dimensions): the mean of each window's utterance vectors, weighted by number of words.

    `vectors`: (utterances, dimensions). So passages need no encoder pass if their utterances have vectors.
    """
    weight = np.maximum(np.asarray(lengths, dtype=np.float32), 1.0)
    rows = np.zeros((len(windows), vectors.shape[1]), dtype=np.float32)
    for at, window in enumerate(windows):
        inside = slice(window.first, window.last + 1)
        rows[at] = weight[inside] @ vectors[inside]
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    answer: NDArray[np.float32] = rows / np.maximum(norms, 1e-9)
    return answer
