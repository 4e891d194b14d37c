"""Compares extracted actions (who does what by when) with those of annotators: `python -m training.evaluate_actions`.

The rules of `models/text/actions` and `models/text/deadlines` run on every turn that truly contains a commitment, so
that their figures do not depend on the classifier before them. The rules were written with the conversations outside
fold 0. Fold 0 is held out; quote its figures.

`--data DIR` uses all conversations of another folder. The guide has due times 'as said'. Annotators also wrote due
times that the turn does not say, because they follow from what was said long before. The rules cannot find those: such
turns count in `due` and not in `due_as_said`.
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from models.artefacts.weights import spacy_model
from models.contract.records import ActionItem
from models.text.actions import CommitmentExtractor
from training.dataset import CORPORA, LabelledConversation, read_dataset
from training.metrics import bootstrap_mean
from training.splits import assign_folds

_SAME_SENSE: Final = (  # annotators write the meaning of these, not the words
    (r"\b(?:tmrw|tomoro|tomoz|2moro|the morn|the morra)\b", "tomorrow"),
    (r"\b(?:the night|this evening|2nite|tonite)\b", "tonight"),
    (r"\b(?:this|the) aft(?:ernoon)?\b", "afternoon"),
    (r"\b(?:straight ?away|right (?:away|now|this \w+)|immediately|asap|(?:this|the) (?:very )?(?:minute|second))\b",
     "now"),
    (r"\b(?:as )?(?:soon as|when|once|after|the (?:minute|second)|straight after)\b[^,.]*\b(?:hang up|off the phone"
     r"|off this phone|off here|phone down|(?:we|call) (?:finish(?:es)?|ends?)|the call|this call|put the phone)\b.*",
     "callend"),
    (r"\bmon\b", "monday"), (r"\btues?\b", "tuesday"), (r"\bweds?\b", "wednesday"), (r"\bthurs?\b", "thursday"),
    (r"\bfri\b", "friday"), (r"\bsat\b", "saturday"), (r"\bsun\b", "sunday"),
    (r"\bmins?\b", "minute"), (r"\bhrs?\b", "hour"), (r"\b1st\b", "first"), (r"\b(\d+)(?:am|pm)\b", r"\1"),
    (r"\b(?:mid-?day|12 noon)\b", "noon"), (r"['’]s\b", ""),
)  # fmt: skip
_NUMBERS: Final = {
    word: str(at)
    for at, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    )
} | {"fifteen": "15", "twenty": "20", "thirty": "30", "forty": "40", "fifty": "50"}
_EMPTY_WORDS: Final = (
    "a an the at on in by of for to from about around it is i i'm i'll you he she they we me my your his her their our "
    "us them o'clock oclock just then and that this as i've we're we've he's she's they're you're am pm"
)
_EMPTY: Final = frozenset(_EMPTY_WORDS.split())


def due_words(due: str | None) -> frozenset[str]:
    """The words of a due time that carry its meaning: abbreviations expanded, number words as digits, verbs stemmed.

    Empty for None. Prepositions, articles and persons are left out: annotators turn 'before I go' into
    'before she goes'.
    """
    text = (due or "").lower().replace("’", "'")
    for pattern, plain in _SAME_SENSE:
        text = re.sub(pattern, plain, text)
    words = re.findall(r"[a-z0-9']+", text)
    return frozenset(_stem(_NUMBERS.get(word, word)) for word in words if word not in _EMPTY)


def due_agrees(extracted: str | None, annotated: str | None) -> bool:
    """Whether both name no time, or share at least half of their words (Dice) after `due_words`."""
    if extracted is None or annotated is None:
        return extracted is None and annotated is None
    ours, theirs = due_words(extracted), due_words(annotated)
    return ours == theirs or 4 * len(ours & theirs) >= len(ours) + len(theirs)


@dataclass(frozen=True)
class TurnResult:
    """What was right about one turn with a commitment.

    `due_equal`: the same words, not only half of them. `due_nearest`: only the item nearest in words counts.
    `said`: whether the turn itself says every due time that was written.
    """

    conversation: int
    turn: int
    owner: bool
    due: bool
    due_equal: bool
    due_nearest: bool
    said: bool = True


def compare_turn(
    at: int, turn: int, annotated: Sequence[dict[str, Any]], extracted: Sequence[ActionItem]
) -> TurnResult:
    """Every annotated action of the turn needs an item with its owner and due time.

    If there are as many items as actions, they are paired one to one, first by words, then by order. Otherwise each
    item belongs to the action most like it in words, because annotators often write two tasks as one action with one
    due time; one of its items must have the due time. An action without an item is compared with the item most like it.
    """
    if not extracted:
        return TurnResult(at, turn, False, False, False, False)
    nearest = [max(extracted, key=lambda item: _shared_words(item, action)) for action in annotated]
    if len(extracted) == len(annotated):
        alike = [
            [_shared_words(item, action) - 0.1 * abs(row - column) for column, item in enumerate(extracted)]
            for row, action in enumerate(annotated)
        ]
        covering = [[extracted[column]] for column in linear_sum_assignment(np.asarray(alike), maximize=True)[1]]
    else:
        goes_to = [
            max(range(len(annotated)), key=lambda place: _shared_words(item, annotated[place])) for item in extracted
        ]
        covering = [
            [item for item, to in zip(extracted, goes_to, strict=True) if to == place] or [nearest[place]]
            for place in range(len(annotated))
        ]
    pairs = list(zip(covering, annotated, strict=True))
    return TurnResult(
        at,
        turn,
        owner=all(items[0].owner == action["owner"] for items, action in pairs),
        due=all(any(due_agrees(item.due, action["due"]) for item in items) for items, action in pairs),
        due_equal=all(
            any(due_words(item.due) == due_words(action["due"]) for item in items) for items, action in pairs
        ),
        due_nearest=all(due_agrees(item.due, action["due"]) for item, action in zip(nearest, annotated, strict=True)),
    )


def compare_turns(
    dataset: Sequence[LabelledConversation], chosen: Sequence[int], extractor: CommitmentExtractor
) -> list[TurnResult]:
    """All committing turns of the chosen conversations."""
    results = []
    for at in chosen:
        item = dataset[at]
        for turn in sorted({action["turn"] for action in item.actions}):
            annotated = [action for action in item.actions if action["turn"] == turn]
            words = due_words(item.conversation.turns[turn].text)
            said = all(due_words(action["due"]) <= words for action in annotated)
            found = compare_turn(at, turn, annotated, extractor.items(item.conversation, turn))
            results.append(replace(found, said=said))
    return results


def action_figures(results: Sequence[TurnResult]) -> dict[str, Any]:
    """Shares of turns with a commitment, with intervals over conversations."""
    groups = np.asarray([row.conversation for row in results])
    columns = {
        "owner": np.asarray([row.owner for row in results]),
        "due": np.asarray([row.due for row in results]),
        "owner_and_due": np.asarray([row.owner and row.due for row in results]),
        "due_nearest_item": np.asarray([row.due_nearest for row in results]),
        "due_same_words": np.asarray([row.due_equal for row in results]),
    }
    figures: dict[str, Any] = {"turns": len(results), "conversations": int(np.unique(groups).size)}
    for name, right in columns.items():
        figures[name] = bootstrap_mean(groups, right).__dict__
    said = np.asarray([row.said for row in results])
    figures["turns_that_say_their_due"] = int(said.sum())
    if said.any():
        figures["due_as_said"] = bootstrap_mean(groups[said], columns["due"][said]).__dict__
    return figures


def _shared_words(item: ActionItem, action: dict[str, Any]) -> int:
    """The number of words that both texts share, without time words."""
    ours, theirs = (set(map(_stem, re.findall(r"[a-z0-9']+", text.lower()))) for text in (item.text, action["text"]))
    return len(ours & theirs)


def _stem(word: str) -> str:
    for ending in ("ing", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) > 2 and word not in {"minutes", "morning", "evening"}:
            return word[: -len(ending)]
    return "minute" if word == "minutes" else word


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m training.evaluate_actions", description=__doc__)
    arguments.add_argument(
        "--learning", action="store_true", help="use the conversations that the rules were written with"
    )
    arguments.add_argument("--data", type=Path, metavar="DIR", help="use all conversations of another folder")
    options = arguments.parse_args()
    if options.data is not None:
        other = read_dataset(options.data)
        found = compare_turns(other, range(len(other)), CommitmentExtractor.load(spacy_model()))
        print(json.dumps(action_figures(found), indent=2))
        return 0
    dataset = read_dataset(CORPORA[0])  # the rules were written with these conversations, except the evaluated ones
    folds = assign_folds([item.conversation.id for item in dataset], [item.risk for item in dataset], folds=4)
    chosen = [at for at, fold in enumerate(folds) if (fold != 0) == options.learning]
    print(json.dumps(action_figures(compare_turns(dataset, chosen, CommitmentExtractor.load(spacy_model()))), indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
