"""A turn is marked unsure between two probabilities, and answers hold the mark only there."""

import numpy as np

from models.contract.records import CATEGORIES, AnalysedTurn, Sentiment, Unsure
from models.text.safeguarding import to_assessment

THRESHOLDS = {str(name): 0.2 for name in CATEGORIES}
CALM = Sentiment(label="neutral", probabilities={"negative": 0.1, "neutral": 0.8, "positive": 0.1})


def row(any_concern: float, neglect: float) -> np.ndarray:
    """(16,): probabilities in the order of OUTPUTS."""
    chances = np.full(len(CATEGORIES) + 1, 0.001, dtype=np.float32)
    chances[CATEGORIES.index("neglect")] = neglect
    chances[-1] = any_concern
    return chances


def test_below_the_edge_a_turn_is_quiet_and_above_it_unsure_and_with_a_concern_sure() -> None:
    assert to_assessment(row(0.04, 0.03), 0, THRESHOLDS, 0.05).unsure is None
    marked = to_assessment(row(0.25, 0.19), 0, THRESHOLDS, 0.05)
    assert marked.concerns == ()
    assert marked.unsure == Unsure(probability=0.25, threshold=0.05)
    flagged = to_assessment(row(0.25, 0.21), 0, THRESHOLDS, 0.05)
    assert [concern.category for concern in flagged.concerns] == ["neglect"]
    assert flagged.unsure is None


def test_a_version_without_an_edge_marks_nothing() -> None:
    assert to_assessment(row(0.25, 0.19), 0, THRESHOLDS).unsure is None


def test_an_answer_holds_the_mark_only_where_a_turn_is_unsure() -> None:
    quiet, marked, flagged = (
        AnalysedTurn.of(to_assessment(row(*chances), 0, THRESHOLDS, 0.05), CALM)
        for chances in ((0.01, 0.01), (0.1, 0.1), (0.9, 0.8))
    )
    assert set(quiet.model_dump(mode="json")) == {"scores", "concerns", "sentiment"}
    assert set(marked.model_dump(mode="json")) == {"scores", "concerns", "sentiment", "unsure"}
    [concern] = flagged.model_dump(mode="json")["concerns"]
    assert set(concern) == {"category", "severity", "probability", "threshold", "evidence"}
    assert AnalysedTurn.model_validate_json(marked.model_dump_json()) == marked
