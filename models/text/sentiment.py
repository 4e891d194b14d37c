"""Predicts the sentiment of each turn from the speaker's own words.

A calm report of bad news is neutral. A linear layer uses the turn encoder's vectors; a multinomial layer, fitted on
held-out conversations, calibrates its output.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.artefacts.files import Manifest, load_manifest, read_arrays
from models.contract.records import SENTIMENT_LABELS, Conversation, Sentiment
from models.text.turn_encoder import TurnEncoder, TurnVectors


class SentimentModel:
    """Predicts negative, neutral or positive for each turn, with calibrated probabilities."""

    def __init__(
        self,
        encoder: TurnEncoder,
        head: tuple[NDArray[np.float32], NDArray[np.float32]],
        calibration: NDArray[np.float32],
        manifest: Manifest,
    ) -> None:
        """`head`: weights (3, 1536) and bias (3,); `calibration`: (3, 4), one row for each label."""
        self._encoder = encoder
        self._weights, self._bias = head
        self._calibration = calibration
        self.version = manifest.label

    @classmethod
    def load(cls, path: Path, encoder: TurnEncoder) -> "SentimentModel":
        """Load a shipped directory. Raises `WriteCareError` if it is missing or its digests differ."""
        manifest = load_manifest(path)
        encoder.require_matching_encoder(manifest)
        arrays = read_arrays(path)
        head = (arrays["head"].astype(np.float32), arrays["head_bias"].astype(np.float32))
        return cls(encoder, head, arrays["calibration"].astype(np.float32), manifest)

    def predict(self, conversation: Conversation) -> tuple[Sentiment, ...]:
        """One sentiment for each turn, in order."""
        return self.predict_many([conversation])[0]

    def predict_many(
        self, conversations: Sequence[Conversation], vectors: Sequence[TurnVectors] | None = None
    ) -> list[tuple[Sentiment, ...]]:
        """As `predict` for each conversation, batched. `vectors`: the encoder's result, if the caller has it."""
        known = self._encoder.encode(conversations) if vectors is None else vectors
        answers = []
        for conversation, found in zip(conversations, known, strict=True):
            pieces = found.vectors @ self._weights.T + self._bias
            logits = turn_means(pieces, found.turn_of, len(conversation.turns))
            answers.append(tuple(_sentiment(row) for row in calibrated_softmax(logits, self._calibration)))
        return answers


def calibrated_softmax(logits: NDArray[np.float32], calibration: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities (turns, 3) from logits (turns, 3) and the multinomial layer (3, 4: weights, then intercept)."""
    shaped = logits @ calibration[:, :-1].T + calibration[:, -1]
    raised = np.exp(shaped - shaped.max(axis=1, keepdims=True, initial=-1e9))
    probabilities: NDArray[np.float32] = raised / raised.sum(axis=1, keepdims=True)
    return probabilities


def turn_means(pieces: NDArray[np.float32], turn_of: NDArray[np.int64], turns: int) -> NDArray[np.float32]:
    """The mean over the pieces of each turn: (turns, outputs)."""
    sums = np.zeros((turns, pieces.shape[1]), dtype=np.float32)
    np.add.at(sums, turn_of, pieces)
    counts = np.maximum(np.bincount(turn_of, minlength=turns), 1).astype(np.float32)
    means: NDArray[np.float32] = sums / counts[:, None]
    return means


def _sentiment(row: NDArray[np.float32]) -> Sentiment:
    probabilities = {name: float(value) for name, value in zip(SENTIMENT_LABELS, row, strict=True)}
    return Sentiment(label=SENTIMENT_LABELS[int(row.argmax())], probabilities=probabilities)
