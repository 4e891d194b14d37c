"""Fits the risk steps on held-out answers, and evaluates the levels on conversations not fitted on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from models.contract.records import RISK_LEVELS, SENTIMENT_LABELS, Sentiment, TurnAssessment
from models.text.risk import any_concern_probability, least_level, level_of, risk_features, step_probabilities
from models.text.safeguarding import to_assessment
from training.calibration import HeldOutAnswers, cross_calibrated_probabilities, severity_levels
from training.dataset import LabelledConversation
from training.metrics import average_precision, bootstrap

_STRENGTH = 0.3


@dataclass(frozen=True)
class HeldOutRisk:
    """Levels of conversations, each by steps fitted on others; all (conversations,) but `features`.

    `owner`: its position in the data set, ascending. `truth`, `predicted` and `without_minimum` index RISK_LEVELS.
    `any_concern_probability`: (conversations,), the model's probability of any concern.
    """

    owner: NDArray[np.int64]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    without_minimum: NDArray[np.int64]
    any_concern_probability: NDArray[np.float64]
    features: NDArray[np.float32]


def held_out_risk(
    answers: HeldOutAnswers, dataset: Sequence[LabelledConversation], thresholds: Mapping[str, float]
) -> HeldOutRisk:
    """The risk model's levels for conversations on which neither it nor the models before it were trained."""
    owners, assessed, sentiments = held_out_turns(answers, thresholds)
    features = np.stack([risk_features(a, s) for a, s in zip(assessed, sentiments, strict=True)])
    truth = np.asarray([RISK_LEVELS.index(dataset[at].risk) for at in owners])
    fold = np.asarray([int(answers.fold[answers.conversation == at][0]) for at in owners])
    chances = np.zeros((len(owners), len(RISK_LEVELS) - 1), dtype=np.float32)
    for held_out in np.unique(fold):
        steps = _fit_steps(features[fold != held_out], truth[fold != held_out])
        chances[fold == held_out] = step_probabilities(features[fold == held_out], steps)
    trained = np.asarray([level_of(row) for row in chances])
    floored = np.asarray([max(level, least_level(rows)) for level, rows in zip(trained, assessed, strict=True)])
    likely = np.asarray([any_concern_probability(row, rows) for row, rows in zip(chances, assessed, strict=True)])
    return HeldOutRisk(np.asarray(owners), truth, floored, trained, likely, features)


def fit_risk(
    answers: HeldOutAnswers, dataset: Sequence[LabelledConversation], thresholds: Mapping[str, float]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Returns the arrays to ship, and cross-fitted figures: level exact, within one step, and AP of any concern."""
    found = held_out_risk(answers, dataset, thresholds)
    truth, predicted, trained = found.truth, found.predicted, found.without_minimum
    figures = {
        "level_exact": bootstrap(found.owner, lambda rows: float((predicted[rows] == truth[rows]).mean())).__dict__,
        "level_within_one": bootstrap(
            found.owner, lambda rows: float((np.abs(predicted[rows] - truth[rows]) <= 1).mean())
        ).__dict__,
        "level_within_one_without_floor": float((np.abs(trained - truth) <= 1).mean()),
        "level_exact_without_floor": float((trained == truth).mean()),
        "any_concern_average_precision": average_precision((truth > 0).astype(float), found.any_concern_probability),
        "rows_true_columns_predicted": [
            [int(((truth == a) & (predicted == b)).sum()) for b in range(len(RISK_LEVELS))]
            for a in range(len(RISK_LEVELS))
        ],
    }
    return {"steps": _fit_steps(found.features, truth)}, figures


def held_out_turns(
    answers: HeldOutAnswers, thresholds: Mapping[str, float]
) -> tuple[list[int], list[list[TurnAssessment]], list[list[Sentiment]]]:
    """For each conversation the predictions for its turns, by models not trained on them."""
    concern, sentiment, _ = cross_calibrated_probabilities(answers)
    levels = severity_levels(answers.severity)
    owners = sorted({int(at) for at in answers.conversation})
    assessed, felt = [], []
    for owner in owners:
        rows = np.flatnonzero(answers.conversation == owner)
        assessed.append([to_assessment(concern[row], int(levels[row]), thresholds) for row in rows])
        felt.append([_sentiment(sentiment[row]) for row in rows])
    return owners, assessed, felt


def _sentiment(row: NDArray[np.float32]) -> Sentiment:
    probabilities = {name: float(value) for name, value in zip(SENTIMENT_LABELS, row, strict=True)}
    return Sentiment(label=SENTIMENT_LABELS[int(row.argmax())], probabilities=probabilities)


def _fit_steps(features: NDArray[np.float32], truth: NDArray[np.int64]) -> NDArray[np.float32]:
    """(4, features + 1). A step without examples of both sides in the data always goes to the side that occurs."""
    steps = np.zeros((len(RISK_LEVELS) - 1, features.shape[1] + 1), dtype=np.float32)
    for step in range(len(steps)):
        above = truth > step
        if above.all() or not above.any():
            steps[step, -1] = 8.0 if above.all() else -8.0
            continue
        layer = LogisticRegression(C=_STRENGTH, max_iter=1000).fit(features, above)
        steps[step] = (*layer.coef_[0], layer.intercept_[0])
    return steps
