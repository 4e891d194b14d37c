"""Figures of the text models on held-out conversations. `training/train` ships them and the report prints them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract.records import CATEGORIES, SEVERITIES
from training.calibration import HeldOutAnswers, cross_calibrated_probabilities, severity_levels
from training.dataset import LabelledConversation
from training.metrics import (
    average_precision,
    binary_f1,
    bootstrap,
    expected_calibration_error,
    macro_f1,
    mean_average_precision,
    recall_at_false_alarms,
    severity_within_one,
)

Figures = dict[str, Any]


def text_figures(
    answers: HeldOutAnswers,
    dataset: Sequence[LabelledConversation],
    thresholds: Mapping[str, float],
    commitment_threshold: float,
) -> Figures:
    """Figures with intervals for safeguarding, sentiment and actions; no turn's models were trained on it."""
    concern, sentiment, commitment = cross_calibrated_probabilities(answers)
    predicted = sentiment.argmax(axis=1)
    groups = answers.conversation
    return {
        "safeguarding": safeguarding_figures(answers, concern, thresholds, dataset),
        "sentiment": {
            "macro_f1": bootstrap(
                groups, lambda rows: macro_f1(answers.true_sentiment[rows], predicted[rows])
            ).__dict__,
            "accuracy": float((predicted == answers.true_sentiment).mean()),
        },
        "actions": {
            "turn_f1": bootstrap(
                groups,
                lambda rows: binary_f1(
                    answers.true_commits[rows], (commitment[rows] >= commitment_threshold).astype(float)
                ),
            ).__dict__,
            "average_precision": average_precision(answers.true_commits, commitment),
        },
    }


def safeguarding_figures(
    answers: HeldOutAnswers,
    concern: NDArray[np.float32],
    thresholds: Mapping[str, float],
    dataset: Sequence[LabelledConversation],
) -> Figures:
    """The figures that have goals: AP, recall at fixed false alarms, calibration, severity, shipped thresholds."""
    truth, any_truth, any_concern_probability = answers.true_concern, answers.true_concern[:, -1], concern[:, -1]
    groups = answers.conversation
    has_concern = answers.true_severity >= 0
    levels = severity_levels(answers.severity)
    above = concern[:, : len(CATEGORIES)] >= np.asarray([thresholds[name] for name in CATEGORIES])
    flagged = np.asarray(above.any(axis=1))
    critical = answers.true_severity == len(SEVERITIES) - 1
    hard = np.asarray([dataset[at].hard_negative for at in groups])
    return {
        "turns": len(truth),
        "conversations": int(np.unique(groups).size),
        "average_precision_any": bootstrap(
            groups, lambda rows: average_precision(any_truth[rows], any_concern_probability[rows])
        ).__dict__,
        "recall_at_1_percent": bootstrap(
            groups, lambda rows: recall_at_false_alarms(any_truth[rows], any_concern_probability[rows], 0.01)
        ).__dict__,
        "recall_at_5_percent": bootstrap(
            groups, lambda rows: recall_at_false_alarms(any_truth[rows], any_concern_probability[rows], 0.05)
        ).__dict__,
        "mean_average_precision": bootstrap(
            groups, lambda rows: mean_average_precision(truth[rows, :-1], concern[rows, :-1]), resamples=200
        ).__dict__,
        "expected_calibration_error": bootstrap(
            groups, lambda rows: expected_calibration_error(any_truth[rows], any_concern_probability[rows])
        ).__dict__,
        "severity_within_one": bootstrap(
            groups[has_concern],
            lambda rows: severity_within_one(answers.true_severity[has_concern][rows], levels[has_concern][rows]),
        ).__dict__,
        "severity_exact": float((answers.true_severity[has_concern] == levels[has_concern]).mean()),
        "at_shipped_thresholds": {
            "ordinary_turns_flagged": float(flagged[any_truth == 0].mean()),
            "ordinary_turns_flagged_in_hard_negatives": float(flagged[(any_truth == 0) & hard].mean()),
            "concern_turns_flagged": float(flagged[any_truth == 1].mean()),
            "critical_turns_flagged": float(flagged[critical].mean()),
            "category_micro_f1": binary_f1(truth[:, :-1].ravel(), above.astype(float).ravel()),
        },
        "average_precision_by_category": {
            name: average_precision(truth[:, at], concern[:, at]) for at, name in enumerate(CATEGORIES)
        },
        "average_precision_any_by_deal": [
            average_precision(any_truth[answers.fold == fold], any_concern_probability[answers.fold == fold])
            for fold in np.unique(answers.fold)
        ],
        "encoder_alone": {
            "average_precision_any": average_precision(any_truth, answers.concern[:, -1]),
            "mean_average_precision": mean_average_precision(truth[:, :-1], answers.concern[:, :-1]),
        },
        "ngrams_alone": {
            "average_precision_any": average_precision(any_truth, answers.counted[:, -1]),
            "mean_average_precision": mean_average_precision(truth[:, :-1], answers.counted[:, :-1]),
        },
    }
