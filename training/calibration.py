"""Fits calibration (logits to probabilities) and thresholds (probabilities to decisions).

Both are fitted only on held-out answers: the logits of a conversation come from models that were not trained on it. For
the report, the held-out conversations are split into folds, and each fold is calibrated by the others. What ships is
fitted on all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from models.contract.records import CATEGORIES, SENTIMENT_LABELS
from models.text.safeguarding import Blend, blend_probabilities
from training.dataset import LabelledConversation

Arrays = dict[str, NDArray[Any]]
_STRENGTH: Final = 1.0
_LEAST_THRESHOLD: Final = 0.05
_FOLDS: Final = 4
# Three quarters of the turns in care conversations are neutral. Without weights, a weak sentiment is always neutral.
_SENTIMENT_WEIGHTS: Final = {
    SENTIMENT_LABELS.index("negative"): 2.0, SENTIMENT_LABELS.index("neutral"): 1.0,
    SENTIMENT_LABELS.index("positive"): 2.0,
}  # fmt: skip


@dataclass(frozen=True)
class HeldOutAnswers:
    """Held-out logits of every turn, and its labels; rows align.

    `conversation`: its position in the data set. `fold`: which of the four calibration folds it belongs to.
    """

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

    def rows(self, chosen: NDArray[Any]) -> "HeldOutAnswers":
        return HeldOutAnswers(**{name: value[chosen] for name, value in self.__dict__.items()})


@dataclass(frozen=True)
class Calibration:
    """The fitted layers, in the shapes that the models read. `sentiment`: (3, 4), `commitment`: (2,)."""

    concern: Blend
    sentiment: NDArray[np.float32]
    commitment: NDArray[np.float32]


def fit_calibration(answers: HeldOutAnswers) -> Calibration:
    """Fits logistic layers over the logits: any concern, its category, sentiment, commitment."""
    voiced = answers.true_concern[:, -1]
    inputs = np.column_stack([answers.concern[:, -1], answers.counted[:, -1]])
    any_layer = LogisticRegression(C=_STRENGTH).fit(inputs, voiced)
    slopes, intercepts = _fit_categories(answers.rows(voiced == 1))
    sentiment = LogisticRegression(C=_STRENGTH, class_weight=_SENTIMENT_WEIGHTS).fit(
        answers.sentiment, answers.true_sentiment
    )
    commitment = LogisticRegression(C=_STRENGTH).fit(answers.commitment, answers.true_commits)
    return Calibration(
        Blend(np.asarray([*any_layer.coef_[0], any_layer.intercept_[0]], dtype=np.float32), slopes, intercepts),
        np.column_stack([sentiment.coef_, sentiment.intercept_]).astype(np.float32),
        np.asarray([commitment.coef_[0, 0], commitment.intercept_[0]], dtype=np.float32),
    )


def _fit_categories(voiced: HeldOutAnswers) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Slopes (2,) and intercepts (15,) of the multinomial layer over turns that voice a concern.

    The categories share their slopes and shrink their intercepts: most have only some tens of positives, too few for
    separate slopes. A turn with two categories counts as half of each.
    """
    read, counted = voiced.concern[:, :-1].astype(float), voiced.counted[:, :-1].astype(float)
    labels = voiced.true_concern[:, :-1]
    shares = labels / labels.sum(axis=1, keepdims=True)

    def loss(weights: NDArray[np.float64]) -> float:
        chances = log_softmax(weights[0] * read + weights[1] * counted + weights[2:], axis=1)
        return float(-(chances * shares).sum() + 0.1 * (weights[:2] ** 2).sum() + 0.5 * (weights[2:] ** 2).sum())

    start = np.concatenate([[1.0, 0.5], np.zeros(len(CATEGORIES))])
    found = minimize(loss, start, method="L-BFGS-B").x.astype(np.float32)
    return found[:2], found[2:]


def cross_calibrated_probabilities(
    answers: HeldOutAnswers,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities of concerns (n, 16), sentiments (n, 3), commitment (n,); each fold calibrated by the others."""
    concern = np.zeros_like(answers.concern)
    sentiment = np.zeros_like(answers.sentiment)
    commitment = np.zeros(len(answers.commitment), dtype=np.float32)
    for fold in np.unique(answers.fold):
        fitted = fit_calibration(answers.rows(answers.fold != fold))
        asked = answers.fold == fold
        concern[asked], sentiment[asked], commitment[asked] = apply_calibration(fitted, answers.rows(asked))
    return concern, sentiment, commitment


def apply_calibration(
    fitted: Calibration, answers: HeldOutAnswers
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The three models' probabilities for `answers`, by the functions that serving uses."""
    from models.text.sentiment import calibrated_softmax  # noqa: PLC0415 - only this function needs it

    chance = answers.commitment[:, 0] * fitted.commitment[0] + fitted.commitment[1]
    return (
        blend_probabilities(answers.concern, answers.counted, fitted.concern),
        calibrated_softmax(answers.sentiment, fitted.sentiment),
        1.0 / (1.0 + np.exp(-chance)),
    )


def best_f1_threshold(truth: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """The threshold with the highest F1; at least 0.05, and 0.5 if nothing is positive."""
    if not truth.any():
        return 0.5
    order = np.argsort(-probabilities)
    found = np.cumsum(truth[order])
    f1 = 2 * found / (np.arange(1, len(order) + 1) + truth.sum())
    return max(_LEAST_THRESHOLD, float(probabilities[order][int(f1.argmax())]))


def category_thresholds(
    answers: HeldOutAnswers, probabilities: NDArray[np.float32], false_alarms: float
) -> dict[str, float]:
    """The threshold, equal for all categories, at which `false_alarms` of the ordinary turns get any concern.

    Separate thresholds were tried: with some tens of positives per category they depended on chance.
    """
    ordinary = answers.true_concern[:, -1] == 0
    highest = np.sort(probabilities[ordinary, : len(CATEGORIES)].max(axis=1))[::-1]
    threshold = float(highest[int(false_alarms * highest.size)]) + 1e-4
    return dict.fromkeys(CATEGORIES, round(min(max(threshold, _LEAST_THRESHOLD), 0.9), 4))


def severity_levels(severity: NDArray[np.float32]) -> NDArray[np.int64]:
    """Severity index of each turn from its three step logits, computed as in the safeguarding model."""
    levels: NDArray[np.int64] = (severity > 0.0).sum(axis=1).astype(np.int64)
    return levels


def raise_for_real_talk(
    thresholds: dict[str, float], answers: HeldOutAnswers, talk: Arrays, false_alarms: float
) -> dict[str, float]:
    """Raises all thresholds together if more than `false_alarms` of the turns of real conversations would be flagged.

    `talk`: answers for real conversations that were not trained on, calibrated with all held-out `answers`. Only turns
    marked `harmless` count: they have no word of real harm.
    """
    fitted = fit_calibration(answers)
    chances = blend_probabilities(talk["concern"], talk["counted"], fitted.concern)[:, : len(CATEGORIES)]
    highest = np.sort(chances.max(axis=1)[talk["harmless"]])[::-1]
    allowed = int(false_alarms * len(highest))
    least = float(highest[allowed]) + 1e-4
    return {name: round(max(threshold, least), 4) for name, threshold in thresholds.items()}


def save_answers(file: Path, answers: HeldOutAnswers, digest: str) -> None:
    """Stores held-out answers beside the training code, so that a report needs no training. Logits as float16."""
    logits = ("concern", "counted", "severity", "sentiment", "commitment")
    order = np.argsort(answers.conversation, kind="stable")  # the order in which `load_answers` finds their labels
    arrays = {name: getattr(answers, name)[order].astype(np.float16) for name in logits}
    arrays["conversation"] = answers.conversation[order].astype(np.int32)
    save_file(arrays, file, metadata={"dataset_sha256": digest})


def load_answers(file: Path, dataset: Sequence[LabelledConversation], digest: str) -> HeldOutAnswers:
    """Reads what `save_answers` stored and adds the labels of `dataset`. Raises ValueError if the data set differs."""
    with safe_open(file, framework="np") as opened:
        if opened.metadata()["dataset_sha256"] != digest:
            raise ValueError("these held-out answers are of another data set: run `python -m training.train`")
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - opened is not a mapping
    held_out, local = np.unique(arrays["conversation"], return_inverse=True)
    found = {name: value.astype(np.float32) for name, value in arrays.items()} | {"conversation": local}
    return join_answers([([int(at) for at in held_out], found)], dataset)


def join_answers(
    parts: Sequence[tuple[Sequence[int], Arrays]], dataset: Sequence[LabelledConversation]
) -> HeldOutAnswers:
    """All parts' answers as one table. `parts`: the held-out positions, and the answers of each part."""
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in HeldOutAnswers.__dataclass_fields__}
    for held_out, arrays in parts:
        items = [dataset[at] for at in held_out]
        for name in ("concern", "counted", "severity", "sentiment", "commitment"):
            columns[name].append(arrays[name])
        columns["conversation"].append(np.asarray(held_out)[arrays["conversation"]])
        columns["fold"].append(columns["conversation"][-1] % _FOLDS)
        columns["true_concern"].append(np.concatenate([item.concerns for item in items]))
        columns["true_severity"].append(np.concatenate([item.severity for item in items]))
        columns["true_sentiment"].append(np.concatenate([item.sentiment for item in items]))
        columns["true_commits"].append(np.concatenate([item.commits for item in items]))
    return HeldOutAnswers(**{name: np.concatenate(found) for name, found in columns.items()})
