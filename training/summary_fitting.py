"""Fit the ranking of turns for summaries on held-out answers, against what people wrote; ROUGE-1 as the judge."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from models.artefacts import Manifest
from models.records import TurnAssessment
from models.summarisation import SummarisationModel, turn_features
from training.calibration import Answers
from training.dataset import Labelled
from training.metrics import bootstrap
from training.risk_fitting import held_out_turns

_STRENGTH = 10.0


def rouge_1(text: str, reference: str) -> float:
    """F1 of shared words, lower case, counted with multiplicity (Lin, 2004; no stemming)."""
    counted, wanted = (Counter(_words(side)) for side in (text, reference))
    shared = sum((counted & wanted).values())
    return 2 * shared / (sum(counted.values()) + sum(wanted.values())) if shared else 0.0


@dataclass(frozen=True)
class HeldOutSummaries:
    """ROUGE-1 of each conversation's summary, by a ranking fitted on others, and of its two longest turns.

    `owner`: (conversations,) positions in the data set, ascending. `features` and `gains`: what a ranking is fitted
    on, an array a conversation.
    """

    owner: NDArray[np.int64]
    rouge: NDArray[np.float64]
    rouge_longest: NDArray[np.float64]
    features: list[NDArray[Any]]
    gains: list[NDArray[Any]]


def held_out_summaries(
    answers: Answers, dataset: Sequence[Labelled], thresholds: Mapping[str, float]
) -> HeldOutSummaries:
    """How well conversations are summarised by models that did not learn from them."""
    owners, assessed, _ = held_out_turns(answers, thresholds)
    items = [dataset[at] for at in owners]
    features = [turn_features(item.conversation, rows) for item, rows in zip(items, assessed, strict=True)]
    gains = [_gains(item) for item in items]
    fold = np.asarray([int(answers.fold[answers.conversation == at][0]) for at in owners])
    ours = np.zeros(len(items))
    for held_out in np.unique(fold):
        ranking = _fit(features, gains, np.flatnonzero(fold != held_out))
        for at in np.flatnonzero(fold == held_out):
            ours[at] = rouge_1(_told(items[at], assessed[at], ranking), items[at].summary)
    longest = np.asarray([rouge_1(two_longest_turns(item), item.summary) for item in items])
    return HeldOutSummaries(np.asarray(owners), ours, longest, features, gains)


def fit_summary(
    answers: Answers, dataset: Sequence[Labelled], thresholds: Mapping[str, float]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays to ship, and cross-fitted ROUGE-1 beside the two longest turns."""
    found = held_out_summaries(answers, dataset, thresholds)
    ours, longest = found.rouge, found.rouge_longest
    figures = {
        "rouge_1": bootstrap(found.owner, lambda rows: float(ours[rows].mean())).__dict__,
        "rouge_1_two_longest_turns": float(longest.mean()),
        "ratio": bootstrap(found.owner, lambda rows: float(ours[rows].mean() / longest[rows].mean())).__dict__,
    }
    return {"ranking": _fit(found.features, found.gains, np.arange(len(ours)))}, figures


def _fit(features: Sequence[NDArray[Any]], gains: Sequence[NDArray[Any]], chosen: NDArray[Any]) -> NDArray[np.float32]:
    layer = Ridge(alpha=_STRENGTH).fit(
        np.concatenate([features[at] for at in chosen]), np.concatenate([gains[at] for at in chosen])
    )
    return np.asarray([*layer.coef_, layer.intercept_], dtype=np.float32)


def _gains(item: Labelled) -> NDArray[np.float64]:
    """Each turn's ROUGE-1 by itself, relative to the best of its conversation."""
    each = np.asarray([rouge_1(turn.text, item.summary) for turn in item.conversation.turns])
    return each / max(float(each.max()), 1e-9)


def _told(item: Labelled, assessed: Sequence[TurnAssessment], ranking: NDArray[np.float32]) -> str:
    manifest = Manifest("summarisation", "fitting", "", {})
    return SummarisationModel(ranking, manifest).summarise(item.conversation, assessed).text


def two_longest_turns(item: Labelled) -> str:
    """The yardstick of summaries: what was said at most length, longest first."""
    return " ".join(sorted((turn.text for turn in item.conversation.turns), key=len, reverse=True)[:2])


def _words(text: str) -> list[str]:
    return "".join(sign if sign.isalnum() else " " for sign in text.lower()).split()
