"""Cuts and joins turns of a conversation, as a speech recogniser does at pauses.

In the written corpus a concern is nearly always a turn of its own. A model trained only on such turns misses a concern
at the end of a long voicemail. A cut turn keeps its concern in the half that voices it. Joined turns are long, and hide
a concern among harmless words.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.contract.records import Turn
from training.dataset import LabelledConversation

UNKNOWN_SENTIMENT: Final = -100  # ignored by the loss
_SHORTEST_CUT: Final = 12  # words
_CUT: Final = 0.5
_JOIN: Final = (0.15, 0.15, 0.15, 0.7)  # one of these per conversation: sometimes it becomes a few very long turns
_BREAK: Final = re.compile(r"(?<=[.!?,;])\s+|\s+(?=(?:and|but|so|then|cos|because)\s)")

_Row = tuple[NDArray[np.float32], int, int, float]  # concerns, severity, sentiment, whether it has a commitment
ConcernScorer = Callable[[Sequence[str]], NDArray[np.float32]]


def resegmented(item: LabelledConversation, rank: ConcernScorer, rng: random.Random) -> LabelledConversation:
    """`item` cut and joined at random. `rank` says how much each text sounds like a concern.

    A label that is doubtful after a cut or a join becomes unknown: nan, or -100 for a sentiment.
    """
    turns: list[Turn] = []
    rows: list[_Row] = []
    join = rng.choice(_JOIN)
    for at, turn in enumerate(item.conversation.turns):
        row = (item.concerns[at], int(item.severity[at]), int(item.sentiment[at]), float(item.commits[at]))
        halves = _split_turn(turn.text, rng) if rng.random() < _CUT else None
        if halves is not None:
            turns += [Turn(speaker=turn.speaker, text=half) for half in halves]
            rows += _cut_labels(row, rank(halves))
        elif turns and not np.isnan(rows[-1][0]).any() and rng.random() < join:
            last = turns.pop()
            turns.append(Turn(speaker=last.speaker, text=f"{last.text} {turn.text}"))
            rows.append(_joined(rows.pop(), row))
        else:
            turns.append(turn)
            rows.append(row)
    return replace(
        item,
        conversation=item.conversation.model_copy(update={"turns": tuple(turns)}),
        concerns=np.stack([row[0] for row in rows]),
        severity=np.asarray([row[1] for row in rows], dtype=np.int64),
        sentiment=np.asarray([row[2] for row in rows], dtype=np.int64),
        commits=np.asarray([row[3] for row in rows], dtype=np.float32),
    )


def _split_turn(text: str, rng: random.Random) -> tuple[str, str] | None:
    """Splits the text at a punctuation mark or a conjunction not too near its ends. None if it is short or has none."""
    if len(text.split()) < _SHORTEST_CUT:
        return None
    cuts = [
        match.span()
        for match in _BREAK.finditer(text)
        if len(text[: match.start()].split()) >= 4 and len(text[match.end() :].split()) >= 4
    ]
    if not cuts:
        return None
    start, end = rng.choice(cuts)
    return text[:start], text[end:]


def _joined(first: _Row, second: _Row) -> _Row:
    """The labels of both turns together; the sentiment only if they agree."""
    sentiment = first[2] if first[2] == second[2] else UNKNOWN_SENTIMENT
    return np.maximum(first[0], second[0]), max(first[1], second[1]), sentiment, float(np.maximum(first[3], second[3]))


def _cut_labels(row: _Row, concern_scores: NDArray[np.float32]) -> list[_Row]:
    concerns, severity, sentiment, commits = row
    commits = commits and float("nan")  # either half may contain the commitment
    if not concerns.any():
        return [(concerns, -1, sentiment, commits)] * 2
    unknown = (np.full_like(concerns, np.nan), -1, UNKNOWN_SENTIMENT, commits)
    labelled_half = (concerns, severity, sentiment, commits)
    return [labelled_half, unknown] if concern_scores[0] >= concern_scores[1] else [unknown, labelled_half]
