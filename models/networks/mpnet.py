"""The MPNet network (base size) of the turn encoder, and its special token ids.

Written in plain torch (Song et al., 2020) for the reasons that `models/networks/minilm.py` gives. Parameters have the
names of the packaged file, so that its safetensors load without renaming. Unlike BERT, MPNet adds to every attention
score a learnt value for the distance of the two tokens. All layers share these values.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

CLS: Final = 0
SEP: Final = 2
_FIRST_POSITION: Final = 2  # position of a sequence's first token; position 1 is for padding, which is not used here
_MAX_DISTANCE: Final = 128  # tokens; all larger distances share one bucket


@dataclass(frozen=True)
class MPNetConfig:
    """The values of the package's `config.json` that define the layers."""

    vocab_size: int
    max_position_embeddings: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    layer_norm_eps: float
    hidden_dropout_prob: float
    relative_attention_num_buckets: int


class MPNet(nn.Module):
    """Computes hidden vectors (tokens, 768) from concatenated, unpadded sequences of token ids and their lengths.

    Without padding, the cost of a batch depends only on its number of tokens, also where lengths differ much.
    """

    def __init__(self, shape: MPNetConfig) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = _Embeddings(shape)
        self.encoder = nn.ModuleDict(
            {
                "layer": nn.ModuleList(_Layer(shape) for _ in range(shape.num_hidden_layers)),
                "relative_attention_bias": nn.Embedding(
                    shape.relative_attention_num_buckets, shape.num_attention_heads
                ),
            }
        )

    @classmethod
    def load(cls, directory: Path, layers: int | None = None) -> "MPNet":
        """Load the packaged directory (`config.json`, `model.safetensors`) in float32, in evaluation mode.

        `layers`: how many of the first layers to keep; all by default.
        """
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        numbers = {name: config[name] for name in MPNetConfig.__dataclass_fields__}
        network = cls(MPNetConfig(**numbers | {"num_hidden_layers": layers or numbers["num_hidden_layers"]}))
        packaged = load_file(directory / "model.safetensors")
        expected = network.state_dict()
        network.load_state_dict({name: packaged[name] for name in expected})
        return network.eval()

    def forward(self, ids: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        return self.run_layers(self.embeddings(ids, lengths), lengths)

    def run_layers(
        self, hidden: torch.Tensor, lengths: Sequence[int], first: int = 0, last: int | None = None
    ) -> torch.Tensor:
        """Run the layers `first:last` (all by default) on `hidden`. Input and output: (tokens, 768)."""
        bias = self._bias(max(lengths), hidden.dtype)
        for layer in self.encoder["layer"][first:last]:
            hidden = layer(hidden, bias, lengths)
        return hidden

    def _bias(self, tokens: int, kind: torch.dtype) -> torch.Tensor:
        """(heads, tokens, tokens): the value added to each attention score for the distance of its two tokens."""
        places = torch.arange(tokens)
        buckets = _buckets(places[None, :] - places[:, None], self.shape.relative_attention_num_buckets)
        weights: torch.Tensor = self.encoder["relative_attention_bias"](buckets)
        return weights.permute(2, 0, 1).to(kind).contiguous()


def _buckets(distance: torch.Tensor, buckets: int) -> torch.Tensor:
    """The bucket of each signed distance. Small distances have a bucket each; large ones share buckets in log steps."""
    half = buckets // 2
    exact = half // 2
    far = distance.abs()
    steps = torch.log(far.clamp(min=1).float() / exact) / math.log(_MAX_DISTANCE / exact) * (half - exact)
    shared = (exact + steps.long()).clamp(max=half - 1)
    return (distance > 0).long() * half + torch.where(far < exact, far, shared)


class _Embeddings(nn.Module):
    def __init__(self, shape: MPNetConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.position_embeddings = nn.Embedding(shape.max_position_embeddings, shape.hidden_size)
        self.LayerNorm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.dropout = nn.Dropout(shape.hidden_dropout_prob)

    def forward(self, ids: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        places = torch.cat([torch.arange(length) for length in lengths]) + _FIRST_POSITION
        return self.dropout(self.LayerNorm(self.word_embeddings(ids) + self.position_embeddings(places)))


class _Layer(nn.Module):
    def __init__(self, shape: MPNetConfig) -> None:
        super().__init__()
        size = shape.hidden_size
        self.heads = shape.num_attention_heads
        attention = nn.ModuleDict({name: nn.Linear(size, size) for name in ("q", "k", "v", "o")})
        norm = nn.LayerNorm(size, eps=shape.layer_norm_eps)
        self.attention = nn.ModuleDict({"attn": attention, "LayerNorm": norm})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(size, shape.intermediate_size)})
        self.output = nn.ModuleDict(
            {
                "dense": nn.Linear(shape.intermediate_size, size),
                "LayerNorm": nn.LayerNorm(size, eps=shape.layer_norm_eps),
            }
        )
        self.dropout = nn.Dropout(shape.hidden_dropout_prob)

    def forward(self, hidden: torch.Tensor, bias: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        projections = self.attention["attn"]
        query, key, value = (projections[name](hidden) for name in ("q", "k", "v"))
        changed = projections["o"](self._attended((query, key, value), bias, lengths))
        hidden = self.attention["LayerNorm"](self.dropout(changed) + hidden)
        changed = self.output["dense"](functional.gelu(self.intermediate["dense"](hidden)))
        answer: torch.Tensor = self.output["LayerNorm"](self.dropout(changed) + hidden)
        return answer

    def _attended(self, parts: tuple[torch.Tensor, ...], bias: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """Attention computed for one sequence at a time.

        This takes half the time of torch's fused attention over a padded batch: the score matrix of one sequence stays
        in the processor's cache, and no mask is needed.
        """
        attended = []
        for query, key, value in zip(*(part.split(list(lengths)) for part in parts), strict=True):
            length, size = query.shape
            near = bias[:, :length, :length]
            scale = 1 / math.sqrt(size // self.heads)
            scores = torch.baddbmm(near, self._heads(query), self._heads(key).transpose(1, 2), alpha=scale)
            found = scores.softmax(dim=-1) @ self._heads(value)
            attended.append(found.transpose(0, 1).reshape(length, size))
        return torch.cat(attended)

    def _heads(self, hidden: torch.Tensor) -> torch.Tensor:
        """(tokens, size) -> (heads, tokens, size / heads)."""
        tokens, size = hidden.shape
        return hidden.view(tokens, self.heads, size // self.heads).transpose(0, 1)
