"""Fits on held-out answers which words people use in summaries. ROUGE-1 scores the resulting summaries.

Word counts come from all conversations except the evaluated ones; for fitting, a conversation's own summary is taken
out of its counts. The layer over the counts is fitted only on held-out answers: a model's scores of turns that it was
trained on are too good.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from models.artefacts.files import Manifest
from models.contract.records import TurnAssessment
from models.text.summarisation import SummarisationModel, WordImportance, plain_words, speaker_name, word_features
from training.calibration import HeldOutAnswers
from training.dataset import LabelledConversation
from training.metrics import bootstrap, bootstrap_mean
from training.risk_fitting import held_out_turns

_STRENGTH = 1.0


def rouge_1(text: str, reference: str) -> float:
    """F1 of shared words, lower case, counted with multiplicity (Lin, 2004; no stemming)."""
    counted, wanted = (Counter(plain_words(side)) for side in (text, reference))
    shared = sum((counted & wanted).values())
    return 2 * shared / (sum(counted.values()) + sum(wanted.values())) if shared else 0.0


@dataclass(frozen=True)
class HeldOutSummaries:
    """ROUGE-1 of each conversation's summary by words fitted on others, and of its two longest turns.

    `owner`: (conversations,) positions in the data set, ascending. `texts`: the summaries.
    """

    owner: NDArray[np.int64]
    rouge: NDArray[np.float64]
    rouge_longest: NDArray[np.float64]
    texts: list[str]


def held_out_summaries(
    answers: HeldOutAnswers, dataset: Sequence[LabelledConversation], thresholds: Mapping[str, float]
) -> HeldOutSummaries:
    """Evaluates the summaries of conversations by models that were not trained on them."""
    owners, assessed, _ = held_out_turns(answers, thresholds)
    items = [dataset[at] for at in owners]
    fold = np.asarray([int(answers.fold[answers.conversation == at][0]) for at in owners])
    texts = [""] * len(items)
    for held_out in np.unique(fold):
        asked = np.flatnonzero(fold == held_out)
        unseen = {owners[at] for at in asked}
        learn = np.flatnonzero(fold != held_out) if np.unique(fold).size > 1 else asked
        importance = _fit(
            [item for at, item in enumerate(dataset) if at not in unseen],
            [items[at] for at in learn],
            [assessed[at] for at in learn],
        )
        for at in asked:
            texts[at] = _summarise(items[at], assessed[at], importance)
    ours = np.asarray([rouge_1(text, item.summary) for text, item in zip(texts, items, strict=True)])
    longest = np.asarray([rouge_1(two_longest_turns(item), item.summary) for item in items])
    return HeldOutSummaries(np.asarray(owners), ours, longest, texts)


def fit_summary(
    answers: HeldOutAnswers, dataset: Sequence[LabelledConversation], thresholds: Mapping[str, float]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Returns the arrays to ship, and cross-fitted ROUGE-1 beside that of the two longest turns."""
    found = held_out_summaries(answers, dataset, thresholds)
    ours, longest = found.rouge, found.rouge_longest
    figures = {
        "rouge_1": bootstrap_mean(found.owner, ours).__dict__,
        "rouge_1_two_longest_turns": float(longest.mean()),
        "ratio": bootstrap(found.owner, lambda rows: float(ours[rows].mean() / longest[rows].mean())).__dict__,
    }
    owners, assessed, _ = held_out_turns(answers, thresholds)
    return _fit(dataset, [dataset[at] for at in owners], assessed).as_arrays(), figures


def _fit(
    counted: Sequence[LabelledConversation],
    items: Sequence[LabelledConversation],
    assessed: Sequence[Sequence[TurnAssessment]],
) -> WordImportance:
    """Word counts of `counted`, and the layer fitted on `items`, each without its own part of the counts."""
    seen: Counter[str] = Counter()
    summarised_in: Counter[str] = Counter()
    for item in counted:
        said, summarised = _conversation_words(item), set(plain_words(item.summary))
        seen.update(said)
        summarised_in.update(said & summarised)
    known = {id(item) for item in counted}
    rows, truth = [], []
    for item, assessments in zip(items, assessed, strict=True):
        own, summarised = (_conversation_words(item) if id(item) in known else set()), set(plain_words(item.summary))
        others_seen = {word: seen[word] - (word in own) for word in _conversation_words(item)}
        others_told = {
            word: summarised_in[word] - (word in own and word in summarised) for word in _conversation_words(item)
        }
        words, features = word_features(item.conversation, assessments, others_seen, others_told)
        rows.append(features)
        truth += [word in summarised for word in words]
    layer = LogisticRegression(C=_STRENGTH, max_iter=1000).fit(np.concatenate(rows), truth)
    return WordImportance(seen, summarised_in, np.asarray([*layer.coef_[0], layer.intercept_[0]], dtype=np.float32))


def _conversation_words(item: LabelledConversation) -> set[str]:
    """The words of a conversation without its participants' names."""
    names = {word for person in item.conversation.participants for word in plain_words(person.name or "")}
    return {word for turn in item.conversation.turns for word in plain_words(turn.text)} - names


def _summarise(item: LabelledConversation, assessed: Sequence[TurnAssessment], importance: WordImportance) -> str:
    manifest = Manifest("summarisation", "fitting", "", {})
    return SummarisationModel(importance, manifest).summarise(item.conversation, assessed).text


def two_longest_turns(item: LabelledConversation) -> str:
    """The baseline summary: the two longest turns, longest first."""
    return " ".join(sorted((turn.text for turn in item.conversation.turns), key=len, reverse=True)[:2])


def quoted_longest_turns(item: LabelledConversation) -> str:
    """The same two turns in the form of a summary: in the conversation's order, quoted with the speakers' names."""
    talk = item.conversation
    longest = sorted(range(len(talk.turns)), key=lambda at: len(talk.turns[at].text), reverse=True)[:2]
    return " ".join(f"{speaker_name(talk, talk.turns[at].speaker)}: “{talk.turns[at].text}”" for at in sorted(longest))
