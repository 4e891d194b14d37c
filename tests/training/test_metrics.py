"""Figures against values worked by hand."""

import numpy as np
import pytest

from training.calibration import best_f1_threshold
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
from training.summary_fitting import rouge_1

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
