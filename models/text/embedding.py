"""Embeds texts as vectors, for semantic search and for finding similar alerts.

It uses all-MiniLM-L6-v2 (Apache-2.0) with mean pooling and L2 normalisation, as its authors published it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from models.artefacts.weights import SENTENCE_ENCODER_VERSION
from models.networks.minilm import MiniLM, has_fast_bfloat16, load_tokenizer, pad_batch
from models.text.normalisation import normalised

DIMENSIONS: Final = 384
_MAX_TOKENS: Final = 256  # the length that the encoder was trained with
_TOKENS_A_BATCH: Final = 1024  # padding included: one long text among short ones would lengthen the whole batch


class EmbeddingModel:
    """Embeds texts as L2-normalised 384-d float32 vectors."""

    version = SENTENCE_ENCODER_VERSION

    def __init__(self, directory: Path) -> None:
        """`directory`: as `models.artefacts.weights.sentence_encoder()` returns it."""
        network = MiniLM.load(directory)
        self._network = network.bfloat16() if has_fast_bfloat16() else network
        self._tokenizer = load_tokenizer(directory)
        self._tokenizer.enable_truncation(_MAX_TOKENS)

    @classmethod
    def load(cls, directory: Path) -> "EmbeddingModel":
        return cls(directory)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One unit vector for each text, in order: (len(texts), 384) float32. Tokens after the 256th are ignored."""
        vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch([normalised(text) for text in texts])]
        batches: list[list[int]] = []
        for index in sorted(range(len(texts)), key=lambda index: len(tokens[index])):
            if not batches or (len(batches[-1]) + 1) * len(tokens[index]) > _TOKENS_A_BATCH:
                batches.append([])
            batches[-1].append(index)
        for chosen in batches:
            vectors[chosen] = self._embed_batch([tokens[index] for index in chosen])
        return vectors

    def _embed_batch(self, tokens: list[list[int]]) -> NDArray[np.float32]:
        ids, mask = pad_batch(tokens)
        with torch.inference_mode():
            pooled = (self._network(ids, mask).float() * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
            rows: NDArray[np.float32] = functional.normalize(pooled, dim=1).numpy()
        return rows
