"""Fine-tunes the turn encoder: one pass over a conversation trains concerns, severity, sentiment and commitments.

The four tasks share the encoder, so each turn is encoded once in service as well. Word embeddings stay as they
are packaged (rare words keep their meaning); the transformer layers are trained. Called by `training/train` per fold.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from models.contract.records import CATEGORIES, SEVERITIES, Conversation
from models.networks.minilm import has_fast_bfloat16
from models.text.turn_encoder import VECTOR_SIZE, TurnEncoder, Window, windows
from training.augmentation import AugmentationRates, augment, first_names
from training.dataset import FIRST_CORPORA, LabelledConversation
from training.resegmentation import ConcernScorer, resegmented

_LOG_EVERY: Final = 25  # steps


@dataclass(frozen=True)
class FineTuning:
    """How the encoder is trained in one stage. Weights are those of the tasks' losses against each other.

    `corpora`: the folders to train on; if empty, all. `replayed`: share of the conversations of FIRST_CORPORA to train
    on. `real_talk`: whether excerpts of public real conversations are trained on, as harmless.
    """

    corpora: tuple[str, ...] = FIRST_CORPORA
    replayed: float = 1.0
    real_talk: bool = False
    critical_weight: float = 1.0  # of a critical turn's concerns, against any other turn's
    epochs: int = 5
    encoder_rate: float = 1e-4
    head_rate: float = 1e-3
    tokens_a_step: int = 1800  # about eight conversations
    warm_up: float = 0.1
    weight_decay: float = 0.01
    dropout: float = 0.1
    any_weight: float = 4.0
    which_category_weight: float = 0.5
    severity_weight: float = 0.5
    sentiment_weight: float = 1.0
    commitment_weight: float = 0.5
    resegmented: float = 0.25  # share of conversations that are resegmented (`training/resegmentation`)
    chances: AugmentationRates = field(default_factory=AugmentationRates)


# First mostly as written; then half of the conversations resegmented, with long turns. Last over all corpora and real
# talk, starting from the second stage.
STAGES: Final = (
    FineTuning(),
    FineTuning(epochs=3, encoder_rate=6e-5, head_rate=5e-4, resegmented=0.5),
    FineTuning(
        corpora=(),
        replayed=0.5,
        real_talk=True,
        epochs=3,
        encoder_rate=8e-5,
        head_rate=4e-4,
        critical_weight=2.0,
        resegmented=0.15,
        chances=AugmentationRates(misspelt=0.15, cut_short=0.1),
    ),
)


class TurnHeads(nn.Module):
    """Linear layers over turn vectors: 15 categories and any; three severity steps; three sentiments; commitment."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.concern = nn.Linear(VECTOR_SIZE, len(CATEGORIES) + 1)
        self.severity = nn.Linear(VECTOR_SIZE, 3)
        self.sentiment = nn.Linear(VECTOR_SIZE, 3)
        self.commitment = nn.Linear(VECTOR_SIZE, 1)
        with torch.no_grad():  # start at the base rates: concerns are rare
            self.concern.bias.fill_(-4.0)
            self.concern.bias[-1] = -2.0

    def forward(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        shared = self.dropout(vectors)
        layers = {"concern": self.concern, "severity": self.severity, "sentiment": self.sentiment}
        return {name: layer(shared) for name, layer in layers.items()} | {"commits": self.commitment(shared)[:, 0]}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All weights and biases by name, as float32."""
        return {name: value.detach().float().numpy() for name, value in self.state_dict().items()}


@dataclass(frozen=True)
class _Example:
    """A window to learn from, with the labels of its scored pieces, in order."""

    window: Window
    concern: NDArray[np.float32]
    severity: NDArray[np.int64]
    sentiment: NDArray[np.int64]
    commits: NDArray[np.float32]


def fine_tune(
    encoder: TurnEncoder,
    heads: TurnHeads,
    learn: Sequence[LabelledConversation],
    settings: FineTuning,
    *,
    rank: ConcernScorer,
    seed: int,
    log: Callable[[str], None],
) -> None:
    """Train `encoder` and `heads` in place over `learn`; the same seed gives the same order.

    `rank`: how much a text sounds like a concern, for `training/resegmentation`.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)  # noqa: S311 - reproducible shuffling, not a secret
    learning = []
    for name, parameter in encoder.network.named_parameters():
        parameter.requires_grad = name.startswith("encoder.layer.")  # words keep the meaning they were packaged with
        if parameter.requires_grad:
            learning.append(parameter)
    rates = [settings.encoder_rate, settings.head_rate]
    groups = [{"params": learning, "lr": rates[0]}, {"params": list(heads.parameters()), "lr": rates[1]}]
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
    names = first_names([item.conversation for item in learn])
    batches = _epoch(learn, encoder, settings, names=names, rank=rank, rng=rng)
    steps = settings.epochs * (len(batches) + len(batches) // 50 + 2)  # each epoch is cut differently
    done = 0
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        rates,
        total_steps=steps,
        pct_start=max(settings.warm_up, 2 / steps),
        anneal_strategy="linear",
        cycle_momentum=False,
    )
    for epoch in range(settings.epochs):
        started, total, count = time.monotonic(), 0.0, 0
        encoder.network.train()
        heads.train()
        if epoch:
            batches = _epoch(learn, encoder, settings, names=names, rank=rank, rng=rng)
        for batch in batches:
            # Half the time of float32 where the processor can; gradients and weights stay float32.
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=has_fast_bfloat16()):
                vectors = encoder.forward([example.window for example in batch])
            loss = _loss(heads(vectors), batch, settings)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([*learning, *heads.parameters()], 1.0)
            optimiser.step()
            if schedule.last_epoch < steps - 1:
                schedule.step()
            total, count, done = total + float(loss.detach()), count + 1, done + 1
            if count % _LOG_EVERY == 0:
                log(f"step {done} of about {steps}: loss {total / count:.3f}, {time.monotonic() - started:.0f} s")
        log(f"epoch {epoch + 1}/{settings.epochs}: loss {total / count:.3f}, {time.monotonic() - started:.0f} s")
    encoder.network.eval()
    heads.eval()


def _epoch(
    learn: Sequence[LabelledConversation],
    encoder: TurnEncoder,
    settings: FineTuning,
    *,
    names: Sequence[str],
    rank: ConcernScorer,
    rng: random.Random,
) -> list[list[_Example]]:
    """Shuffled batches of about `tokens_a_step` tokens, so that single lines weigh as much in a step as long calls."""
    examples: list[_Example] = []
    for original in learn:
        item = resegmented(original, rank, rng) if rng.random() < settings.resegmented else original
        examples += _examples(item, *augment(item.conversation, names, settings.chances, rng), encoder, rank)
    rng.shuffle(examples)
    batches: list[list[_Example]] = [[]]
    tokens = 0
    for example in examples:
        tokens += len(example.window.ids)
        if batches[-1] and tokens > settings.tokens_a_step:
            batches.append([])
            tokens = len(example.window.ids)
        batches[-1].append(example)
    return batches


def _examples(
    item: LabelledConversation, variant: Conversation, first: int, encoder: TurnEncoder, rank: ConcernScorer
) -> list[_Example]:
    """The windows of `variant`, which begins at turn `first` of `item`, with `item`'s labels.

    If a turn with a concern is encoded in pieces, the piece that sounds most like the concern gets the label; the
    labels of the other pieces are unknown.
    """
    pieces, owners = encoder.pieces(variant)
    turns = np.asarray(owners, dtype=np.int64) + first
    concerns, severity = item.concerns[turns], item.severity[turns]
    for turn in np.unique(turns[np.nan_to_num(concerns[:, -1]) > 0]):
        own = np.flatnonzero(turns == turn)
        if own.size > 1:
            others = np.delete(own, rank([encoder.words(pieces[at]) for at in own]).argmax())
            concerns[others], severity[others] = np.nan, -1
    found = []
    for window in windows(pieces):
        rows = [piece for piece, _, _ in window.spans]
        here = turns[rows]
        found.append(_Example(window, concerns[rows], severity[rows], item.sentiment[here], item.commits[here]))
    return found


def _loss(answers: dict[str, torch.Tensor], batch: Sequence[_Example], settings: FineTuning) -> torch.Tensor:
    concern, severity, sentiment, commits = (
        torch.from_numpy(np.concatenate([getattr(example, name) for example in batch]))
        for name in ("concern", "severity", "sentiment", "commits")
    )
    weights = torch.ones(concern.shape[1])
    weights[-1] = settings.any_weight
    known = ~concern.isnan().any(dim=1)
    each = functional.binary_cross_entropy_with_logits(answers["concern"][known], concern[known], reduction="none")
    graver = 1.0 + (settings.critical_weight - 1.0) * (severity[known] == len(SEVERITIES) - 1).float()
    loss = (each * weights * graver[:, None]).sum() / len(concern)
    if bool((sentiment >= 0).any()):  # real talk has no sentiment labels
        loss = loss + settings.sentiment_weight * functional.cross_entropy(answers["sentiment"], sentiment)
    known_commits = ~commits.isnan()
    if bool(known_commits.any()):
        loss = loss + settings.commitment_weight * functional.binary_cross_entropy_with_logits(
            answers["commits"][known_commits], commits[known_commits]
        )
    voiced = severity >= 0
    if bool(voiced.any()):
        which = concern[voiced, :-1]
        chosen = functional.log_softmax(answers["concern"][voiced, :-1], dim=1)
        loss = loss - settings.which_category_weight * (chosen * which / which.sum(dim=1, keepdim=True)).sum(1).mean()
        steps = (severity[voiced, None] > torch.arange(3)).float()
        ordinal = functional.binary_cross_entropy_with_logits(answers["severity"][voiced], steps)
        loss = loss + settings.severity_weight * ordinal
    return loss
