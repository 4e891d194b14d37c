"""The risk level of a whole conversation, computed from the results of the safeguarding and sentiment models.

Four logistic steps (any concern, above low, above medium, above high) use the results for the turns. The level is never
below the severity of a concern that is shown. It is at least `low` if the models could not read a part of the
conversation because of its language.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.artefacts.files import Manifest, load_manifest, read_arrays
from models.contract.records import RISK_LEVELS, SEVERITIES, Conversation, Risk, Sentiment, TurnAssessment

FEATURES: Final = (
    "highest_any_log_odds",
    "second_any_log_odds",
    "concern_free_log_odds",
    "flagged_turns",
    "concern_low",
    "concern_medium",
    "concern_high",
    "concern_critical",
    "mean_severity_of_flagged",
    "negative_share",
    "most_negative",
)


class RiskModel:
    """Predicts the risk level of a conversation, and the probability that it contains a concern a lead should see."""

    def __init__(self, steps: NDArray[np.float32], manifest: Manifest) -> None:
        """`steps`: (4, features + 1), one row for each step of the level; the last column is the intercept."""
        self._steps = steps
        self.version = manifest.label

    @classmethod
    def load(cls, path: Path) -> "RiskModel":
        """Load a shipped directory. Raises `WriteCareError` if it is missing or its digests differ."""
        manifest = load_manifest(path)
        return cls(read_arrays(path)["steps"].astype(np.float32), manifest)

    def predict(
        self, conversation: Conversation, assessments: Sequence[TurnAssessment], sentiments: Sequence[Sentiment]
    ) -> Risk:
        """`assessments` and `sentiments`: one for each turn of `conversation`. Without turns the level is `none`."""
        if not conversation.turns:
            return Risk(level="none", score=0.0)
        chances = step_probabilities(risk_features(assessments, sentiments)[None], self._steps)[0]
        level = max(level_of(chances), least_level(assessments))
        return Risk(level=RISK_LEVELS[level], score=any_concern_probability(chances, assessments))


def at_least_low(risk: Risk) -> Risk:
    """Raise the level to `low` at least, for a conversation with parts that the models could not read."""
    return risk if risk.level != "none" else risk.model_copy(update={"level": "low"})


def any_concern_probability(chances: NDArray[np.float32], assessments: Sequence[TurnAssessment]) -> float:
    """The probability that the conversation contains a concern. `chances`: one row of `step_probabilities`.

    It is never below the probability of the most likely turn.
    """
    return max(float(chances[0]), *(row.scores["any"] for row in assessments))


def risk_features(assessments: Sequence[TurnAssessment], sentiments: Sequence[Sentiment]) -> NDArray[np.float32]:
    """(features,) in the order of FEATURES. Needs at least one turn."""
    chances = np.sort([row.scores["any"] for row in assessments])[::-1]
    odds = _to_log_odds(chances)
    none_at_all = float(np.prod(1.0 - np.clip(chances, 0.0, 1.0 - 1e-6)))
    flagged = [row for row in assessments if row.concerns]
    levels = [SEVERITIES.index(row.concerns[0].severity) for row in flagged]
    by_level = [
        max((row.scores["any"] for row, found in zip(flagged, levels, strict=True) if found == level), default=0.0)
        for level in range(len(SEVERITIES))
    ]
    negative = [sentiment.probabilities["negative"] for sentiment in sentiments]
    return np.asarray(
        [
            odds[0],
            odds[1] if len(odds) > 1 else _to_log_odds(np.asarray([0.01]))[0],
            _to_log_odds(np.asarray([1.0 - none_at_all]))[0],
            np.log1p(len(flagged)),
            *by_level,
            float(np.mean(levels)) if levels else -1.0,
            float(np.mean(negative)),
            max(negative),
        ],
        dtype=np.float32,
    )


def step_probabilities(features: NDArray[np.float32], steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """(conversations, 4): the probabilities that the level is above none, low, medium and high; never increasing."""
    chances = 1.0 / (1.0 + np.exp(-(features @ steps[:, :-1].T + steps[:, -1])))
    falling: NDArray[np.float32] = np.minimum.accumulate(chances, axis=1)
    return falling


def level_of(chances: NDArray[np.float32]) -> int:
    """The index into RISK_LEVELS: the number of steps with a probability of at least 0.5."""
    return int((chances >= 0.5).sum())


def least_level(assessments: Sequence[TurnAssessment]) -> int:
    """The index into RISK_LEVELS of the most severe concern that is shown; 0 without any."""
    return max((SEVERITIES.index(concern.severity) + 1 for row in assessments for concern in row.concerns), default=0)


def _to_log_odds(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    bounded = np.clip(chances, 1e-6, 1.0 - 1e-6)
    odds: NDArray[np.float64] = np.log(bounded / (1.0 - bounded))
    return odds
