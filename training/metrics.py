"""Metrics of the models. Each is a plain function of labels and probabilities.

Used by `training/report` and by `training/train`. Intervals resample whole conversations, because turns of one
conversation are not independent. A resample is a row of weights: how often each turn was drawn. So a metric of all
resamples is one pass over a matrix, and two models are compared on the same draws. Row 0 draws everything once: it
gives the metric itself.
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
    """Area under the precision-recall curve; nan if nothing is positive."""
    return float(average_precision_score(truth, scores)) if truth.any() else float("nan")


def mean_average_precision(truth: Floats, scores: Floats) -> float:
    """The mean over columns that have a positive; both arguments (items, categories)."""
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
    """The share of turns whose ordinal level is right or off by one."""
    return float((np.abs(truth - predicted) <= 1).mean()) if truth.size else float("nan")


def macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    return float(f1_score(truth, predicted, average="macro"))


def binary_f1(truth: Floats, predicted: Floats) -> float:
    return float(f1_score(truth, predicted, zero_division=0.0))


def bootstrap(
    groups: NDArray[Any], figure: Callable[[NDArray[np.int64]], float], seed: int = 0, resamples: int = _RESAMPLES
) -> Interval:
    """`figure` of all rows, with the interval from resampling groups (conversations) with replacement.

    `groups`: the group of each row. `figure` takes row numbers and returns the metric of those rows.
    """
    names, which = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(which == at) for at in range(names.size)]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        rows = np.concatenate([members[at] for at in rng.integers(0, names.size, names.size)])
        values.append(figure(rows))
    found = np.asarray(values)[~np.isnan(values)]
    low, high = (float(edge) for edge in np.percentile(found, [2.5, 97.5])) if found.size else (np.nan, np.nan)
    return Interval(figure(np.arange(which.size)), low, high)


def bootstrap_mean(groups: NDArray[Any], values: NDArray[Any]) -> Interval:
    """The mean of `values`, one per row, with its interval from `bootstrap`."""
    return bootstrap(groups, lambda rows: float(values[rows].mean()))


# --- all resamples at once -------------------------------------------------------------------------------------------


def resampled(groups: NDArray[Any], resamples: int = _RESAMPLES, seed: int = 0) -> Floats:
    """(1 + resamples, rows) float32. Row 0 is all ones; every other row says how often the row's group was drawn.

    `groups`: the conversation of each row. The draws are those of `bootstrap` with the same seed.
    """
    names, which = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = np.ones((1 + resamples, names.size), dtype=np.float32)
    for at in range(resamples):
        counts[at + 1] = np.bincount(rng.integers(0, names.size, names.size), minlength=names.size)
    return counts[:, which]


def interval(values: Floats) -> Interval:
    """`values`: (1 + resamples,), the metric itself first. Resamples in which it is undefined are left out."""
    found = values[1:][~np.isnan(values[1:])]
    low, high = (float(edge) for edge in np.percentile(found, [2.5, 97.5])) if found.size else (np.nan, np.nan)
    return Interval(float(values[0]), low, high)


def average_precisions(truth: Floats, scores: Floats, weights: Floats) -> Floats:
    """As `average_precision` for every row of `weights`, (resamples, items): (resamples,)."""
    order = np.argsort(-scores, kind="stable")
    found, asked, last = _cumulative(truth[order], scores[order], weights[:, order])
    positives = found[:, -1]
    gained = np.diff(found[:, last], axis=1, prepend=0.0)
    precision = found[:, last] / np.maximum(asked[:, last], 1e-9)
    with np.errstate(invalid="ignore", divide="ignore"):
        answer: Floats = (precision * gained).sum(axis=1) / positives
    return answer


def mean_average_precisions(truth: Floats, scores: Floats, weights: Floats) -> Floats:
    """As `mean_average_precision`, for every row of `weights`; truth and scores (items, categories)."""
    columns = [average_precisions(truth[:, at], scores[:, at], weights) for at in range(truth.shape[1])]
    stacked = np.stack(columns)
    known = ~np.isnan(stacked)
    with np.errstate(invalid="ignore"):
        answer: Floats = np.where(known, stacked, 0.0).sum(axis=0) / known.sum(axis=0)
    return answer


def recalls_at_false_alarms(truth: Floats, scores: Floats, weights: Floats, rate: float) -> Floats:
    """As `recall_at_false_alarms`, for every row of `weights`."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    found, asked, _ = _cumulative(truth[order], ranked, weights[:, order])
    negatives = asked - found
    allowed = np.floor(rate * negatives[:, -1])
    at = (negatives > allowed[:, None]).argmax(axis=1)  # the first alarm above the allowed number
    above = np.searchsorted(-ranked, -ranked[at], side="left")  # the number of items with a higher score
    before = np.concatenate([np.zeros((len(found), 1), dtype=found.dtype), found], axis=1)
    hits = before[np.arange(len(found)), above]
    hits = np.where(allowed >= negatives[:, -1], found[:, -1], hits)
    with np.errstate(invalid="ignore", divide="ignore"):
        answer: Floats = hits / found[:, -1]
    return answer


def calibration_errors(truth: Floats, scores: Floats, weights: Floats, bins: int = 15) -> Floats:
    """As `expected_calibration_error`, for every row of `weights`."""
    member = np.eye(bins)[np.minimum((scores * bins).astype(int), bins - 1)]
    gaps: Floats = np.abs(weights @ (member * (truth - scores)[:, None])).sum(axis=1) / weights.sum(axis=1)
    return gaps


def shares(hit: NDArray[Any], among: NDArray[Any], weights: Floats) -> Floats:
    """The share of `among` that is `hit`, both (items,) of truth values, for every row of `weights`."""
    with np.errstate(invalid="ignore", divide="ignore"):
        answer: Floats = (weights @ (hit & among).astype(np.float32)) / (weights @ among.astype(np.float32))
    return answer


def confusions(truth: NDArray[Any], predicted: NDArray[Any], labels: int, weights: Floats) -> Floats:
    """(resamples, labels, labels); rows are true, columns predicted. Negative indices on either side are left out."""
    known = (truth >= 0) & (predicted >= 0)
    cell = np.where(known, truth * labels + predicted, 0)
    member = np.eye(labels * labels, dtype=np.float32)[cell] * known[:, None]
    counted: Floats = (weights @ member).reshape(len(weights), labels, labels)
    return counted


def macro_f1s(confusion: Floats) -> Floats:
    """As `macro_f1`, from `confusions`. Labels neither true nor predicted are left out of the mean."""
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    both = confusion.sum(axis=1) + confusion.sum(axis=2)
    known = both > 0
    each = np.where(known, 2 * hits / np.maximum(both, 1e-9), 0.0)
    with np.errstate(invalid="ignore"):
        answer: Floats = each.sum(axis=1) / known.sum(axis=1)
    return answer


def f1s(truth: NDArray[Any], predicted: NDArray[Any], weights: Floats) -> Floats:
    """As `binary_f1` of truth values, for every row of `weights`."""
    hits = weights @ (truth & predicted).astype(np.float32)
    both = weights @ (truth.astype(np.float32) + predicted.astype(np.float32))
    answer: Floats = 2 * hits / np.maximum(both, 1e-9)
    return answer


def _cumulative(truth: Floats, scores: Floats, weights: Floats) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Positives and items down the ranking, both (resamples, items), and the last position of each distinct score."""
    found = np.cumsum(weights * truth.astype(np.float32), axis=1)
    asked = np.cumsum(weights, axis=1)
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    return found, asked, last
