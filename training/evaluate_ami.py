"""Evaluates action items in real meetings, by AP of evidence utterances: `python -m training.evaluate_ami --ami DIR`.

An utterance is positive if annotators linked it to an action item of the meeting. Trained on the training meetings,
evaluated on the development meetings, which share no people with them. This model does not ship: the figures show how
well the shipped commitment model works on meetings, and what training on meetings adds. About a hundredth of the
utterances are positive in training and fewer in the evaluated meetings, so chance is an AP below 0.01.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from models.artefacts.weights import sentence_encoder
from models.contract.json_lines import read_json_lines
from models.contract.records import Conversation, Participant, Turn
from models.text.analysis import TextModels
from models.text.embedding import EmbeddingModel
from training.metrics import average_precisions, interval, resampled

ACTS: Final = ("inf", "ass", "bck", "fra", "sug", "stl", "el.inf", "und", "el.ass", "oth", "be.pos", "off", "el.sug")
ROLES: Final = ("PM", "ID", "ME", "UI")
_AROUND: Final = (-8, -4, -3, -2, -1, 0, 1, 2, 3, 4, 8)  # neighbours whose first-stage scores the second stage reads
_PARTS: Final = 4
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Meeting:
    """`truth`: (utterances,) whether each is evidence of an action item."""

    identifier: str
    utterances: tuple[Mapping[str, Any], ...]
    truth: NDArray[np.bool_]

    @property
    def texts(self) -> list[str]:
        return [utterance["text"] for utterance in self.utterances]


def read_meetings(file: Path) -> list[Meeting]:
    """The meetings with links from items to utterances; without links the evidence is unknown."""
    rows = read_json_lines(file)
    return [Meeting(row["meeting_id"], tuple(row["utterances"]), _evidence(row)) for row in rows if row["has_links"]]


def in_windows(texts: Sequence[str], reach: int) -> list[str]:
    """Each utterance with `reach` before and after it, as one text."""
    return [" ".join(texts[max(0, at - reach) : at + reach + 1]) for at in range(len(texts))]


def utterance_features(meeting: Meeting) -> Floats:
    """(utterances, …): dialogue act, role, position from the start and from the end, number of words."""
    last = max(1, len(meeting.utterances) - 1)
    rows = [
        [
            *(utterance["da"] == act for act in ACTS),
            *(utterance["role"] == role for role in ROLES),
            at / last,
            max(0.0, 1.0 - (last - at) / 100),
            min(len(utterance["text"].split()), 40) / 20,
        ]
        for at, utterance in enumerate(meeting.utterances)
    ]
    return np.asarray(rows, dtype=np.float32)


def neighbour_scores(scores: Floats) -> Floats:
    """(utterances, 11): the scores of the utterances around each; beyond the meeting's ends the lowest score."""
    padded = np.pad(scores, 8, constant_values=float(scores.min(initial=0.0)))
    return np.stack([padded[8 + step : 8 + step + len(scores)] for step in _AROUND], axis=1)


class FirstStage:
    """Logistic layers over an utterance's n-grams, its window's n-grams, and MiniLM vectors with other features."""

    def __init__(self, meetings: Sequence[Meeting], vectors: Mapping[str, Floats]) -> None:
        truth = np.concatenate([meeting.truth for meeting in meetings])
        self._own = TfidfVectorizer(ngram_range=(1, 3), min_df=3, sublinear_tf=True, dtype=np.float32)
        self._around = TfidfVectorizer(ngram_range=(1, 2), min_df=5, sublinear_tf=True, dtype=np.float32)
        own = self._own.fit_transform([text for meeting in meetings for text in meeting.texts])
        around = self._around.fit_transform([text for meeting in meetings for text in in_windows(meeting.texts, 3)])
        dense = np.concatenate([_vector_features(meeting, vectors[meeting.identifier]) for meeting in meetings])
        self._layers = [
            LogisticRegression(C=strength, class_weight="balanced", solver=solver, max_iter=100).fit(inputs, truth)
            for inputs, strength, solver in ((own, 3.0, "liblinear"), (around, 3.0, "liblinear"), (dense, 0.1, "lbfgs"))
        ]

    def scores(self, meeting: Meeting, vectors: Floats) -> Floats:
        """(utterances, 3) logits: own words, window's words, vectors."""
        inputs = (
            self._own.transform(meeting.texts),
            self._around.transform(in_windows(meeting.texts, 3)),
            _vector_features(meeting, vectors),
        )
        return np.stack(
            [layer.decision_function(rows) for layer, rows in zip(self._layers, inputs, strict=True)], axis=1
        )


def two_stage_scores(
    learn: Sequence[Meeting], ask: Sequence[Meeting], vectors: Mapping[str, Floats]
) -> dict[str, list[Floats]]:
    """Scores of the evaluated meetings by each part, and by the boosted second stage over all parts and neighbours.

    The second stage is trained on first-stage scores of meetings on which the first stage was not trained (four folds
    by group of meetings, so that a team's meetings stay together).
    """
    teams = sorted({meeting.identifier[:-1] for meeting in learn})
    part = {team: at % _PARTS for at, team in enumerate(teams)}
    rows, truth = [], []
    for held_out in range(_PARTS):
        step = FirstStage([m for m in learn if part[m.identifier[:-1]] != held_out], vectors)
        for meeting in (m for m in learn if part[m.identifier[:-1]] == held_out):
            rows.append(_second_stage_features(meeting, step.scores(meeting, vectors[meeting.identifier])))
            truth.append(meeting.truth)
    second = HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=60, l2_regularization=5.0, random_state=0
    ).fit(np.concatenate(rows), np.concatenate(truth))
    step = FirstStage(learn, vectors)
    first = [step.scores(meeting, vectors[meeting.identifier]) for meeting in ask]
    return {
        "own n-grams": [scores[:, 0] for scores in first],
        "n-grams of the window": [scores[:, 1] for scores in first],
        "MiniLM, act, role, place": [scores[:, 2] for scores in first],
        "sum of the three": [scores.sum(axis=1) for scores in first],
        "boosted over all and their neighbours": [
            second.predict_proba(_second_stage_features(meeting, scores))[:, 1]
            for meeting, scores in zip(ask, first, strict=True)
        ],
    }


def shipped_scores(meetings: Sequence[Meeting], models: TextModels) -> list[Floats]:
    """The shipped action model's probability that each utterance is a commitment, without further training."""
    return [models.actions.commitment_probabilities([as_conversation(meeting)])[0] for meeting in meetings]


def as_conversation(meeting: Meeting) -> Conversation:
    """The meeting in the form that the text models read. They have no roles of a design team."""
    speakers = sorted({utterance["speaker"] for utterance in meeting.utterances})
    return Conversation(
        id=meeting.identifier,
        channel="meeting",
        participants=tuple(Participant(speaker=name) for name in speakers),
        turns=tuple(Turn(speaker=utterance["speaker"], text=utterance["text"]) for utterance in meeting.utterances),
    )


def figure(meetings: Sequence[Meeting], scores: Sequence[Floats]) -> dict[str, float]:
    """AP over all utterances, with the interval from resampling meetings."""
    groups = np.repeat(np.arange(len(meetings)), [len(meeting.truth) for meeting in meetings])
    truth = np.concatenate([meeting.truth for meeting in meetings]).astype(np.float32)
    return interval(average_precisions(truth, np.concatenate(scores), resampled(groups, 300))).__dict__


def _evidence(row: Mapping[str, Any]) -> NDArray[np.bool_]:
    found = np.zeros(len(row["utterances"]), dtype=np.bool_)
    found[[at for action in row["actions"] for at in action["evidence"]]] = True
    return found


def _vector_features(meeting: Meeting, vectors: Floats) -> Floats:
    before = np.vstack([np.zeros_like(vectors[:1]), vectors[:-1]])
    after = np.vstack([vectors[1:], np.zeros_like(vectors[:1])])
    return np.hstack([vectors, (before + after) / 2, utterance_features(meeting)]).astype(np.float32)


def _second_stage_features(meeting: Meeting, scores: Floats) -> Floats:
    around = [neighbour_scores(scores[:, column]) for column in range(scores.shape[1])]
    highest = np.stack([scores[:, column] - scores[:, column].max() for column in range(scores.shape[1])], axis=1)
    return np.hstack([*around, highest, utterance_features(meeting)])


def embedded(meetings: Sequence[Meeting], model: EmbeddingModel) -> dict[str, Floats]:
    """Meeting -> (utterances, 384). Equal utterances are embedded once."""
    texts = sorted({text for meeting in meetings for text in meeting.texts})
    rows = dict(zip(texts, model.embed(texts), strict=True))
    return {meeting.identifier: np.stack([rows[text] for text in meeting.texts]) for meeting in meetings}


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m training.evaluate_ami", description=__doc__)
    arguments.add_argument("--ami", type=Path, required=True, metavar="DIR", help="ami_train.jsonl, ami_dev.jsonl")
    arguments.add_argument("--data", type=Path, default=Path("var"), metavar="DIR", help="the data folder")
    options = arguments.parse_args()
    learn, ask = (read_meetings(options.ami / f"ami_{name}.jsonl") for name in ("train", "dev"))
    figures: dict[str, Any] = {
        "meetings": len(ask),
        "utterances": sum(len(meeting.truth) for meeting in ask),
        "evidence": int(sum(meeting.truth.sum() for meeting in ask)),
        "shipped": figure(ask, shipped_scores(ask, TextModels.load(options.data))),
    }
    vectors = embedded([*learn, *ask], EmbeddingModel(sentence_encoder()))
    figures |= {name: figure(ask, scores) for name, scores in two_stage_scores(learn, ask, vectors).items()}
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
