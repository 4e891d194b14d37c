"""Splits conversations into training and held-out sets: whole conversations, the same on every machine.

The first step after reading the data set. Turns of one conversation repeat its names and its story, so a split by turn
would leak. Every function here keeps a conversation whole.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

FOLDS: Final = 7
SEED: Final = 20_260


@dataclass(frozen=True)
class Split:
    """Positions (into the sequence that was split) of the conversations to train on and of those held out."""

    learn: tuple[int, ...]
    held_out: tuple[int, ...]


def assign_folds(ids: Sequence[str], strata: Sequence[str], folds: int = FOLDS, seed: int = SEED) -> list[int]:
    """The fold of each conversation. Each stratum (its risk level) is spread evenly over the folds.

    Depends only on ids, strata and seed, not on the order in which the files were read.
    """
    if len(set(ids)) != len(ids):
        raise ValueError("conversation ids must be unique, otherwise a conversation can be on both sides of a split")
    members: dict[str, list[str]] = defaultdict(list)
    for identifier, stratum in zip(ids, strata, strict=True):
        members[stratum].append(identifier)
    fold_of: dict[str, int] = {}
    dealt = 0
    for stratum in sorted(members):
        shuffled = sorted(members[stratum])
        random.Random(f"{seed}-{stratum}").shuffle(shuffled)  # noqa: S311 - a reproducible deal, not a secret
        for identifier in shuffled:
            fold_of[identifier] = dealt % folds
            dealt += 1
    return [fold_of[identifier] for identifier in ids]


def split(fold_of: Sequence[int], held_out: int) -> Split:
    """Holds out one fold and trains on the rest."""
    return Split(
        learn=tuple(at for at, fold in enumerate(fold_of) if fold != held_out),
        held_out=tuple(at for at, fold in enumerate(fold_of) if fold == held_out),
    )
