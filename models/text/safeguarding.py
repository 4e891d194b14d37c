"""Finds safeguarding concerns in the turns of a conversation: category (of 15), severity, and the words behind them.

It combines the turn encoder, which encodes the whole conversation, with an n-gram classifier. A logistic layer over
both gives the probability of any concern; a multinomial layer gives the shares of the categories. The product of the
two is the probability of a category. Both layers were fitted on held-out conversations, so they blend and calibrate in
one step. A person decides about a concern; the model only brings it to that person's attention.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.artefacts.files import Manifest, load_manifest, read_arrays, read_document
from models.contract.records import CATEGORIES, SEVERITIES, Concern, Conversation, Evidence, TurnAssessment, Unsure
from models.text.evidence import Occlusion, occlusions, pick_evidence
from models.text.ngrams import NgramClassifier, NgramFeatures, ngram_inputs
from models.text.severity_rules import with_rules
from models.text.turn_encoder import TurnEncoder, TurnVectors

OUTPUTS: Final[tuple[str, ...]] = (*CATEGORIES, "any")
UNSURE: Final = "unsure"  # the manifest's threshold from which a turn is marked; artefacts up to 2.2.0 have none


@dataclass(frozen=True)
class Heads:
    """The linear layers over turn vectors: `concern` (16, 1536), `severity` (3, 1536: above low, medium, high)."""

    concern: NDArray[np.float32]
    concern_bias: NDArray[np.float32]
    severity: NDArray[np.float32]
    severity_bias: NDArray[np.float32]

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> "Heads":
        return cls(*(arrays[name].astype(np.float32) for name in cls.__dataclass_fields__))


@dataclass(frozen=True)
class Blend:
    """The fitted layers. `any_layer`: weights of the encoder's and the n-grams' logit of any concern, intercept.

    `slopes`: weights of the encoder's and the n-grams' category logits, shared by all; `intercepts`: (15,).
    """

    any_layer: NDArray[np.float32]
    slopes: NDArray[np.float32]
    intercepts: NDArray[np.float32]

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> "Blend":
        return cls(*(arrays[name].astype(np.float32) for name in cls.__dataclass_fields__))


class SafeguardingModel:
    """Calibrated probabilities of 15 categories and of any concern for each turn, with severity and evidence."""

    def __init__(
        self,
        encoder: TurnEncoder,
        heads: Heads,
        ngrams: NgramClassifier,
        blend: Blend,
        manifest: Manifest,
    ) -> None:
        self._encoder = encoder
        self._heads = heads
        self._ngrams = ngrams
        self._blend = blend
        self.thresholds: dict[str, float] = {name: manifest.thresholds[name] for name in CATEGORIES}
        self.unsure_from: float | None = manifest.thresholds.get(UNSURE)
        self.version = manifest.label

    @classmethod
    def load(cls, path: Path, encoder: TurnEncoder) -> "SafeguardingModel":
        """From a shipped directory; raises `WriteCareError` where it is missing or its digests differ."""
        manifest = load_manifest(path)
        encoder.require_matching_encoder(manifest)
        arrays = read_arrays(path)
        features = NgramFeatures.from_document(read_document(path, "ngrams.json"))
        ngrams = NgramClassifier(features, arrays["ngram_weights"], arrays["ngram_bias"])
        return cls(encoder, Heads.from_arrays(arrays), ngrams, Blend.from_arrays(arrays), manifest)

    def score_with_evidence(self, conversation: Conversation) -> tuple[TurnAssessment, ...]:
        """One assessment a turn, in order, each concern with its evidence."""
        return self.score_many_with_evidence([conversation])[0]

    def score_many_with_evidence(self, conversations: Sequence[Conversation]) -> list[tuple[TurnAssessment, ...]]:
        """As `score_with_evidence` for each, batched across conversations."""
        return self.explain(conversations, self.score(conversations))

    def score(
        self, conversations: Sequence[Conversation], vectors: Sequence[TurnVectors] | None = None
    ) -> list[tuple[TurnAssessment, ...]]:
        """As `score_many_with_evidence`, without evidence. `vectors`: the encoder's result, if the caller has it."""
        known = self._encoder.encode(conversations) if vectors is None else vectors
        probabilities = self._probabilities(conversations, known)
        return [
            with_rules(
                conversation,
                [
                    to_assessment(row, level, self.thresholds, self.unsure_from)
                    for row, level in zip(rows, self._severities(found), strict=True)
                ],
            )
            for conversation, rows, found in zip(conversations, probabilities, known, strict=True)
        ]

    def explain(
        self, conversations: Sequence[Conversation], assessments: Sequence[Sequence[TurnAssessment]]
    ) -> list[tuple[TurnAssessment, ...]]:
        """The same assessments, each concern with the words and earlier turns that moved its score.

        By deletion: the turn is scored again with two turns of context and without a phrase, or without an earlier
        turn. An evidence's weight is the fall in log-odds of the concern's category.
        """
        flagged = [(at, turn) for at, rows in enumerate(assessments) for turn, row in enumerate(rows) if row.concerns]
        trials = [occlusions(conversations[at], turn) for at, turn in flagged]
        scored = iter(self._last_turn_log_odds([trial.conversation for group in trials for trial in group]))
        answers = [list(rows) for rows in assessments]
        for (at, turn), group in zip(flagged, trials, strict=True):
            log_odds = np.stack([next(scored) for _ in group])
            texts = [spoken.text for spoken in conversations[at].turns]
            row = answers[at][turn]
            concerns = tuple(_attach_evidence(concern, group, log_odds, texts) for concern in row.concerns)
            answers[at][turn] = row.model_copy(update={"concerns": concerns})
        return [tuple(rows) for rows in answers]

    def _last_turn_log_odds(self, conversations: Sequence[Conversation]) -> list[NDArray[np.float32]]:
        if not conversations:
            return []
        rows = self._probabilities(conversations, self._encoder.encode(conversations))
        return [_logit(found[-1]) for found in rows]

    def _probabilities(
        self, conversations: Sequence[Conversation], vectors: Sequence[TurnVectors]
    ) -> list[NDArray[np.float32]]:
        """A conversation each: (turns, 16) calibrated probabilities in the order of OUTPUTS."""
        inputs = [item for c in conversations for item in ngram_inputs([turn.text for turn in c.turns])]
        counted = self._ngrams.logits(inputs)
        answers, start = [], 0
        for conversation, found in zip(conversations, vectors, strict=True):
            read = turn_maxima(found.vectors @ self._heads.concern.T + self._heads.concern_bias, found.turn_of)
            ngram_logits = counted[start : start + len(conversation.turns)]
            start += len(conversation.turns)
            answers.append(blend_probabilities(read, ngram_logits, self._blend))
        return answers

    def _severities(self, found: TurnVectors) -> list[int]:
        above = turn_maxima(found.vectors @ self._heads.severity.T + self._heads.severity_bias, found.turn_of)
        return [int(row.sum()) for row in above > 0.0]


def to_assessment(
    row: NDArray[np.float32], level: int, thresholds: Mapping[str, float], unsure_from: float | None = None
) -> TurnAssessment:
    """A turn's answer from its 16 probabilities, its severity index and the shipped thresholds.

    `unsure_from`: the probability of any concern from which a turn without a concern is marked unsure; None: none is.
    """
    scores = {name: float(value) for name, value in zip(OUTPUTS, row, strict=True)}
    concerns = [
        Concern(category=name, severity=SEVERITIES[level], probability=scores[name], threshold=thresholds[name])
        for name in CATEGORIES
        if scores[name] >= thresholds[name]
    ]
    concerns.sort(key=lambda concern: -concern.probability)
    unsure = None
    if not concerns and unsure_from is not None and scores["any"] >= unsure_from:
        unsure = Unsure(probability=scores["any"], threshold=unsure_from)
    return TurnAssessment(scores=scores, concerns=tuple(concerns), unsure=unsure)


def blend_probabilities(read: NDArray[np.float32], counted: NDArray[np.float32], blend: Blend) -> NDArray[np.float32]:
    """Probabilities (turns, 16) from the encoder's and the n-grams' logits, both (turns, 16), `any` last."""
    voiced = read[:, -1] * blend.any_layer[0] + counted[:, -1] * blend.any_layer[1] + blend.any_layer[2]
    chance = 1.0 / (1.0 + np.exp(-voiced))
    which = read[:, :-1] * blend.slopes[0] + counted[:, :-1] * blend.slopes[1] + blend.intercepts
    raised = np.exp(which - which.max(axis=1, keepdims=True, initial=-1e9))
    shares = raised / raised.sum(axis=1, keepdims=True)
    probabilities: NDArray[np.float32] = np.column_stack([shares * chance[:, None], chance]).astype(np.float32)
    return probabilities


def turn_maxima(pieces: NDArray[np.float32], turn_of: NDArray[np.int64]) -> NDArray[np.float32]:
    """Per turn the highest logit over its pieces: a concern anywhere in a monologue counts for all of it."""
    if not len(pieces):
        return pieces
    firsts = np.flatnonzero(np.r_[True, np.diff(turn_of) > 0])
    maxima: NDArray[np.float32] = np.maximum.reduceat(pieces, firsts, axis=0)
    return maxima


def _attach_evidence(
    concern: Concern, group: Sequence[Occlusion], log_odds: NDArray[np.float32], texts: Sequence[str]
) -> Concern:
    column = CATEGORIES.index(concern.category)
    evidence: tuple[Evidence, ...] = pick_evidence(group, log_odds[:, column], texts)
    return concern.model_copy(update={"evidence": evidence})


def _logit(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    bounded = np.clip(probabilities.astype(np.float64), 1e-9, 1.0 - 1e-9)
    logits: NDArray[np.float32] = np.log(bounded / (1.0 - bounded)).astype(np.float32)
    return logits
