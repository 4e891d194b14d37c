"""Sentences as vectors: what semantic search and 'similar alerts' stand on, beside the transcript's other readers.

all-MiniLM-L6-v2 (Apache-2.0) with mean pooling and L2 normalisation, as its authors publish it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.minilm import MiniLM, load_tokenizer, padded
from models.weights import SENTENCE_ENCODER_VERSION

DIMENSIONS: Final = 384
_MAX_TOKENS: Final = 256  # the length that the encoder was trained with
_BATCH: Final = 64


class EmbeddingModel:
    """Turns texts into L2-normalised 384-d float32 vectors."""

    version = SENTENCE_ENCODER_VERSION

    def __init__(self, directory: Path) -> None:
        """`directory`: as `models.weights.sentence_encoder()` returns it."""
        self._network = MiniLM.load(directory)
        self._tokenizer = load_tokenizer(directory)
        self._tokenizer.enable_truncation(_MAX_TOKENS)

    @classmethod
    def load(cls, directory: Path) -> "EmbeddingModel":
        return cls(directory)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, in order: (len(texts), 384) float32, each of length 1; beyond 256 tokens is not read."""
        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        by_length = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(by_length), _BATCH):
            chosen = by_length[start : start + _BATCH]
            vectors[chosen] = self._embed_batch([texts[index] for index in chosen])
        return vectors

    def _embed_batch(self, texts: list[str]) -> NDArray[np.float32]:
        ids, mask = padded([encoding.ids for encoding in self._tokenizer.encode_batch(texts)])
        with torch.inference_mode():
            pooled = (self._network(ids, mask) * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
            rows: NDArray[np.float32] = functional.normalize(pooled, dim=1).numpy()
        return rows
