"""Compares the safeguarding classifier with its baseline: TF-IDF plus frozen MiniLM features and logistic regression.

    ./writecare bench classifier

The baseline is fitted in this run, on the conversations that the held-out models were trained on. Both are then
evaluated on the same held-out conversations; ours with the answers of models that were not trained on them. Differences
are from a paired bootstrap over conversations. Speed: both process the same conversations one after the other on one
thread, and alternate in who starts. The ratio is the median of the pairs, with an interval of the median from order
statistics.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression

from models.artefacts import weights as packaged
from models.contract.records import Conversation
from models.registry.champions import SHIPPED
from models.text.embedding import EmbeddingModel
from models.text.ngrams import NgramFeatures, NgramInput, ngram_inputs
from training.dataset import LabelledConversation
from training.metrics import (
    average_precisions,
    interval,
    mean_average_precisions,
    recalls_at_false_alarms,
    resampled,
)
from training.report.material import load_corpus, never_held_out
from training.report.predictions import find_version, held_out_predictions

PAIRS: Final = 11
CONVERSATIONS: Final = 24  # in each half of a pair
STRENGTH: Final = 10.0  # of the logistic regressions: the same as for our own n-grams


class BaselineClassifier:
    """The baseline: word and character TF-IDF and a frozen sentence vector of the turn, one logistic layer each."""

    def __init__(self, embedding: EmbeddingModel, learn: Sequence[LabelledConversation]) -> None:
        self._embedding = embedding
        inputs = _inputs([item.conversation for item in learn])
        self._features = NgramFeatures.fit(inputs)
        columns = self._columns(inputs)
        labels = np.concatenate([item.concerns for item in learn])
        layers = [
            LogisticRegression(C=STRENGTH, solver="liblinear", random_state=0).fit(columns, labels[:, at])
            for at in range(labels.shape[1])
        ]
        self._weights = np.stack([layer.coef_[0] for layer in layers], axis=1)
        self._bias = np.asarray([layer.intercept_[0] for layer in layers])

    def score(self, talks: Sequence[Conversation]) -> NDArray[np.float64]:
        """Probabilities (all turns of the conversations, 16); the last column is `any`."""
        logits = self._columns(_inputs(talks)) @ self._weights + self._bias
        return np.asarray(1.0 / (1.0 + np.exp(-logits)))

    def _columns(self, inputs: Sequence[NgramInput]) -> Any:
        vectors = self._embedding.embed([item.text for item in inputs])
        return hstack([self._features.transform(inputs), csr_matrix(np.asarray(vectors))], format="csr")


def _inputs(talks: Sequence[Conversation]) -> list[NgramInput]:
    return [row for talk in talks for row in ngram_inputs([turn.text for turn in talk.turns])]


def paired(ours: Callable[[], object], theirs: Callable[[], object]) -> list[tuple[float, float]]:
    """Seconds of both, `PAIRS` times; they alternate in who starts."""
    ours(), theirs()  # warm-up
    found = []
    for turn in range(PAIRS):
        if turn % 2 == 0:
            first = _seconds(ours)
            found.append((first, _seconds(theirs)))
        else:
            first = _seconds(theirs)
            found.append((_seconds(ours), first))
    return found


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, and the order statistics that contain the true median in at least 95 % of runs."""
    ranked = sorted(values)
    rank = int(binom.ppf(0.025, len(ranked), 0.5))
    return statistics.median(ranked), ranked[max(rank - 1, 0)], ranked[min(len(ranked) - rank, len(ranked) - 1)]


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    torch.set_num_threads(1)
    known, _ = load_corpus()
    reading = held_out_predictions(known)
    asked = {item.conversation.id for item in reading.material.items}
    learn = [item for item in known.items if item.conversation.id not in asked] + never_held_out()
    _log(f"fitting the baseline on {len(learn)} conversations (a minute or two) …")
    embedding = EmbeddingModel.load(packaged.sentence_encoder())
    blend = BaselineClassifier(embedding, learn)
    talks = [item.conversation for item in reading.material.items]
    theirs = blend.score(talks)

    weights, truth = resampled(reading.owner), reading.true_concern
    print(f"held out: {len(talks)} conversations, {len(truth)} turns; baseline: TF-IDF ⊕ frozen MiniLM + LR")
    print(f"{'figure':18} {'ours':>7} {'baseline':>10} {'difference':>11}  95 % interval")
    figures: dict[str, Callable[[NDArray[Any]], Any]] = {
        "AP any": lambda chance: average_precisions(truth[:, -1], chance[:, -1], weights),
        "recall at 1 %": lambda chance: recalls_at_false_alarms(truth[:, -1], chance[:, -1], weights, 0.01),
        "recall at 5 %": lambda chance: recalls_at_false_alarms(truth[:, -1], chance[:, -1], weights, 0.05),
        "mAP, 15": lambda chance: mean_average_precisions(truth[:, :-1], chance[:, :-1], weights),
    }
    for name, figure in figures.items():
        one, other = figure(reading.concern), figure(theirs)
        gap = interval(one - other)
        print(f"{name:18} {one[0]:7.3f} {other[0]:10.3f} {gap.value:+11.3f}  {gap.low:+.3f} to {gap.high:+.3f}")

    model = find_version(str(SHIPPED), SHIPPED).load().safeguarding
    few = talks[:CONVERSATIONS]
    turns = sum(len(talk.turns) for talk in few)
    _log(f"reading {turns} turns {PAIRS} times each …")
    pairs = paired(lambda: model.score(few), lambda: blend.score(few))
    ratio, low, high = median_interval([mine / other for mine, other in pairs])
    mine, other = (statistics.median(pair[at] for pair in pairs) for at in (0, 1))
    print(f"{'turns a second':18} {turns / mine:7.0f} {turns / other:10.0f}")
    print(f"time over the baseline's: {ratio:.2f} (95 % interval of the median {low:.2f} to {high:.2f}, {PAIRS} pairs)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
