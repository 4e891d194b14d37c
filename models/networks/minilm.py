"""The MiniLM network (a small BERT) for sentence vectors, and its tokenizer.

Written in plain torch (Devlin et al., 2019; Wang et al., 2020) for two reasons: a general library takes ten seconds of
processor time to import, and this code keeps the weights in memory in the precision in which it uses them. Parameters
have the names of the packaged file, so that its safetensors load without renaming.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class MiniLMConfig:
    """The values of the package's `config.json` that define the layers."""

    vocab_size: int
    max_position_embeddings: int
    type_vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    layer_norm_eps: float
    hidden_dropout_prob: float


class MiniLM(nn.Module):
    """Computes hidden vectors (batch, tokens, 384) from token ids and a mask, both (batch, tokens)."""

    def __init__(self, shape: MiniLMConfig) -> None:
        super().__init__()
        self.embeddings = _Embeddings(shape)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer(shape) for _ in range(shape.num_hidden_layers))})

    @classmethod
    def load(cls, directory: Path) -> "MiniLM":
        """Load the packaged directory (`config.json`, `model.safetensors`) in float32, in evaluation mode."""
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        network = cls(MiniLMConfig(**{name: config[name] for name in MiniLMConfig.__dataclass_fields__}))
        packaged = load_file(directory / "model.safetensors")
        expected = network.state_dict()
        network.load_state_dict({name: packaged[name] for name in expected})
        return network.eval()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.embeddings(ids)
        visible = mask[:, None, None, :] > 0  # broadcast over heads and query tokens
        for layer in self.encoder["layer"]:
            hidden = layer(hidden, visible)
        return hidden


class _Embeddings(nn.Module):
    def __init__(self, shape: MiniLMConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.position_embeddings = nn.Embedding(shape.max_position_embeddings, shape.hidden_size)
        self.token_type_embeddings = nn.Embedding(shape.type_vocab_size, shape.hidden_size)
        self.LayerNorm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.dropout = nn.Dropout(shape.hidden_dropout_prob)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        places = self.position_embeddings.weight[: ids.shape[1]] + self.token_type_embeddings.weight[0]
        return self.dropout(self.LayerNorm(self.word_embeddings(ids) + places))


class _Layer(nn.Module):
    def __init__(self, shape: MiniLMConfig) -> None:
        super().__init__()
        size = shape.hidden_size
        self.heads = shape.num_attention_heads
        projections = nn.ModuleDict({name: nn.Linear(size, size) for name in ("query", "key", "value")})
        self.attention = nn.ModuleDict({"self": projections, "output": _Output(size, shape)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(size, shape.intermediate_size)})
        self.output = _Output(shape.intermediate_size, shape)

    def forward(self, hidden: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        batch, tokens, size = hidden.shape
        projections = self.attention["self"]
        query, key, value = (
            projections[name](hidden).view(batch, tokens, self.heads, size // self.heads).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        hidden = self.attention["output"](attended.transpose(1, 2).reshape(batch, tokens, size), hidden)
        return self.output(functional.gelu(self.intermediate["dense"](hidden)), hidden)


class _Output(nn.Module):
    """A linear layer with a residual connection and layer normalisation."""

    def __init__(self, size: int, shape: MiniLMConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(size, shape.hidden_size)
        self.LayerNorm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.dropout = nn.Dropout(shape.hidden_dropout_prob)

    def forward(self, changed: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dropout(self.dense(changed)) + before)


def load_tokenizer(directory: Path) -> Tokenizer:
    """The packaged word-piece tokenizer, with padding and truncation switched off."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def pad_batch(sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and float mask, both (batch, longest); padding is 0 in both."""
    longest = max(len(sequence) for sequence in sequences)
    ids = torch.zeros((len(sequences), longest), dtype=torch.long)
    mask = torch.zeros((len(sequences), longest))
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1.0
    return ids, mask


def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware. Without that, bfloat16 is slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported())
