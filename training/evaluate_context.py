"""Measures what a message's assessment gains from the turns around it. A message has no whole call around it.

    python -m training.evaluate_context [--data DIR]

Uses half of the held-out conversations (every second by id; the other half is kept for reporting), and a window around
each turn: `before` and `after` turns. Prints AP of any concern, the shares of concerns and of ordinary turns that are
flagged at the shipped thresholds, macro-F1 and accuracy of sentiment, and the encoder's processor time per turn. Last,
what is flagged if a message is assessed when it arrives, and again after one and after two further messages.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.contract.records import SENTIMENT_LABELS
from models.text.analysis import TextModels
from training.dataset import LabelledConversation, read_dataset
from training.metrics import average_precision, macro_f1
from training.train import TrainingSettings, hold_out

WINDOWS: Final = ((0, 0), (2, 0), (3, 0), (4, 0), (6, 0), (3, 1), (4, 1), (2, 2), (999, 999))
SERVED_WINDOWS: Final = (
    (4, 0),
    (3, 1),
    (2, 2),
)  # in service the last two are reassessed with the next message, after the four before it


@dataclass(frozen=True)
class ContextResult:
    """For each turn: the probability of any concern, whether it is flagged, sentiment; `milliseconds` per turn."""

    any: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    sentiment: NDArray[np.int64]
    milliseconds: float


def score_in_context(
    models: TextModels, items: Sequence[LabelledConversation], before: int, after: int
) -> ContextResult:
    """The scores of each turn when the model gets so many turns before and after it."""
    talks, at = [], []
    for item in items:
        turns = item.conversation.turns
        for turn in range(len(turns)):
            first = max(0, turn - before)
            talks.append(item.conversation.model_copy(update={"turns": turns[first : turn + 1 + after]}))
            at.append(turn - first)
    began = time.process_time()
    vectors = models.encoder.encode(talks)
    seconds = time.process_time() - began
    rows = [results[turn] for results, turn in zip(models.safeguarding.score(talks, vectors), at, strict=True)]
    felt = [results[turn] for results, turn in zip(models.sentiment.predict_many(talks, vectors), at, strict=True)]
    return ContextResult(
        np.asarray([row.scores["any"] for row in rows]),
        np.asarray([bool(row.concerns) for row in rows]),
        np.asarray([SENTIMENT_LABELS.index(one.label) for one in felt]),
        seconds / len(at) * 1e3,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("var"), metavar="DIR", help="the data folder")
    torch.set_num_threads(1)
    models = TextModels.load(parser.parse_args().data)
    every = read_dataset()
    blind = sorted(hold_out(every, TrainingSettings()).held_out, key=lambda at: every[at].conversation.id)
    items = [every[at] for at in blind[::2]]
    has_concern = np.concatenate([item.concerns[:, -1] for item in items])
    felt = np.concatenate([item.sentiment for item in items])
    print(f"{len(items)} conversations, {len(has_concern)} turns, {int(has_concern.sum())} with a concern")
    results = {}
    for before, after in WINDOWS:
        one = results[before, after] = score_in_context(models, items, before, after)
        right = (felt == one.sentiment).mean()
        told_of = _concerns(has_concern, one.any, one.flagged)
        print(f"{before:3} before {after:3} after: {told_of}; sentiment F1 "
              f"{macro_f1(felt, one.sentiment):.3f}, {right:.3f} right; encoder {one.milliseconds:.1f} ms")  # fmt: skip
    for looks in range(1, len(SERVED_WINDOWS) + 1):
        chance = np.max([results[window].any for window in SERVED_WINDOWS[:looks]], axis=0)
        flagged = np.any([results[window].flagged for window in SERVED_WINDOWS[:looks]], axis=0)
        print(f"{looks} assessments: {_concerns(has_concern, chance, flagged)}")


def _concerns(has_concern: NDArray[Any], chance: NDArray[Any], flagged: NDArray[np.bool_]) -> str:
    found, alarms = flagged[has_concern == 1].mean(), flagged[has_concern == 0].mean()
    return (
        f"AP {average_precision(has_concern, chance):.3f}, flagged {found:.3f} of concerns "
        f"and {alarms:.3f} of the others"
    )


if __name__ == "__main__":
    main()
