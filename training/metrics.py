"""The figures that decide whether a model is good enough; each is a plain function of labels and probabilities.

Used by `training/evaluate_text` and, for thresholds, by `training/train`. Intervals resample whole conversations,
since turns of one conversation are not independent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score

Floats = NDArray[np.floating[Any]]
_RESAMPLES: Final = 1000


@dataclass(frozen=True)
class Interval:
    """A figure with the 2.5th and 97.5th percentile of its bootstrap."""

    value: float
    low: float
    high: float


def average_precision(truth: Floats, scores: Floats) -> float:
    """Area under the precision-recall curve; nan where nothing is positive."""
    return float(average_precision_score(truth, scores)) if truth.any() else float("nan")


def mean_average_precision(truth: Floats, scores: Floats) -> float:
    """The mean over columns that have a positive; both (items, categories)."""
    columns = [average_precision(truth[:, at], scores[:, at]) for at in range(truth.shape[1]) if truth[:, at].any()]
    return float(np.mean(columns)) if columns else float("nan")


def recall_at_false_alarms(truth: Floats, scores: Floats, rate: float) -> float:
    """The share of positives found when at most `rate` of the negatives score as high; ties count as alarms."""
    positives, negatives = scores[truth == 1], np.sort(scores[truth == 0])[::-1]
    if not positives.size:
        return float("nan")
    allowed = int(rate * negatives.size)
    if allowed >= negatives.size:
        return 1.0
    return float((positives > negatives[allowed]).mean())


def expected_calibration_error(truth: Floats, scores: Floats, bins: int = 15) -> float:
    """Mean distance between probability and outcome over `bins` equal-width bins, weighted by their size."""
    which = np.minimum((scores * bins).astype(int), bins - 1)
    gaps = [
        (which == at).mean() * abs(truth[which == at].mean() - scores[which == at].mean())
        for at in range(bins)
        if (which == at).any()
    ]
    return float(sum(gaps))


def severity_within_one(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """The share of turns whose ordinal level is right or one off."""
    return float((np.abs(truth - predicted) <= 1).mean()) if truth.size else float("nan")


def macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    return float(f1_score(truth, predicted, average="macro"))


def binary_f1(truth: Floats, predicted: Floats) -> float:
    return float(f1_score(truth, predicted, zero_division=0.0))


def bootstrap(
    groups: NDArray[Any], figure: Callable[[NDArray[np.int64]], float], seed: int = 0, resamples: int = _RESAMPLES
) -> Interval:
    """`figure` of all rows, with the interval from resampling groups (conversations) with replacement.

    `groups`: the group of each row. `figure` gets row numbers and gives the figure of those rows.
    """
    names, which = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(which == at) for at in range(names.size)]
    draw = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        rows = np.concatenate([members[at] for at in draw.integers(0, names.size, names.size)])
        values.append(figure(rows))
    found = np.asarray(values)[~np.isnan(values)]
    low, high = (float(edge) for edge in np.percentile(found, [2.5, 97.5])) if found.size else (np.nan, np.nan)
    return Interval(figure(np.arange(which.size)), low, high)
