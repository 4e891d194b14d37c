"""A conversation read as a whole: the shared first step of the safeguarding, sentiment and action models.

all-MiniLM-L6-v2, fine-tuned on care conversations. It reads many turns in one pass (each as `role: words`), so a
turn's vector knows what was said around it and a token is paid for once. What ships is the difference to the
packaged weights, as 8-bit integers with a scale a row: a few MB, added to them at loading.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.artefacts import Manifest, read_arrays, read_artefact
from models.errors import unavailable
from models.minilm import MiniLM, has_fast_bfloat16, load_tokenizer, padded
from models.records import Conversation

VECTOR_SIZE: Final = 768  # the mean over the turn's tokens, then its first token; 384 each
_PIECE_TOKENS: Final = 120  # a longer turn is read in pieces, so that nothing of a monologue is cut off
_WINDOW_TOKENS: Final = 500  # MiniLM has 512 positions
_CONTEXT_TOKENS: Final = 150  # of the turns before, where a conversation needs several windows
_TOKENS_A_BATCH: Final = 4096
_CLS: Final = 101
_SEP: Final = 102


@dataclass(frozen=True)
class TurnVectors:
    """`vectors`: (pieces, 768) float32; `turn_of`: (pieces,) the turn that each piece belongs to, ascending."""

    vectors: NDArray[np.float32]
    turn_of: NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """Token ids of neighbouring pieces, and of each piece to be scored: its number, first and past-last token."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int, int], ...]


class TurnEncoder:
    """Gives every turn of a conversation a vector that knows its context."""

    def __init__(self, network: MiniLM, tokenizer: Any, version: str, sha256: str = "") -> None:
        """`sha256`: of the shipped weights; empty before they are fine-tuned."""
        self.version = version
        self.network = network
        self._tokenizer = tokenizer
        self._sha256 = sha256

    @classmethod
    def load(cls, artefact: Path, base: Path) -> "TurnEncoder":
        """`artefact`: the shipped directory; `base`: as `models.weights.sentence_encoder()` returns it."""
        manifest = read_artefact(artefact)
        network = MiniLM.load(base)
        apply_difference(network, read_arrays(artefact))
        if has_fast_bfloat16():
            network = network.bfloat16()
        return cls(network, load_tokenizer(base), manifest.label, manifest.files["weights.safetensors"])

    def must_suit(self, reader: Manifest) -> None:
        """Raise `artefact-mismatch` where `reader` was trained over another encoder: its heads would read noise."""
        if reader.settings.get("reads_encoder") != self._sha256:
            raise unavailable(
                "artefact-mismatch",
                f"{reader.label} was not trained over {self.version}: promote them together, or ship both again.",
            )

    @classmethod
    def untrained(cls, base: Path) -> "TurnEncoder":
        """The packaged weights as they are, in float32: where training starts."""
        return cls(MiniLM.load(base), load_tokenizer(base), "untrained")

    def encode(self, conversations: Sequence[Conversation]) -> list[TurnVectors]:
        """One answer a conversation, in order; windows of all of them are batched together by length."""
        jobs: list[tuple[int, Window]] = []
        turn_of = []
        for at, conversation in enumerate(conversations):
            pieces, owners = self.pieces(conversation)
            turn_of.append(np.asarray(owners, dtype=np.int64))
            jobs.extend((at, window) for window in windows(pieces))
        answers = [np.zeros((owners.size, VECTOR_SIZE), dtype=np.float32) for owners in turn_of]
        jobs.sort(key=lambda job: len(job[1].ids))
        with torch.inference_mode():
            for batch in _batches(jobs):
                vectors = self.forward([window for _, window in batch]).numpy()
                row = 0
                for at, window in batch:
                    for piece, _, _ in window.spans:
                        answers[at][piece] = vectors[row]
                        row += 1
        return [TurnVectors(vectors, owners) for vectors, owners in zip(answers, turn_of, strict=True)]

    def pieces(self, conversation: Conversation) -> tuple[list[list[int]], list[int]]:
        """Token ids piece by piece, each closed by a separator, and the turn of each piece."""
        roles = {person.speaker: person.role.replace("_", " ") for person in conversation.participants}
        if not conversation.turns:
            return [], []
        texts = [f"{roles.get(turn.speaker or '', 'other')}: {turn.text}" for turn in conversation.turns]
        pieces, owners = [], []
        for at, encoding in enumerate(self._tokenizer.encode_batch(texts, add_special_tokens=False)):
            ids = encoding.ids
            for start in range(0, max(1, len(ids)), _PIECE_TOKENS):
                pieces.append([*ids[start : start + _PIECE_TOKENS], _SEP])
                owners.append(at)
        return pieces, owners

    def forward(self, batch: Sequence[Window]) -> torch.Tensor:
        """Vectors of all scored pieces of `batch`, in order: (pieces, 768) float32. Differentiable."""
        hidden = self.network(*padded([window.ids for window in batch])).float()
        return torch.stack(
            [
                torch.cat([hidden[row, start:end].mean(dim=0), hidden[row, start]])
                for row, window in enumerate(batch)
                for _, start, end in window.spans
            ]
        )


def windows(pieces: Sequence[Sequence[int]]) -> list[Window]:
    """Cut a conversation into windows of at most 500 tokens; each piece is scored once, later ones with context."""
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
        ids, spans = [_CLS], []
        for piece in range(begin, end):
            if piece >= first:
                spans.append((piece, len(ids), len(ids) + len(pieces[piece])))
            ids.extend(pieces[piece])
        found.append(Window(tuple(ids), tuple(spans)))
        first = end
    return found


def difference(network: Any, base: Any) -> dict[str, NDArray[Any]]:
    """What fine-tuning changed, compact: per matrix 8-bit integers and a float32 scale a row, vectors as float16."""
    arrays: dict[str, NDArray[Any]] = {}
    before = base.state_dict()
    for name, after in network.state_dict().items():
        change = (after - before[name]).float().numpy()
        if not change.any():
            continue
        if change.ndim == 1:
            arrays[name] = change.astype(np.float16)
            continue
        scale = np.maximum(np.abs(change).max(axis=1, keepdims=True), 1e-12) / 127.0
        arrays[name] = np.round(change / scale).astype(np.int8)
        arrays[f"{name}.scale"] = scale[:, 0].astype(np.float32)
    return arrays


def apply_difference(network: Any, arrays: dict[str, NDArray[Any]]) -> None:
    """Add what `difference` gave to the packaged weights, in place."""
    state = network.state_dict()
    with torch.no_grad():
        for name, change in arrays.items():
            if name.endswith(".scale"):
                continue
            scale = arrays.get(f"{name}.scale")
            whole = change.astype(np.float32) * (1.0 if scale is None else scale[:, None])
            state[name].add_(torch.from_numpy(whole))


def _batches(jobs: Sequence[tuple[int, Window]]) -> list[list[tuple[int, Window]]]:
    batches: list[list[tuple[int, Window]]] = []
    for job in jobs:  # sorted by length, so the newest is the longest of its batch
        if not batches or (len(batches[-1]) + 1) * len(job[1].ids) > _TOKENS_A_BATCH:
            batches.append([])
        batches[-1].append(job)
    return batches
