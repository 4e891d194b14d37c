"""Sentence vectors: unit length, in order, and close to each other for similar meanings."""

import numpy as np
import pytest

from models.artefacts.weights import sentence_encoder
from models.text.embedding import DIMENSIONS, EmbeddingModel


@pytest.fixture(scope="module")
def model() -> EmbeddingModel:
    return EmbeddingModel.load(sentence_encoder())


def test_vectors_are_of_length_one_and_in_order(model: EmbeddingModel) -> None:
    texts = ["A much longer sentence about the garden and the weather in it.", "Tea.", ""]
    together = model.embed(texts)
    assert together.shape == (3, DIMENSIONS)
    assert together.dtype == np.float32
    assert np.linalg.norm(together, axis=1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert np.allclose(together[1], model.embed(["Tea."])[0], atol=1e-4)


def test_like_meanings_are_nearer_than_unlike(model: EmbeddingModel) -> None:
    fell, fall, cake = model.embed(["She fell in the bathroom.", "He had a fall by the sink.", "The cake was lemon."])
    assert fell @ fall > fell @ cake + 0.2


def test_no_texts_have_no_vectors(model: EmbeddingModel) -> None:
    assert model.embed([]).shape == (0, DIMENSIONS)
