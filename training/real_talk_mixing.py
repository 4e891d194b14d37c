"""Mixes real conversations for a stage of training: chosen excerpts, half of them with one line of care conversation.

A concern may be one line in the middle of a conversation about something else. Not every line of care conversation
among other lines is a concern, so harmless lines are inserted, too.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from models.contract.records import Turn
from training.dataset import LabelledConversation
from training.real_talk import RealTalk

_WITH_A_LINE: Final = 0.5
_SHARES: Final = {"consultation": 0.5, "meeting": 0.2, "e-mail": 0.1, "short lines": 0.2}  # of the words


def choose_excerpts(
    sets: Sequence[RealTalk], words: int, seed: int, excluded_ids: Collection[str] = ()
) -> list[LabelledConversation]:
    """Excerpts of about `words` words, distributed to the kinds by `_SHARES`, and evenly to the sets of a kind.

    `excluded_ids`: ids of excerpts that must not be chosen.
    """
    chosen: list[LabelledConversation] = []
    for real in sets:
        alike = sum(other.kind == real.kind for other in sets)
        left = words * _SHARES[real.kind] / alike
        order = [excerpt for excerpt in real.learn if excerpt.conversation.id not in excluded_ids]
        random.Random(f"{seed}-{real.name}").shuffle(order)  # noqa: S311 - a reproducible choice, not a secret
        for excerpt in order:
            if left <= 0:
                break
            left -= sum(len(turn.text.split()) for turn in excerpt.conversation.turns)
            chosen.append(excerpt)
    return chosen


def insert_lines(
    excerpts: Sequence[LabelledConversation], lines: Sequence[LabelledConversation], rng: random.Random
) -> list[LabelledConversation]:
    """The excerpts; half of those with several turns get one of `lines`."""
    return [
        _with_line(one, rng.choice(lines), rng)
        if lines and len(one.conversation.turns) > 2 and rng.random() < _WITH_A_LINE
        else one
        for one in excerpts
    ]


def _with_line(excerpt: LabelledConversation, line: LabelledConversation, rng: random.Random) -> LabelledConversation:
    """The excerpt with the line's only turn inserted at random, said by one of its speakers."""
    turns = list(excerpt.conversation.turns)
    at = rng.randint(1, len(turns))
    turns.insert(at, Turn(speaker=turns[at - 1].speaker, text=line.conversation.turns[0].text))
    return replace(
        excerpt,
        conversation=excerpt.conversation.model_copy(update={"turns": tuple(turns)}),
        concerns=np.insert(excerpt.concerns, at, line.concerns[0], axis=0),
        severity=np.insert(excerpt.severity, at, line.severity[0]),
        sentiment=np.insert(excerpt.sentiment, at, line.sentiment[0]),
        commits=np.insert(excerpt.commits, at, line.commits[0]),
    )
