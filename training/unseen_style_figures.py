"""Figures on styles that a model has never seen, from the answers that `training.train --measure-styles` stored.

Calibration and thresholds come from the held-out seventh of the other styles, so nothing here is fitted on the data
that it is measured on. The model is not the shipped one, which is also trained on these styles; the recipe is the same.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract.records import SEVERITIES
from models.text.safeguarding import to_assessment
from pipelines.alerting import warrants_alert
from training.calibration import (
    Calibration,
    HeldOutAnswers,
    apply_calibration,
    category_thresholds,
    fit_calibration,
    severity_levels,
)
from training.dataset import LabelledConversation
from training.metrics import (
    average_precision,
    bootstrap,
    expected_calibration_error,
    macro_f1,
    mean_average_precision,
    recall_at_false_alarms,
)
from training.unsure import is_flagged, unsure_edge

Figures = dict[str, Any]


def left_out_figures(
    answers: HeldOutAnswers, dataset: Sequence[LabelledConversation], styles: Sequence[str], false_alarms: float
) -> list[Figures]:
    """One row for all left-out styles together, then one row per style."""
    style = np.asarray([item.style for item in dataset])[answers.conversation]
    left = np.isin(style, styles)
    known = answers.rows(~left)
    fitted = fit_calibration(known)
    thresholds = category_thresholds(known, apply_calibration(fitted, known)[0], false_alarms)
    unsure_from = unsure_edge(known, apply_calibration(fitted, known)[0], thresholds)
    parts = [("all of them", left), *((name, style == name) for name in styles)]
    return [{"style": name, **_figures(answers.rows(mask), fitted, thresholds, unsure_from)} for name, mask in parts]


def _figures(answers: HeldOutAnswers, fitted: Calibration, thresholds: dict[str, float], unsure_from: float) -> Figures:
    concern, sentiment, _ = apply_calibration(fitted, answers)
    truth, chance, owner = answers.true_concern, concern[:, -1], answers.conversation
    has_concern = truth[:, -1] == 1
    flagged, critical = is_flagged(concern, thresholds), answers.true_severity == len(SEVERITIES) - 1
    shown = flagged | (chance >= unsure_from)
    levels = severity_levels(answers.severity)
    predicted_sentiment = sentiment.argmax(axis=1)

    def share(hit: NDArray[np.bool_], among: NDArray[np.bool_]) -> Figures:
        return asdict(bootstrap(owner[among], lambda rows: float(hit[among][rows].mean())))

    found, alarms = _conversations(answers, concern, levels, thresholds)
    return {
        "conversations": int(np.unique(owner).size),
        "turns": len(owner),
        "turns_with_a_concern": int(has_concern.sum()),
        "critical_turns": int(critical.sum()),
        "average_precision_any": asdict(
            bootstrap(owner, lambda rows: average_precision(truth[rows, -1], chance[rows]))
        ),
        "recall_at_1_percent": asdict(
            bootstrap(owner, lambda rows: recall_at_false_alarms(truth[rows, -1], chance[rows], 0.01))
        ),
        "recall_at_5_percent": asdict(
            bootstrap(owner, lambda rows: recall_at_false_alarms(truth[rows, -1], chance[rows], 0.05))
        ),
        "mean_average_precision": asdict(
            bootstrap(owner, lambda rows: mean_average_precision(truth[rows, :-1], concern[rows, :-1]), resamples=200)
        ),
        "calibration_error": expected_calibration_error(truth[:, -1], chance),
        "concern_turns_flagged": share(flagged, has_concern),
        "ordinary_turns_flagged": share(flagged, ~has_concern),
        "critical_turns_flagged": share(flagged, critical),
        "concern_turns_flagged_or_unsure": share(shown, has_concern),
        "critical_turns_flagged_or_unsure": share(shown, critical),
        "ordinary_turns_flagged_or_unsure": share(shown, ~has_concern),
        "all_turns_flagged_or_unsure": float(shown.mean()),
        "conversations_with_a_concern_alerted": found,
        "conversations_without_alerted": alarms,
        "sentiment_macro_f1": macro_f1(answers.true_sentiment, predicted_sentiment),
    }


def _conversations(
    answers: HeldOutAnswers, concern: NDArray[np.float32], levels: NDArray[np.int64], thresholds: dict[str, float]
) -> tuple[float, float]:
    """The shares of conversations with and without a concern that raise an alert."""
    raised, has_concern = [], []
    for owner in np.unique(answers.conversation):
        rows = np.flatnonzero(answers.conversation == owner)
        turns = [to_assessment(concern[row], int(levels[row]), thresholds).concerns for row in rows]
        raised.append(warrants_alert(turns))
        has_concern.append(bool(answers.true_concern[rows, -1].any()))
    alert, true = np.asarray(raised), np.asarray(has_concern)
    return float(alert[true].mean()), float(alert[~true].mean())
