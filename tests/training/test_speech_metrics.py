"""Word and speaker metrics, checked against counting by hand and against trying every assignment."""

from itertools import product

import numpy as np
import pytest

from training import nonspeech
from training.speech_metrics import count_word_errors, cp_word_errors, orc_word_errors, time_errors


def test_streams_are_matched_so_that_errors_are_fewest() -> None:
    assert cp_word_errors(["a b c", "d e"], ["d e", "a b c"]) == 0
    assert cp_word_errors(["a b c", "d e"], ["a b c d e"]) == 4


def test_who_said_it_does_not_count_when_words_alone_are_counted() -> None:
    assert orc_word_errors(["a b c", "d e"], ["d e", "a b c"]) == 0
    assert orc_word_errors(["a b c", "d e"], ["a b c d e"]) == 0
    assert orc_word_errors(["a b", "c d"], ["a c", "b d"]) == 2  # an utterance is not split
    assert orc_word_errors(["a b", "c d"], []) == 4
    assert orc_word_errors([], ["a b", "c"]) == 3


@pytest.mark.parametrize("seed", range(8))
def test_the_table_finds_what_trying_every_assignment_finds(seed: int) -> None:
    random = np.random.default_rng(seed)
    utterances = [" ".join(random.choice(list("abcd"), int(random.integers(1, 5)))) for _ in range(5)]
    speaker_streams = [" ".join(random.choice(list("abcd"), int(random.integers(2, 7)))) for _ in range(3)]
    tried = [
        sum(
            count_word_errors(" ".join(one for one, to in zip(utterances, way, strict=True) if to == number), stream)
            for number, stream in enumerate(speaker_streams)
        )
        for way in product(range(3), repeat=5)
    ]
    assert orc_word_errors(utterances, speaker_streams) == min(tried)


def test_an_assignment_too_large_for_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="too many"):
        orc_word_errors(["a"], [" ".join(["a"] * 400)] * 4)


def test_times_are_compared_for_the_words_heard_right() -> None:
    turns = [
        {"start": 1.0, "text": "Good morning, Edna.", "words": [{"word": "Good", "start": 1.0}]},
        {"start": 3.0, "text": "Morning.", "words": [{"word": "Morning", "start": 3.0}]},
    ]
    heard = [
        {"word": "Good", "start_seconds": 1.1},
        {"word": "morning,", "start_seconds": 1.5},
        {"word": "Edna.", "start_seconds": 1.9},
        {"word": "Morning.", "start_seconds": 2.8},
    ]
    assert time_errors(turns, heard) == pytest.approx([0.1, 0.2])


def test_sounds_without_words_are_as_long_as_asked_and_not_too_loud() -> None:
    voice = np.sin(np.arange(16_000) / 20).astype(np.float32)
    made = nonspeech.sounds([voice], 2.5)
    assert set(made) >= {"silence", "mains hum", "music", "babble", "babble, reversed"}
    for name, sound in made.items():
        assert sound.dtype == np.float32, name
        assert len(sound) == 40_000, name
        assert float(np.abs(sound).max()) <= 1.0, name
