"""The vote of readings: a word of most readings is kept, a word of one reading only if sure; none is doubled."""

import pytest

from models.contract.records import Word
from models.speech.rover import vote


def agreed(readings: list[list[Word]]) -> list[Word]:
    return [word for word, _ in vote(readings)]


def reading(text: str, confidence: float = 0.8, *, late: float = 0.0, pause: float = 0.0) -> list[Word]:
    return [
        Word(
            word=word,
            start_seconds=round(number * (0.4 + pause) + late, 3),
            end_seconds=round(number * (0.4 + pause) + 0.35 + late, 3),
            confidence=confidence,
        )
        for number, word in enumerate(text.split())
    ]


def text(words: list[Word]) -> str:
    return " ".join(word.word for word in words)


@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_what_two_of_three_hear_stands(pause: float) -> None:
    first = reading("She had a bruise on her harm", pause=pause)
    others = [reading("She had a bruise on her arm", pause=pause) for _ in range(2)]
    assert text(agreed([first, *others])) == "She had a bruise on her arm"


def test_of_two_that_differ_the_surer_stands_and_the_first_where_they_are_alike() -> None:
    assert text(agreed([reading("a fall", 0.5), reading("a full", 0.9)])) == "a full"
    assert text(agreed([reading("a fall", 0.8), reading("a full", 0.8)])) == "a fall"


def test_times_are_the_first_readings_and_the_confidence_is_the_mean() -> None:
    (word,) = agreed([reading("Help!", 0.6), reading("help", 0.9, late=0.1), []])
    assert (word.word, word.start_seconds) == ("Help!", 0.0)
    assert word.confidence == pytest.approx(0.5)


def test_a_turn_that_one_reading_skipped_is_kept() -> None:
    whole = reading("I will ring the nurse now", 0.9)
    assert text(agreed([whole[:2], whole, whole])) == "I will ring the nurse now"
    assert text(agreed([[], whole, whole])) == "I will ring the nurse now"
    assert text(agreed([[], [], reading("thank you", 0.4)])) == ""


def test_nothing_is_said_twice_where_times_differ_a_little() -> None:
    assert (
        text(agreed([reading("no no no"), reading("no no no", late=0.2), reading("no no no", late=-0.0)])) == "no no no"
    )


def test_long_readings_without_a_pause_are_compared_in_parts() -> None:
    long = reading(" ".join(f"word{number}" for number in range(700)))
    assert agreed([long, long, long]) == long


def test_readings_without_words_give_none() -> None:
    assert agreed([[], [], []]) == []


def test_what_all_hear_stands_however_unsure_they_are_and_however_their_times_differ() -> None:
    """Five of fifteen spoken digits were once lost: each reading had them, at slightly different times."""
    digits = "1 0 0 0 1 9 0 2 1 0 0 1 8 0 3"
    readings = [reading(digits, 0.1, late=late, pause=0.2) for late in (0.0, 0.25, 0.5)]
    found = vote(readings)
    assert text([word for word, _ in found]) == digits
    assert {count for _, count in found} == {3}


def test_what_most_hear_stands_however_unsure_they_are() -> None:
    assert text(agreed([reading("help", 0.1), reading("help", 0.1), []])) == "help"
    assert text(agreed([reading("help", 0.1), [], []])) == ""
