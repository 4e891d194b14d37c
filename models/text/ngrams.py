"""The n-gram classifier of the safeguarding model, which is blended with the turn encoder.

A linear layer over TF-IDF of word and character n-grams of a turn, and of the words of the two turns before. It is
small and fast, and its errors differ from those of the encoder. That is why the two are blended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer

from models.text.normalisation import normalised

_VIEWS: Final[dict[str, dict[str, Any]]] = {
    "word": {"analyzer": "word", "ngram_range": (1, 2), "min_df": 2, "token_pattern": r"(?u)\b\w[\w']*\b"},
    "char": {"analyzer": "char_wb", "ngram_range": (3, 5), "min_df": 3},
    "context": {"analyzer": "word", "ngram_range": (1, 1), "min_df": 2, "token_pattern": r"(?u)\b\w[\w']*\b"},
}


@dataclass(frozen=True)
class NgramInput:
    """The text of one turn, and the text of the two turns before it."""

    text: str
    context: str


def ngram_inputs(texts: Sequence[str]) -> list[NgramInput]:
    """The n-gram input of each turn of one conversation, in order."""
    plain = [normalised(text) for text in texts]
    return [NgramInput(text, " ".join(plain[max(0, at - 2) : at])) for at, text in enumerate(plain)]


class NgramFeatures:
    """The fitted vectorisers. They compute one sparse row for each turn."""

    def __init__(self, vectorisers: dict[str, TfidfVectorizer]) -> None:
        self._vectorisers = vectorisers

    @classmethod
    def fit(cls, inputs: Sequence[NgramInput]) -> "NgramFeatures":
        """Learn vocabulary and document frequencies from `inputs`."""
        vectorisers = {view: _vectoriser(view) for view in _VIEWS}
        for view, vectoriser in vectorisers.items():
            vectoriser.fit(_column(inputs, view))
        return cls(vectorisers)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "NgramFeatures":
        """Rebuild the vectorisers from the result of `to_document`."""
        vectorisers = {}
        for view, saved in document.items():
            vectoriser = _vectoriser(view, vocabulary={term: at for at, term in enumerate(saved["terms"])})
            vectoriser.idf_ = np.asarray(saved["idf"], dtype=np.float64)
            vectorisers[view] = vectoriser
        return cls(vectorisers)

    def to_document(self) -> dict[str, Any]:
        """Vocabulary and inverse document frequencies as JSON, in the order of the columns."""
        return {
            view: {
                "terms": [str(term) for term in vectoriser.get_feature_names_out()],
                "idf": [round(float(value), 4) for value in vectoriser.idf_],
            }
            for view, vectoriser in self._vectorisers.items()
        }

    def transform(self, inputs: Sequence[NgramInput]) -> Any:
        """A sparse matrix (len(inputs), columns) in CSR form."""
        return hstack([v.transform(_column(inputs, view)) for view, v in self._vectorisers.items()], format="csr")


class NgramClassifier:
    """A linear classifier over n-gram features."""

    def __init__(self, features: NgramFeatures, weights: NDArray[Any], bias: NDArray[Any]) -> None:
        """`weights`: (outputs, columns), `bias`: (outputs,)."""
        self._features = features
        # The type and memory order of the sparse rows, otherwise scipy would copy the matrix at every call.
        self._weights = np.ascontiguousarray(weights.T, dtype=np.float64)
        self._bias = bias.astype(np.float32)

    def logits(self, inputs: Sequence[NgramInput]) -> NDArray[np.float32]:
        """Logits (len(inputs), outputs), float32."""
        if not inputs:
            return np.zeros((0, self._bias.size), dtype=np.float32)
        rows: NDArray[np.float32] = np.asarray(self._features.transform(inputs) @ self._weights + self._bias)
        return rows.astype(np.float32)


def _vectoriser(view: str, vocabulary: dict[str, int] | None = None) -> TfidfVectorizer:
    return TfidfVectorizer(**_VIEWS[view], vocabulary=vocabulary, lowercase=True, sublinear_tf=True)


def _column(inputs: Sequence[NgramInput], view: str) -> list[str]:
    return [item.context if view == "context" else item.text for item in inputs]
