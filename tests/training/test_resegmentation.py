"""Resegmented conversations keep every word, and keep labels where they are still certain."""

import random

import numpy as np

from training.dataset import read_dataset
from training.resegmentation import resegmented


def test_no_word_is_lost_and_a_concern_stays_with_the_half_that_sounds_like_it() -> None:
    draw = random.Random(0)
    for item in read_dataset()[:40]:
        cut = resegmented(item, lambda texts: np.asarray([len(text) for text in texts], dtype=np.float32), draw)
        before, after = (" ".join(turn.text for turn in i.conversation.turns).split() for i in (item, cut))
        assert before == after
        rows = len(cut.conversation.turns)
        assert (len(cut.concerns), len(cut.severity), len(cut.sentiment), len(cut.commits)) == (rows,) * 4
        assert (np.nanmax(cut.concerns, axis=0) == item.concerns.max(axis=0)).all()
        known = cut.concerns[:, -1] == 1
        assert (cut.severity[known] >= 0).all()
        assert (cut.severity[~known] == -1).all()
