"""Evaluates sentiment on real NHS comments, five classes: `python -m training.evaluate_nhs --nhs DIR`.

This model does not ship: it shows how well our methods work on real text of British patients. Five folds by the hash of
a comment's words, so that equal words are never on both sides. Every comment is predicted by models trained on the
others. Macro-F1 with 95 % intervals over distinct texts.
"""

import argparse
import csv
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from models.artefacts.weights import sentence_encoder
from models.text.embedding import EmbeddingModel
from training.metrics import bootstrap, macro_f1

FILE: Final = "v6_for_developers.csv"
CLASSES: Final = 5  # very positive, positive, neutral or mixed, negative, very negative
_FOLDS: Final = 5
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Comment:
    """`asked`: the form's question, which the writer answered. `label`: 0 very positive … 4 very negative."""

    text: str
    asked: str
    label: int

    @property
    def key(self) -> str:
        """Only the comment's words: comments with equal words are one text."""
        return re.sub(r"\W+", " ", self.text.lower()).strip()

    @property
    def fold(self) -> int:
        return int(hashlib.sha256(self.key.encode()).hexdigest(), 16) % _FOLDS


def read_comments(directory: Path) -> list[Comment]:
    """Every comment of the file that has words and a sentiment."""
    with (directory / FILE).open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["Comment sentiment"].strip() and row["FFT answer"].strip()]
    return [
        Comment(row["FFT answer"], " ".join(row["FFT question"].split()), int(float(row["Comment sentiment"])) - 1)
        for row in rows
    ]


def held_out(comments: Sequence[Comment], answer: Callable[[NDArray[np.int64], NDArray[np.int64]], Scores]) -> Scores:
    """(comments, 5): each fold's probabilities from `answer(learn, asked)`, positions into `comments`."""
    folds = np.asarray([comment.fold for comment in comments])
    scores = np.zeros((len(comments), CLASSES))
    for fold in range(_FOLDS):
        asked = np.flatnonzero(folds == fold)
        if asked.size:
            scores[asked] = answer(np.flatnonzero(folds != fold), asked)
    return scores


def ngram_classifier(comments: Sequence[Comment], *, question: bool) -> Callable[[Any, Any], Scores]:
    """Word and letter n-grams with one balanced logistic layer per class; the question is one more word."""
    texts = [f"{comment.text} asked_{_name(comment.asked)}" if question else comment.text for comment in comments]
    labels = np.asarray([comment.label for comment in comments])

    def answer(learn: NDArray[np.int64], asked: NDArray[np.int64]) -> Scores:
        total = np.zeros((len(asked), CLASSES))
        for view in (
            TfidfVectorizer(ngram_range=(1, 3), min_df=2, sublinear_tf=True, dtype=np.float32),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=4, sublinear_tf=True, dtype=np.float32),
        ):
            known = view.fit_transform([texts[at] for at in learn])
            layer = _layer(4.0).fit(known, labels[learn])
            total += layer.predict_proba(view.transform([texts[at] for at in asked]))
        return total / total.sum(axis=1, keepdims=True)

    return answer


def vector_classifier(
    comments: Sequence[Comment], vectors: NDArray[np.float32], *, question: bool
) -> Callable[[Any, Any], Scores]:
    """MiniLM's frozen sentence vectors with one balanced logistic layer per class; the question is one-hot."""
    names = sorted({comment.asked for comment in comments})
    one_hot = np.asarray([[comment.asked == name for name in names] for comment in comments], dtype=np.float32)
    rows = np.hstack([vectors * 4.0, one_hot]) if question else vectors * 4.0
    labels = np.asarray([comment.label for comment in comments])

    def answer(learn: NDArray[np.int64], asked: NDArray[np.int64]) -> Scores:
        found: Scores = _layer(1.0).fit(rows[learn], labels[learn]).predict_proba(rows[asked])
        return found

    return answer


def figure(comments: Sequence[Comment], predicted: NDArray[np.int64]) -> dict[str, float]:
    """Macro-F1 over the five classes with its interval. Equal texts are resampled together."""
    truth = np.asarray([comment.label for comment in comments])
    groups = np.unique([comment.key for comment in comments], return_inverse=True)[1]
    return bootstrap(groups, lambda rows: macro_f1(truth[rows], predicted[rows]), resamples=300).__dict__


def nearest_class(scores: Scores) -> NDArray[np.int64]:
    """The class nearest to the mean position on the scale from very positive to very negative."""
    places: NDArray[np.int64] = np.rint(scores @ np.arange(CLASSES)).astype(np.int64)
    return places


def _layer(strength: float) -> OneVsRestClassifier:
    return OneVsRestClassifier(LogisticRegression(C=strength, class_weight="balanced", solver="liblinear"))


def _name(question: str) -> str:
    return re.sub(r"\W+", "", question.lower())[:24]


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m training.evaluate_nhs", description=__doc__)
    arguments.add_argument("--nhs", type=Path, required=True, metavar="DIR", help=f"the folder with {FILE}")
    options = arguments.parse_args()
    comments = read_comments(options.nhs)
    vectors = EmbeddingModel(sentence_encoder()).embed([comment.text for comment in comments])
    words = held_out(comments, ngram_classifier(comments, question=False))
    asked_words = held_out(comments, ngram_classifier(comments, question=True))
    frozen = held_out(comments, vector_classifier(comments, vectors, question=False))
    asked_frozen = held_out(comments, vector_classifier(comments, vectors, question=True))
    blend = asked_words + asked_frozen
    figures = {
        "comments": len(comments),
        "texts": len({comment.key for comment in comments}),
        "n-grams": figure(comments, words.argmax(axis=1)),
        "n-grams and question": figure(comments, asked_words.argmax(axis=1)),
        "MiniLM": figure(comments, frozen.argmax(axis=1)),
        "MiniLM and question": figure(comments, asked_frozen.argmax(axis=1)),
        "n-grams + MiniLM": figure(comments, (words + frozen).argmax(axis=1)),
        "n-grams + MiniLM and question": figure(comments, blend.argmax(axis=1)),
        "the last, nearest place on the scale": figure(comments, nearest_class(blend / 2)),
    }
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
