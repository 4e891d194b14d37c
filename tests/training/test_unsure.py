"""The edge from which a turn is marked unsure: what it promises, and what bounds it."""

import numpy as np
import pytest

from training.unsure import MOST_SHOWN, conformal_edge, edge_of


def test_a_further_turn_reaches_the_edge_as_often_as_wanted() -> None:
    draw = np.random.default_rng(7)
    reached = []
    for _ in range(2000):
        chances = draw.uniform(size=120)
        reached.append(chances[-1] >= conformal_edge(chances[:-1], 0.95))
    assert np.mean(reached) == pytest.approx(0.95, abs=0.015)


def test_of_too_few_turns_the_lowest_counts_and_of_none_there_is_no_edge() -> None:
    assert conformal_edge(np.asarray([0.4, 0.2, 0.9]), 0.98) == 0.2
    assert conformal_edge(np.asarray([]), 0.98) == float("inf")


def turns(ordinary: float, voiced: list[float], critical: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A hundred ordinary turns of one probability, and turns with a concern."""
    chance = np.asarray([ordinary] * 100 + voiced + critical)
    kinds = np.asarray([0] * 100 + [1] * len(voiced) + [2] * len(critical))
    return chance, kinds >= 1, kinds == 2


def test_critical_turns_draw_the_edge_lower_than_others_do() -> None:
    mild = [0.3] * 40
    assert edge_of(*turns(0.001, mild, [])) == pytest.approx(0.3, abs=1e-4)
    assert edge_of(*turns(0.001, mild, [0.05] * 60)) == pytest.approx(0.05, abs=1e-4)


def test_what_is_flagged_already_draws_no_edge() -> None:
    assert edge_of(*turns(0.001, [1.0] * 40, [])) > 0.99


def test_no_more_than_a_quarter_of_ordinary_turns_is_shown_whatever_that_misses() -> None:
    chance = np.concatenate([np.linspace(0.0, 0.2, 1000), [0.0001] * 50])
    voiced = np.arange(chance.size) >= 1000
    edge = edge_of(chance, voiced, voiced)
    assert (chance[:1000] >= edge).mean() <= MOST_SHOWN
    assert edge > 0.14
