"""From logits to probabilities that mean what they say, and from probabilities to thresholds.

Fitted on held-out answers only (cross-fitting): the logits of each fold come from models that never saw it. For
reporting, a fold's calibration is fitted on the other folds; what ships is fitted on all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression

from models.records import CATEGORIES
from models.safeguarding import calibrated
from training.dataset import Labelled

Arrays = dict[str, NDArray[Any]]
_STRENGTH: Final = 1.0
_LEAST_THRESHOLD: Final = 0.05


@dataclass(frozen=True)
class Answers:
    """Held-out logits of every turn, its labels, and which conversation and fold it belongs to; rows align."""

    concern: NDArray[np.float32]
    counted: NDArray[np.float32]
    severity: NDArray[np.float32]
    sentiment: NDArray[np.float32]
    commitment: NDArray[np.float32]
    conversation: NDArray[np.int64]
    fold: NDArray[np.int64]
    true_concern: NDArray[np.float32]
    true_severity: NDArray[np.int64]
    true_sentiment: NDArray[np.int64]
    true_commits: NDArray[np.float32]

    def rows(self, chosen: NDArray[Any]) -> "Answers":
        return Answers(**{name: value[chosen] for name, value in self.__dict__.items()})


@dataclass(frozen=True)
class Calibration:
    """The fitted layers, in the shapes that the models read: (16, 4), (3, 4), (2,)."""

    concern: NDArray[np.float32]
    sentiment: NDArray[np.float32]
    commitment: NDArray[np.float32]


def fit_calibration(answers: Answers) -> Calibration:
    """Logistic layers over the encoder's logit, the n-grams' logit and, for a category, the logit of any concern.

    The categories share their slopes, each with an intercept of its own: most have some tens of positives, too few
    for slopes that can be trusted. `any` has slopes of its own.
    """
    concern = np.zeros((len(CATEGORIES) + 1, 4), dtype=np.float32)
    concern[:-1] = _shared_slopes(answers)
    layer = LogisticRegression(C=_STRENGTH).fit(concern_inputs(answers, len(CATEGORIES)), answers.true_concern[:, -1])
    concern[-1] = (*layer.coef_[0], layer.intercept_[0])
    sentiment = LogisticRegression(C=_STRENGTH).fit(answers.sentiment, answers.true_sentiment)
    commitment = LogisticRegression(C=_STRENGTH).fit(answers.commitment, answers.true_commits)
    return Calibration(
        concern,
        np.column_stack([sentiment.coef_, sentiment.intercept_]).astype(np.float32),
        np.asarray([commitment.coef_[0, 0], commitment.intercept_[0]], dtype=np.float32),
    )


def _shared_slopes(answers: Answers) -> NDArray[np.float32]:
    """(15, 4): one logistic layer over all turns and categories, with a shrunken intercept for each category."""
    count = len(CATEGORIES)
    inputs = np.concatenate([concern_inputs(answers, column) for column in range(count)])
    which = np.repeat(np.eye(count, dtype=np.float32), len(answers.concern), axis=0)
    labels = answers.true_concern[:, :count].T.ravel()
    layer = LogisticRegression(C=_STRENGTH, max_iter=1000).fit(np.hstack([inputs, which]), labels)
    slopes, own = layer.coef_[0, :3], layer.coef_[0, 3:]
    return np.column_stack([np.tile(slopes, (count, 1)), own + layer.intercept_[0]]).astype(np.float32)


def concern_inputs(answers: Answers, column: int) -> NDArray[np.float32]:
    """(turns, 3) for one output; for `any` itself the third is left at zero, since it repeats the first."""
    beside = answers.concern[:, -1] if column < len(CATEGORIES) else np.zeros(len(answers.concern), np.float32)
    return np.column_stack([answers.concern[:, column], answers.counted[:, column], beside])


def cross_calibrated(answers: Answers) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities of concerns (n, 16), sentiments (n, 3), commitment (n,): each fold by the others' calibration."""
    concern = np.zeros_like(answers.concern)
    sentiment = np.zeros_like(answers.sentiment)
    commitment = np.zeros(len(answers.commitment), dtype=np.float32)
    for fold in np.unique(answers.fold):
        fitted = fit_calibration(answers.rows(answers.fold != fold))
        asked = answers.fold == fold
        concern[asked], sentiment[asked], commitment[asked] = apply(fitted, answers.rows(asked))
    return concern, sentiment, commitment


def apply(
    fitted: Calibration, answers: Answers
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The three models' probabilities for `answers`, by the same functions that serve."""
    from models.sentiment import calibrated_softmax  # noqa: PLC0415 - keeps this module's head to what it is about

    chance = answers.commitment[:, 0] * fitted.commitment[0] + fitted.commitment[1]
    return (
        calibrated(answers.concern, answers.counted, fitted.concern),
        calibrated_softmax(answers.sentiment, fitted.sentiment),
        1.0 / (1.0 + np.exp(-chance)),
    )


def best_f1_threshold(truth: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """The probability from which F1 is highest; never below 0.05, and 0.5 where nothing is positive."""
    if not truth.any():
        return 0.5
    order = np.argsort(-probabilities)
    found = np.cumsum(truth[order])
    f1 = 2 * found / (np.arange(1, len(order) + 1) + truth.sum())
    return max(_LEAST_THRESHOLD, float(probabilities[order][int(f1.argmax())]))


def category_thresholds(answers: Answers, probabilities: NDArray[np.float32], false_alarms: float) -> dict[str, float]:
    """A threshold a category, so that at most `false_alarms` of the ordinary turns get any concern at all.

    From each category's best F1, all log-odds are lowered (or raised) together until that share is reached: more is
    found where the F1-best threshold was needlessly strict. A category's threshold never rises above 0.5.
    """
    own = np.asarray([best_f1_threshold(answers.true_concern[:, at], probabilities[:, at]) for at in range(15)])
    start = np.minimum(own, 0.5)
    base = np.log(start / (1.0 - start))
    odds = np.log(np.clip(probabilities[:, :15], 1e-9, 1 - 1e-9) / np.clip(1 - probabilities[:, :15], 1e-9, 1))
    ordinary = answers.true_concern[:, -1] == 0
    excess = np.sort((odds - base)[ordinary].max(axis=1))[::-1]
    shift = float(excess[int(false_alarms * excess.size)]) + 1e-4
    chosen = np.clip(1.0 / (1.0 + np.exp(-(base + shift))), 0.02, 0.9)
    return {name: round(float(value), 4) for name, value in zip(CATEGORIES, chosen, strict=True)}


def expected_level(severity: NDArray[np.float32]) -> NDArray[np.int64]:
    """Severity index of each turn from its three step logits, as the safeguarding model reads them."""
    levels: NDArray[np.int64] = (severity > 0.0).sum(axis=1).astype(np.int64)
    return levels


def save_answers(file: Path, answers: Answers, digest: str) -> None:
    """Keep held-out answers beside the training code, so that a report needs no training; logits as float16."""
    logits = ("concern", "counted", "severity", "sentiment", "commitment")
    arrays = {name: getattr(answers, name).astype(np.float16) for name in logits}
    arrays |= {"conversation": answers.conversation.astype(np.int32), "fold": answers.fold.astype(np.int8)}
    save_file(arrays, file, metadata={"dataset_sha256": digest})


def load_answers(file: Path, dataset: Sequence[Labelled], digest: str) -> Answers:
    """What `save_answers` kept, with the labels of `dataset`; raises ValueError where it was of other data."""
    with safe_open(file, framework="np") as opened:
        if opened.metadata()["dataset_sha256"] != digest:
            raise ValueError("these held-out answers are of another data set: run `python -m training.train`")
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    parts = []
    for fold in np.unique(arrays["fold"]):
        rows = arrays["fold"] == fold
        held_out, local = np.unique(arrays["conversation"][rows], return_inverse=True)
        found = {name: value[rows].astype(np.float32) for name, value in arrays.items()}
        parts.append((int(fold), [int(at) for at in held_out], found | {"conversation": local}))
    return gather(parts, dataset)


def gather(parts: Sequence[tuple[int, Sequence[int], Arrays]], dataset: Sequence[Labelled]) -> Answers:
    """All folds' answers as one table. `parts`: fold, positions held out, answers as a part left them."""
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in Answers.__dataclass_fields__}
    for fold, held_out, arrays in parts:
        items = [dataset[at] for at in held_out]
        for name in ("concern", "counted", "severity", "sentiment", "commitment"):
            columns[name].append(arrays[name])
        columns["conversation"].append(np.asarray(held_out)[arrays["conversation"]])
        columns["fold"].append(np.full(len(arrays["concern"]), fold))
        columns["true_concern"].append(np.concatenate([item.concerns for item in items]))
        columns["true_severity"].append(np.concatenate([item.severity for item in items]))
        columns["true_sentiment"].append(np.concatenate([item.sentiment for item in items]))
        columns["true_commits"].append(np.concatenate([item.commits for item in items]))
    return Answers(**{name: np.concatenate(found) for name, found in columns.items()})
