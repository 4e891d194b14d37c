"""Finds the words that raised a score, by occlusion: remove a phrase or an earlier turn, and score again.

The safeguarding model gets the trials from this module, scores them, and passes the scores back to get the spans to
show. The weight of a span is the measured fall of the score (Zeiler and Fergus, 2014).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.contract.records import Conversation, Evidence, Turn

_CONTEXT_TURNS: Final = 2
_PHRASE_WORDS: Final = 4
_MOST_PHRASES: Final = 6
_MOST_SHOWN: Final = 3
_SHARE_OF_LARGEST: Final = 0.3  # spans with a smaller share of the largest fall are not shown
_WORD: Final = re.compile(r"\S+")


@dataclass(frozen=True)
class Occlusion:
    """A conversation that ends at the assessed turn, with one part removed.

    `removed` is (turn, start, end): the characters `start:end` of that turn. None: nothing is removed.
    """

    conversation: Conversation
    removed: tuple[int, int, int] | None


def occlusions(conversation: Conversation, turn: int) -> list[Occlusion]:
    """The trials: the turn with its context unchanged, then without each phrase, then without each earlier turn."""
    first = max(0, turn - _CONTEXT_TURNS)
    local = conversation.turns[first : turn + 1]
    target = local[-1]
    trials = [Occlusion(_with_turns(conversation, local), None)]
    for start, end in phrases(target.text):
        shortened = Turn(speaker=target.speaker, text=f"{target.text[:start]}{target.text[end:]}")
        trials.append(Occlusion(_with_turns(conversation, (*local[:-1], shortened)), (turn, start, end)))
    for at in range(first, turn):
        rest = tuple(spoken for number, spoken in enumerate(local, start=first) if number != at)
        trials.append(Occlusion(_with_turns(conversation, rest), (at, 0, len(conversation.turns[at].text))))
    return trials


def phrases(text: str) -> list[tuple[int, int]]:
    """Character spans of consecutive words that cover the text in order: about four words each, at most six spans."""
    words = [match.span() for match in _WORD.finditer(text)]
    size = max(_PHRASE_WORDS, -(-len(words) // _MOST_PHRASES))
    groups = [words[start : start + size] for start in range(0, len(words), size)]
    return [(group[0][0], group[-1][1]) for group in groups]


def pick_evidence(
    trials: Sequence[Occlusion], log_odds: NDArray[np.float32], texts: Sequence[str]
) -> tuple[Evidence, ...]:
    """The spans whose removal lowered the log-odds most, strongest first; adjacent spans are joined.

    `log_odds`: (trials,) of one category. In the first trial nothing is removed.
    """
    score_drops = [
        (float(log_odds[0] - value), trial.removed)
        for trial, value in zip(trials, log_odds, strict=True)
        if trial.removed is not None and trial.removed[2] > trial.removed[1]
    ]
    largest = max((score_drop for score_drop, _ in score_drops), default=0.0)
    if largest <= 0.0:
        return ()
    chosen = [(score_drop, removed) for score_drop, removed in score_drops if score_drop >= _SHARE_OF_LARGEST * largest]
    found: list[Evidence] = []
    for score_drop, (turn, start, end) in sorted(chosen, key=lambda item: item[1]):
        text = texts[turn]
        if found and found[-1].turn == turn and not text[found[-1].end : start].strip():
            last = found.pop()
            start, score_drop = last.start, score_drop + last.weight  # noqa: PLW2901 - the joined span replaces both
        found.append(Evidence(turn=turn, start=start, end=end, text=text[start:end], weight=score_drop))
    return tuple(sorted(found, key=lambda item: -item.weight)[:_MOST_SHOWN])


def _with_turns(conversation: Conversation, turns: tuple[Turn, ...]) -> Conversation:
    return conversation.model_copy(update={"turns": turns})
