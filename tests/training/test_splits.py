"""Splits assign whole conversations, and are the same every time."""

from collections import Counter

import pytest

from training.dataset import read_dataset
from training.splits import FOLDS, assign_folds, split

IDS = [f"c{at}" for at in range(103)]
STRATA = ["high" if at % 5 == 0 else "none" for at in range(103)]


def test_no_conversation_is_on_both_sides_and_all_are_held_out_once() -> None:
    folds = assign_folds(IDS, STRATA)
    held_out: list[int] = []
    for fold in range(FOLDS):
        parts = split(folds, fold)
        assert not set(parts.learn) & set(parts.held_out)
        assert len(parts.learn) + len(parts.held_out) == len(IDS)
        held_out += parts.held_out
    assert sorted(held_out) == list(range(len(IDS)))


def test_the_deal_does_not_depend_on_the_order_of_the_files() -> None:
    straight = dict(zip(IDS, assign_folds(IDS, STRATA), strict=True))
    backwards = dict(zip(IDS[::-1], assign_folds(IDS[::-1], STRATA[::-1]), strict=True))
    assert straight == backwards


def test_each_level_of_risk_is_spread_evenly() -> None:
    folds = assign_folds(IDS, STRATA)
    of_high = Counter(fold for fold, stratum in zip(folds, STRATA, strict=True) if stratum == "high")
    assert max(of_high.values()) - min(of_high.values()) <= 1


def test_a_repeated_conversation_is_refused_rather_than_leaked() -> None:
    with pytest.raises(ValueError, match="unique"):
        assign_folds(["a", "a"], ["none", "none"])


def test_the_seed_data_have_unique_ids_and_no_conversation_twice_under_two_ids() -> None:
    dataset = read_dataset()
    assert len({item.conversation.id for item in dataset}) == len(dataset)
    spoken = Counter(tuple(turn.text for turn in item.conversation.turns) for item in dataset)
    assert spoken.most_common(1)[0][1] == 1
