"""Augmented variants of a conversation keep the labels of their turns."""

import random

from tests.text_models import conversation
from training.augmentation import AugmentationRates, as_asr_text, augment, misspelt, swap_names

TALK = conversation("Rosa fell at 6.", "Poor Rosa! Will Ahmed ring?", "I'll ask Ahmed.", "Thanks.")
NAMES = ("Ahmed", "Rosa", "Ioana", "Oluwaseun")
NEVER = AugmentationRates(names=0, recogniser=0, no_roles=0, cut_short=0, excerpt=0)


def test_without_chances_nothing_changes() -> None:
    assert augment(TALK, NAMES, NEVER, random.Random(0)) == (TALK, 0)


def test_names_are_swapped_alike_throughout_and_other_words_stay() -> None:
    first, second = swap_names(["Rosa fell. rosa cried", "Will Rosa rest?"], NAMES, random.Random(1))
    new = first.split()[0]
    assert new in NAMES
    assert first == f"{new} fell. {new.lower()} cried"
    assert second == f"Will {new} rest?"


def test_recognised_speech_has_neither_case_nor_marks() -> None:
    assert as_asr_text("Well, I'm OK — at 6.") == "well i'm ok  at 6"


def test_an_excerpt_says_where_it_began() -> None:
    for seed in range(20):
        variant, first = augment(TALK, NAMES, AugmentationRates(0, 0, 0, cut_short=0, excerpt=1), random.Random(seed))
        assert 1 <= len(variant.turns) <= 3
        assert variant.turns == TALK.turns[first : first + len(variant.turns)]


def test_misspelt_words_keep_their_ends_and_most_words_stay() -> None:
    text = "They dragged her along the corridor by her cardigan again yesterday morning " * 20
    changed = [
        (word, other)
        for word, other in zip(text.split(), misspelt(text, random.Random(3)).split(), strict=True)
        if word != other
    ]
    assert 5 <= len(changed) <= 40
    assert all(word[0] == other[0] and abs(len(word) - len(other)) <= 1 for word, other in changed)
    assert misspelt("He hit me at 6.", random.Random(3)) == "He hit me at 6."  # short words stay
