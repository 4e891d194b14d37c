"""Thresholds keep their false-alarm rate on conversations of another style."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.contract.records import CATEGORIES
from training.calibration import HeldOutAnswers, apply_calibration, fit_calibration, raise_for_real_talk

TURNS = 400
OUTPUTS = len(CATEGORIES) + 1


def made_answers() -> HeldOutAnswers:
    """A quarter of the turns voices a concern. The encoder's logits separate them with some error."""
    draw = np.random.default_rng(7)
    voiced = np.arange(TURNS) % 4 == 0
    truth = np.zeros((TURNS, OUTPUTS), dtype=np.float32)
    truth[voiced, np.arange(TURNS)[voiced] % len(CATEGORIES)] = 1.0
    truth[voiced, -1] = 1.0
    logits = (truth * 4 - 2 + draw.normal(size=truth.shape)).astype(np.float32)
    sentiment = np.arange(TURNS) % 3
    return HeldOutAnswers(
        concern=logits,
        counted=(logits / 2).astype(np.float32),
        severity=np.zeros((TURNS, 3), dtype=np.float32),
        sentiment=np.eye(3, dtype=np.float32)[sentiment],
        commitment=(voiced * 2.0 - 1.0 + draw.normal(size=TURNS)).astype(np.float32)[:, None],
        conversation=np.arange(TURNS),
        fold=np.arange(TURNS) % 4,
        true_concern=truth,
        true_severity=np.where(voiced, 2, -1),
        true_sentiment=sentiment,
        true_commits=voiced.astype(np.float32),
    )


def talk_like(answers: HeldOutAnswers, harmless: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {"concern": answers.concern, "counted": answers.counted, "harmless": harmless}


def thresholds(value: float) -> dict[str, float]:
    return {str(name): value for name in CATEGORIES}


@pytest.mark.parametrize("allowed", [0.02, 0.1])
def test_thresholds_rise_until_few_turns_of_real_talk_are_flagged(allowed: float) -> None:
    answers = made_answers()
    everything = np.ones(TURNS, dtype=bool)
    raised = raise_for_real_talk(thresholds(0.05), answers, talk_like(answers, everything), allowed)
    chances = apply_calibration(fit_calibration(answers), answers)[0][:, :-1]
    flagged = (chances >= np.asarray([raised[name] for name in CATEGORIES])).any(axis=1)
    assert 0 < flagged.mean() <= allowed + 1e-9


def test_turns_of_real_harm_raise_nothing_and_thresholds_never_fall() -> None:
    answers = made_answers()
    quiet = answers.true_concern[:, -1] == 0
    low = thresholds(0.3)
    of_quiet = raise_for_real_talk(low, answers, talk_like(answers, quiet), 0.01)
    of_all = raise_for_real_talk(low, answers, talk_like(answers, np.ones(TURNS, dtype=bool)), 0.01)
    assert max(of_quiet.values()) < max(of_all.values())
    high = thresholds(0.95)
    assert raise_for_real_talk(high, answers, talk_like(answers, quiet), 0.5) == high
