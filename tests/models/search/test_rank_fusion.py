"""Passages cover all utterances; a fused ranking puts first what both rankings rank high."""

import itertools

import numpy as np
import pytest

from models.search.rank_fusion import Passage, pool_passages, reciprocal_rank_fusion, split_passages


def test_what_both_rankings_have_high_comes_first() -> None:
    fused = reciprocal_rank_fusion([["a", "b", "c"], ["c", "a", "d"]])
    assert [key for key, _ in fused] == ["a", "c", "b", "d"]
    assert fused[0][1] == pytest.approx(1 / 61 + 1 / 62)


def test_a_weight_of_nothing_silences_a_ranking() -> None:
    assert [key for key, _ in reciprocal_rank_fusion([["a", "b"], ["b", "a"]], [0.0, 1.0])] == ["b", "a"]


def test_a_key_twice_in_one_ranking_counts_once() -> None:
    assert reciprocal_rank_fusion([["a", "a", "b"]]) == [("a", 1 / 61), ("b", 1 / 62)]


def test_nothing_fuses_to_nothing_and_each_ranking_needs_its_weight() -> None:
    assert reciprocal_rank_fusion([[], []]) == []
    with pytest.raises(ValueError, match="zip"):
        reciprocal_rank_fusion([["a"]], [1.0, 2.0])


@pytest.mark.parametrize(
    ("lengths", "windows"),
    [
        ([], []),
        ([500], [(0, 0)]),
        ([10, 10, 10, 10], [(0, 1), (1, 2), (2, 3)]),
        ([5, 100, 5], [(0, 0), (1, 1), (2, 2)]),
        ([5, 5, 5], [(0, 2)]),
    ],
)
def test_windows_are_full_and_overlap_by_half(lengths: list[int], windows: list[tuple[int, int]]) -> None:
    assert split_passages(lengths, most_words=20) == [Passage(*window) for window in windows]


@pytest.mark.parametrize("most_words", [1, 7, 40, 1000])
def test_every_utterance_is_in_a_window_and_no_window_within_another(most_words: int) -> None:
    lengths = [int(length) for length in np.random.default_rng(0).integers(0, 30, 200)]
    found = split_passages(lengths, most_words)
    assert {at for window in found for at in range(window.first, window.last + 1)} == set(range(200))
    assert all(a.first < b.first and a.last < b.last for a, b in itertools.pairwise(found))


def test_a_window_points_where_its_longer_utterances_point() -> None:
    [row] = pool_passages(np.eye(2, dtype=np.float32), [9, 1], [Passage(0, 1)])
    assert np.linalg.norm(row) == pytest.approx(1.0)
    assert row[0] > 8 * row[1]
