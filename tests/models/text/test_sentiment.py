"""Sentiment: the feeling in the words, not whether the news is good or bad."""

import numpy as np
import pytest

from models.text.sentiment import calibrated_softmax, turn_means
from tests.text_models import conversation, text_models


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ("Oh that's wonderful, thank you so much, you've made my day!", "positive"),
        ("I'm sick to death of this, it's disgusting how they treat us.", "negative"),
        ("The delivery is at ten and the sling is in the cupboard.", "neutral"),
    ],
)
def test_plain_feelings_are_heard(said: str, label: str) -> None:
    [sentiment] = text_models().sentiment.predict(conversation(said))
    assert sentiment.label == label


def test_a_calm_report_of_a_fall_is_not_positive() -> None:
    [sentiment] = text_models().sentiment.predict(conversation("Albert slid off his chair at four, obs were normal."))
    assert sentiment.label != "positive"


def test_the_label_is_the_most_probable() -> None:
    for sentiment in text_models().sentiment.predict(conversation("Lovely.", "Is it?", "No, it is awful.")):
        assert sentiment.label == max(sentiment.probabilities, key=lambda name: sentiment.probabilities[name])


def test_softmax_and_means_against_values_worked_by_hand() -> None:
    identity = np.concatenate([np.eye(3), np.zeros((3, 1))], axis=1).astype(np.float32)
    [row] = calibrated_softmax(np.log(np.asarray([[1.0, 2.0, 5.0]], dtype=np.float32)), identity)
    assert row.tolist() == pytest.approx([0.125, 0.25, 0.625])
    pieces = np.asarray([[1.0], [3.0], [7.0]], dtype=np.float32)
    assert turn_means(pieces, np.asarray([0, 0, 2]), 3).ravel().tolist() == [2.0, 0.0, 7.0]
