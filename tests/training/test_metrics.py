"""Metrics, compared with values computed by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from training.calibration import best_f1_threshold
from training.metrics import (
    Interval,
    average_precision,
    average_precisions,
    binary_f1,
    bootstrap,
    calibration_errors,
    confusions,
    expected_calibration_error,
    f1s,
    interval,
    macro_f1,
    macro_f1s,
    mean_average_precision,
    mean_average_precisions,
    recall_at_false_alarms,
    recalls_at_false_alarms,
    resampled,
    severity_within_one,
    shares,
)
from training.summary_fitting import rouge_1

Figure = Callable[[Any, Any], float]
Figures = Callable[[Any, Any, Any], Any]

TRUTH = np.asarray([1, 0, 1, 0, 0], dtype=float)
SCORES = np.asarray([0.9, 0.8, 0.7, 0.2, 0.1])


def test_average_precision() -> None:
    assert average_precision(TRUTH, SCORES) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert np.isnan(average_precision(np.zeros(3), np.ones(3)))


def test_the_mean_leaves_out_categories_that_never_occur() -> None:
    truth = np.column_stack([TRUTH, np.zeros(5), np.asarray([0, 1, 0, 0, 0.0])])
    scores = np.column_stack([SCORES] * 3)
    assert mean_average_precision(truth, scores) == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)


def test_recall_at_a_rate_of_false_alarms() -> None:
    assert recall_at_false_alarms(TRUTH, SCORES, 0.0) == 0.5  # only 0.9 is above every negative
    assert recall_at_false_alarms(TRUTH, SCORES, 0.34) == 1.0  # one of three negatives may be above
    assert recall_at_false_alarms(TRUTH, np.zeros(5), 0.34) == 0.0  # ties are alarms


def test_calibration_error() -> None:
    assert expected_calibration_error(np.asarray([1.0, 1, 0, 0]), np.full(4, 0.5)) == pytest.approx(0.0)
    assert expected_calibration_error(np.asarray([0.0, 0, 0, 1]), np.asarray([0.99, 0.99, 0.01, 0.01])) == (
        pytest.approx(0.5 * 0.99 + 0.5 * 0.49)
    )


def test_f1_and_severity() -> None:
    assert binary_f1(np.asarray([1.0, 1, 0, 0]), np.asarray([1.0, 0, 1, 0])) == pytest.approx(0.5)
    assert macro_f1(np.asarray([0, 1, 1]), np.asarray([0, 1, 0])) == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert severity_within_one(np.asarray([0, 3, 1, 2]), np.asarray([1, 1, 1, 2])) == 0.75


def test_the_bootstrap_resamples_conversations_not_turns() -> None:
    values = np.asarray([1.0] * 50 + [0.0] * 50)
    by_turn = bootstrap(np.arange(100), lambda rows: float(values[rows].mean()))
    by_conversation = bootstrap(np.repeat([0, 1], 50), lambda rows: float(values[rows].mean()))
    assert by_turn.value == by_conversation.value == 0.5
    assert (by_conversation.low, by_conversation.high) == (0.0, 1.0)
    assert 0.3 < by_turn.low < 0.5 < by_turn.high < 0.7


def test_the_best_threshold_is_where_f1_is_highest() -> None:
    assert best_f1_threshold(TRUTH, SCORES) == pytest.approx(0.7)
    assert best_f1_threshold(np.zeros(5), SCORES) == 0.5


def test_rouge_counts_shared_words_with_multiplicity() -> None:
    assert rouge_1("Rosa fell, fell!", "Rosa fell twice") == pytest.approx(2 * 2 / 6)
    assert rouge_1("", "Rosa") == 0.0


# --- all resamples at once: the same figures as one resample at a time -----------------------------------------------

_DRAW = np.random.default_rng(4)
CONVERSATION = np.repeat(np.arange(12), 5)
VOICED = (_DRAW.random(60) < 0.3).astype(float)
GUESSED = np.round(np.clip(0.4 * VOICED + _DRAW.random(60), 0, 0.9), 1)  # with many ties


def repeated(weights: Any) -> Any:
    """Row numbers, each as often as it was drawn."""
    return np.repeat(np.arange(weights.size), weights.astype(int))


@pytest.mark.parametrize(
    ("at_once", "one"),
    [
        (average_precisions, average_precision),
        (lambda t, s, w: recalls_at_false_alarms(t, s, w, 0.2), lambda t, s: recall_at_false_alarms(t, s, 0.2)),
        (lambda t, s, w: recalls_at_false_alarms(t, s, w, 1.0), lambda t, s: recall_at_false_alarms(t, s, 1.0)),
        (calibration_errors, expected_calibration_error),
        (lambda t, s, w: f1s(t == 1, s >= 0.5, w), lambda t, s: binary_f1(t, (s >= 0.5).astype(float))),
        (
            lambda t, s, w: macro_f1s(confusions(t.astype(int), (s * 3).astype(int), 3, w)),
            lambda t, s: macro_f1(t.astype(int), (s * 3).astype(int)),
        ),
        (lambda t, s, w: shares(s >= 0.5, t == 1, w), lambda t, s: float((s >= 0.5)[t == 1].mean())),
    ],
)
def test_weights_give_what_repeating_the_rows_gives(at_once: Figures, one: Figure) -> None:
    weights = resampled(CONVERSATION, resamples=20, seed=2)
    found = at_once(VOICED, GUESSED, weights)
    expected = [one(VOICED[repeated(row)], GUESSED[repeated(row)]) for row in weights]
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_mean_over_categories_leaves_out_what_a_resample_lacks() -> None:
    truth = np.column_stack([VOICED, CONVERSATION == 3])
    scores = np.column_stack([GUESSED, GUESSED[::-1]])
    weights = resampled(CONVERSATION, resamples=20, seed=2)
    expected = [mean_average_precision(truth[repeated(row)], scores[repeated(row)]) for row in weights]
    assert mean_average_precisions(truth, scores, weights) == pytest.approx(expected, abs=1e-5)


def test_intervals_at_once_are_those_of_the_bootstrap() -> None:
    slow = bootstrap(CONVERSATION, lambda rows: average_precision(VOICED[rows], GUESSED[rows]), resamples=50)
    fast = interval(average_precisions(VOICED, GUESSED, resampled(CONVERSATION, resamples=50)))
    assert (fast.value, fast.low, fast.high) == pytest.approx((slow.value, slow.low, slow.high), abs=1e-5)


def test_two_models_are_compared_on_the_same_draws() -> None:
    weights = resampled(CONVERSATION, resamples=50)
    same = average_precisions(VOICED, GUESSED, weights) - average_precisions(VOICED, GUESSED.copy(), weights)
    assert interval(same) == Interval(0.0, 0.0, 0.0)
