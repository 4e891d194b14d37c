"""Who is learnt from and who is asked: splits by conversation, never by turn, the same on every machine.

The first step after reading the data set. Turns of one conversation repeat its names and its story, so a split by
turn would leak; every function here deals whole conversations.
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
    """Positions (into the sequence that was split) of the conversations to learn from and of those held out."""

    learn: tuple[int, ...]
    held_out: tuple[int, ...]


def assign_folds(ids: Sequence[str], strata: Sequence[str], folds: int = FOLDS, seed: int = SEED) -> list[int]:
    """The fold of each conversation; each stratum (its risk level) is dealt evenly.

    Depends on ids, strata and seed alone, not on the order in which the files were read.
    """
    if len(set(ids)) != len(ids):
        raise ValueError("conversation ids must be unique, or a conversation would be on both sides of a split")
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
    """Hold out one fold, learn from the rest."""
    return Split(
        learn=tuple(at for at, fold in enumerate(fold_of) if fold != held_out),
        held_out=tuple(at for at, fold in enumerate(fold_of) if fold == held_out),
    )
