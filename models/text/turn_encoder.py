"""Encodes the turns of a conversation as vectors, for the safeguarding, sentiment and action models.

The network is the first layers of all-mpnet-base-v2, fine-tuned on care conversations. It encodes many turns in one
pass (each as `role: words`), so a turn's vector includes its context and each token is encoded once. The artefact holds
only the difference to the packaged weights, with four bits for each number and a scale for every 64 numbers. `load`
adds the difference to the packaged weights.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.artefacts.files import Manifest, load_manifest, read_arrays
from models.contract.errors import unavailable
from models.contract.records import Conversation
from models.networks.minilm import has_fast_bfloat16, load_tokenizer
from models.networks.mpnet import CLS, SEP, MPNet
from models.text.normalisation import normalised

LAYERS: Final = 8  # of twelve; docs/decisions/0013 gives the cost and benefit of the others
VECTOR_SIZE: Final = 1536  # the mean over the turn's tokens, then its first token; 768 each
_PIECE_WORDS: Final = 45  # a longer turn is split into pieces
_PIECE_TOKENS: Final = 120  # limit for pieces whose text is not ordinary words
_BREAK: Final = re.compile(r"(?<=[.!?;,])\s+|\s+(?=(?:and|but|so|then|cos|because|or)\s)")
_WINDOW_TOKENS: Final = 500  # MPNet has 512 positions
_CONTEXT_TOKENS: Final = 150  # of the turns before, if a conversation needs several windows
_TOKENS_A_BATCH: Final = 2048  # larger batches are not faster, because of the processor's cache
_GROUP: Final = 64  # numbers that share a scale
_STEPS: Final = 7  # four bits: -7 to 7


@dataclass(frozen=True)
class TurnVectors:
    """`vectors`: (pieces, 1536) float32. `turn_of`: (pieces,) the turn of each piece, in ascending order."""

    vectors: NDArray[np.float32]
    turn_of: NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """The token ids of consecutive pieces. `spans`: (number, first token, end token) of each piece to score."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int, int], ...]


class TurnEncoder:
    """Computes a vector for every turn of a conversation, using the turns around it."""

    def __init__(self, network: MPNet, tokenizer: Any, version: str, sha256: str = "") -> None:
        """`sha256`: digest of the shipped weights; empty before fine-tuning."""
        self.version = version
        self.network = network
        self._tokenizer = tokenizer
        self._sha256 = sha256

    @classmethod
    def load(cls, artefact: Path, base: Path) -> "TurnEncoder":
        """`artefact`: the shipped directory. `base`: the directory that `models.artefacts.weights.mpnet()` returns."""
        manifest = load_manifest(artefact)
        found = cls.from_base_weights(base, manifest.settings.get("levelled", ()))
        apply_difference(found.network, read_arrays(artefact))
        network = found.network.bfloat16() if has_fast_bfloat16() else found.network
        return cls(network, found._tokenizer, manifest.label, manifest.files["weights.safetensors"])

    def require_matching_encoder(self, head_manifest: Manifest) -> None:
        """Raise `artefact-mismatch` if `head_manifest` was trained on another encoder: its output would be noise."""
        if head_manifest.settings.get("reads_encoder") != self._sha256:
            raise unavailable(
                "artefact-mismatch",
                f"{head_manifest.label} was not trained over {self.version}. "
                "Promote versions that were trained together, or ship both again.",
            )

    @classmethod
    def from_base_weights(cls, base: Path, levelled: Sequence[Sequence[str]]) -> "TurnEncoder":
        """The encoder before fine-tuning: packaged weights in float32, word groups of `levelled` averaged."""
        network, tokenizer = MPNet.load(base, LAYERS), load_tokenizer(base)
        average_word_groups(network, tokenizer, levelled)
        return cls(network, tokenizer, "untrained")

    def encode(self, conversations: Sequence[Conversation]) -> list[TurnVectors]:
        """One result for each conversation, in order. The windows of all conversations are batched together."""
        numbered_windows: list[tuple[int, Window]] = []
        turn_of = []
        for at, conversation in enumerate(conversations):
            pieces, owners = self.pieces(conversation)
            turn_of.append(np.asarray(owners, dtype=np.int64))
            numbered_windows.extend((at, window) for window in windows(pieces))
        answers = [np.zeros((owners.size, VECTOR_SIZE), dtype=np.float32) for owners in turn_of]
        with torch.inference_mode():
            for batch in _batches(numbered_windows):
                vectors = self.forward([window for _, window in batch]).numpy()
                row = 0
                for at, window in batch:
                    for piece, _, _ in window.spans:
                        answers[at][piece] = vectors[row]
                        row += 1
        return [TurnVectors(vectors, owners) for vectors, owners in zip(answers, turn_of, strict=True)]

    def pieces(self, conversation: Conversation) -> tuple[list[list[int]], list[int]]:
        """The token ids of each piece, with a separator at its end, and the turn of each piece."""
        roles = {person.speaker: person.role.replace("_", " ") for person in conversation.participants}
        texts, turns = [], []
        for at, turn in enumerate(conversation.turns):
            for part in split_turn(normalised(turn.text)):
                texts.append(f"{roles.get(turn.speaker or '', 'other')}: {part}")
                turns.append(at)
        pieces, owners = [], []
        for at, encoding in zip(turns, self._tokenizer.encode_batch(texts, add_special_tokens=False), strict=True):
            ids = encoding.ids
            for start in range(0, max(1, len(ids)), _PIECE_TOKENS):
                pieces.append([*ids[start : start + _PIECE_TOKENS], SEP])
                owners.append(at)
        return pieces, owners

    def words(self, piece: Sequence[int]) -> str:
        """The text of a piece, as the tokenizer decodes it."""
        return str(self._tokenizer.decode(list(piece)))

    def forward(self, batch: Sequence[Window]) -> torch.Tensor:
        """The vectors of all pieces to score of `batch`, in order: (pieces, 1536) float32. Differentiable."""
        lengths = [len(window.ids) for window in batch]
        ids = torch.tensor([token for window in batch for token in window.ids])
        return pool_pieces(self.network(ids, lengths), batch)


def pool_pieces(hidden: torch.Tensor, batch: Sequence[Window]) -> torch.Tensor:
    """The vectors (pieces, 1536) of all pieces to score, from the hidden vectors (tokens, 768) of the last layer."""
    by_window = hidden.float().split([len(window.ids) for window in batch])
    return torch.stack(
        [
            torch.cat([tokens[start:end].mean(dim=0), tokens[start]])
            for tokens, window in zip(by_window, batch, strict=True)
            for _, start, end in window.spans
        ]
    )


def average_word_groups(network: MPNet, tokenizer: Any, groups: Sequence[Sequence[str]]) -> None:
    """Set the word embeddings of each group to their mean, in place. Words of several tokens are not changed."""
    embedding = network.embeddings.word_embeddings.weight
    with torch.no_grad():
        for words in groups:
            tokens = [tokenizer.encode(word, add_special_tokens=False).ids for word in words]
            single = [ids[0] for ids in tokens if len(ids) == 1]
            embedding[single] = embedding[single].mean(dim=0)


def split_turn(text: str) -> list[str]:
    """Split a long turn into parts of at most 45 words, if possible at punctuation or conjunctions.

    A voicemail is a single turn: without the split, a concern in its last sentence would be lost in the average.
    """
    if len(text.split()) <= _PIECE_WORDS:
        return [text]
    parts: list[list[str]] = [[]]
    for phrase in _BREAK.split(text):
        words = phrase.split()
        for start in range(0, len(words), _PIECE_WORDS):
            run = words[start : start + _PIECE_WORDS]
            if parts[-1] and len(parts[-1]) + len(run) > _PIECE_WORDS:
                parts.append([])
            parts[-1].extend(run)
    return [" ".join(part) for part in parts]


def windows(pieces: Sequence[Sequence[int]]) -> list[Window]:
    """Cut a conversation into windows of at most 500 tokens. Each piece is scored once; later windows have context."""
    found = []
    first = 0
    while first < len(pieces):
        begin, size = first, 1
        while begin > 0 and size + len(pieces[begin - 1]) <= _CONTEXT_TOKENS:
            begin -= 1
            size += len(pieces[begin])
        end = first
        while end < len(pieces) and (end == first or size + len(pieces[end]) <= _WINDOW_TOKENS):
            size += len(pieces[end])
            end += 1
        ids, spans = [CLS], []
        for piece in range(begin, end):
            if piece >= first:
                spans.append((piece, len(ids), len(ids) + len(pieces[piece])))
            ids.extend(pieces[piece])
        found.append(Window(tuple(ids), tuple(spans)))
        first = end
    return found


def weight_difference(network: Any, base: Any) -> dict[str, NDArray[Any]]:
    """The compressed change of the weights by fine-tuning: matrices with four bits a number, vectors as float16.

    A matrix (rows, columns) becomes uint8 (rows, columns / 2), two numbers in each byte, and `<name>.scale`, float16
    (rows, columns / 64). Raises ValueError if the number of columns is not a multiple of 64.
    """
    arrays: dict[str, NDArray[Any]] = {}
    before = base.state_dict()
    for name, after in network.state_dict().items():
        change = (after - before[name]).float().numpy()
        if not change.any():
            continue
        if change.ndim == 1:
            arrays[name] = change.astype(np.float16)
            continue
        groups = change.reshape(change.shape[0], -1, _GROUP)
        scale = (np.maximum(np.abs(groups).max(axis=2), 1e-7) / _STEPS).astype(np.float16)
        steps = np.clip(np.round(groups / np.maximum(scale.astype(np.float32), 1e-8)[:, :, None]), -_STEPS, _STEPS)
        halves = (steps.reshape(change.shape) + 8).astype(np.uint8)
        arrays[name] = halves[:, ::2] << 4 | halves[:, 1::2]
        arrays[f"{name}.scale"] = scale
    return arrays


def apply_difference(network: Any, arrays: dict[str, NDArray[Any]]) -> None:
    """Add the result of `weight_difference` to the packaged weights, in place."""
    state = network.state_dict()
    with torch.no_grad():
        for name, change in arrays.items():
            if name.endswith(".scale"):
                continue
            scale = arrays.get(f"{name}.scale")
            state[name].add_(
                torch.from_numpy(change.astype(np.float32) if scale is None else _dequantised(change, scale))
            )


def _dequantised(packed: NDArray[np.uint8], scale: NDArray[np.float16]) -> NDArray[np.float32]:
    """The matrix that `weight_difference` packed: (rows, columns) float32."""
    steps = np.stack([packed >> 4, packed & 15], axis=2).astype(np.float32) - 8.0
    groups = steps.reshape(packed.shape[0], -1, _GROUP) * scale.astype(np.float32)[:, :, None]
    matrix: NDArray[np.float32] = groups.reshape(packed.shape[0], -1)
    return matrix


def _batches(numbered_windows: Sequence[tuple[int, Window]]) -> list[list[tuple[int, Window]]]:
    batches: list[list[tuple[int, Window]]] = []
    size = 0
    for job in numbered_windows:
        size += len(job[1].ids)
        if not batches or size > _TOKENS_A_BATCH:
            batches.append([])
            size = len(job[1].ids)
        batches[-1].append(job)
    return batches
