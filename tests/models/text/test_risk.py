"""Risk: never below the most severe shown concern; `none` for a conversation without concerns."""

import numpy as np
import pytest

from models.contract.records import (
    CATEGORIES,
    RISK_LEVELS,
    SEVERITIES,
    Concern,
    Conversation,
    Risk,
    Sentiment,
    Severity,
    TurnAssessment,
)
from models.text.risk import at_least_low, least_level, level_of, step_probabilities
from tests.text_models import conversation, text_models

CALM = Sentiment(label="neutral", probabilities={"negative": 0.1, "neutral": 0.8, "positive": 0.1})


def assessed(chance: float, severity: Severity | None = None) -> TurnAssessment:
    scores: dict[str, float] = dict.fromkeys(CATEGORIES, chance / 2) | {"any": chance}
    concern = severity and Concern(category="neglect", severity=severity, probability=chance, threshold=0.3)
    return TurnAssessment(scores=scores, concerns=(concern,) if concern else ())


def test_no_turns_are_no_risk() -> None:
    risk = text_models().risk.predict(Conversation(id="empty", turns=()), (), ())
    assert (risk.level, risk.score) == ("none", 0.0)


def test_quiet_talk_is_no_risk_and_a_likely_grave_concern_is_one() -> None:
    model, talk = text_models().risk, conversation("One.", "Two.")
    quiet = model.predict(talk, (assessed(0.001), assessed(0.002)), (CALM, CALM))
    grave = model.predict(talk, (assessed(0.001), assessed(0.97, "critical")), (CALM, CALM))
    assert quiet.level == "none"
    assert grave.level == "critical"
    assert quiet.score < 0.2 < 0.8 < grave.score


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("chance", [0.05, 0.31, 0.5, 0.99])
def test_no_conversation_is_less_grave_than_a_concern_shown_of_it(severity: Severity, chance: float) -> None:
    turns = (assessed(0.001), assessed(chance, severity))
    risk = text_models().risk.predict(conversation("One.", "Two."), turns, (CALM, CALM))
    assert RISK_LEVELS.index(risk.level) >= RISK_LEVELS.index(severity)


def test_turns_without_a_shown_concern_set_no_floor() -> None:
    assert least_level([assessed(0.9), assessed(0.1)]) == 0


def test_a_conversation_that_could_not_be_read_is_at_least_low() -> None:
    assert at_least_low(Risk(level="none", score=0.1)) == Risk(level="low", score=0.1)
    assert at_least_low(Risk(level="high", score=0.9)) == Risk(level="high", score=0.9)


def test_steps_never_rise_with_the_level() -> None:
    steps = np.asarray([[0.0, -1.0], [0.0, 1.0], [0.0, 2.0], [0.0, -3.0]], dtype=np.float32)
    [chances] = step_probabilities(np.zeros((1, 1), dtype=np.float32), steps)
    assert (np.diff(chances) <= 0).all()
    assert level_of(chances) == 0
    assert level_of(np.asarray([0.9, 0.6, 0.4, 0.1], dtype=np.float32)) == 2
