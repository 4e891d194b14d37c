"""One part of a training run: learn from some conversations, answer for those held out, leave it on disk.

`training/train` runs a part a fold, and one over everything, each in a process of its own with a single thread:
that is reproducible, and on shared cores much faster than two threads that wait for each other. A finished part is
found again by its key, so that an interrupted run goes on where it was.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression

from models.ngrams import NgramClassifier, NgramFeatures, NgramInput, ngram_inputs
from models.safeguarding import turn_maxima
from models.sentiment import turn_means
from models.turn_encoder import TurnEncoder, apply_difference, difference
from training.dataset import Labelled, read_dataset
from training.fine_tuning import FineTuning, TurnHeads, fine_tune

_ANSWERS: Final = "answers.safetensors"


@dataclass(frozen=True)
class Part:
    """What to learn from and for whom to answer: positions in the data set; `directory` receives the results.

    `besides`: conversations that every part learns from and none is asked about.
    """

    name: str
    learn: tuple[int, ...]
    held_out: tuple[int, ...]
    data: Path
    besides: Path
    base: Path
    directory: Path
    stages: tuple[FineTuning, ...]
    ngram_strength: float
    seed: int


def run_part(part: Part) -> str:
    """Learn and write `encoder`, `heads`, `ngrams` and the answers for held-out turns; returns the part's name."""
    if (part.directory / _ANSWERS).exists():
        return part.name
    torch.set_num_threads(1)
    part.directory.mkdir(parents=True, exist_ok=True)
    dataset = read_dataset(part.data)
    written = [dataset[at] for at in part.learn]
    short = read_dataset(part.besides)
    ngrams, document, arrays = fit_ngrams(written + short, part.ngram_strength)
    encoder, heads = _learn_in_stages(part, written, short, ngrams)
    shutil.copyfile(_stage_file(part, len(part.stages), "encoder"), part.directory / "encoder.safetensors")
    save_file(heads.arrays(), part.directory / "heads.safetensors")
    (part.directory / "ngrams.json").write_text(json.dumps(document), encoding="utf-8")
    save_file(arrays, part.directory / "ngrams.safetensors")
    answers = answer([dataset[at] for at in part.held_out], encoder, heads, ngrams)
    save_file(answers, part.directory / _ANSWERS)
    return part.name


def _learn_in_stages(
    part: Part, written: list[Labelled], short: list[Labelled], ngrams: NgramClassifier
) -> tuple[TurnEncoder, TurnHeads]:
    """Encoder and heads after the last stage; each stage is left on disk and starts from the one before as it lies."""
    base = TurnEncoder.untrained(part.base)
    torch.manual_seed(part.seed)
    heads = TurnHeads(part.stages[0].dropout)
    encoder = base
    for number, settings in enumerate(part.stages, start=1):
        if not _stage_file(part, number, "heads").exists():
            fine_tune(
                encoder,
                heads,
                written + short * settings.short_exchanges,
                settings,
                rank=lambda texts: ngrams.logits([NgramInput(text, "") for text in texts])[:, -1],
                seed=part.seed + number,
                tell=lambda line, number=number: print(f"{part.name}, stage {number}: {line}", flush=True),  # type: ignore[misc]
            )
            changed = difference(encoder.network, TurnEncoder.untrained(part.base).network)
            save_file(changed, _stage_file(part, number, "encoder"))
            save_file(heads.arrays(), _stage_file(part, number, "heads"))
        encoder = TurnEncoder.untrained(part.base)
        apply_difference(encoder.network, load_file(_stage_file(part, number, "encoder")))
        state = load_file(_stage_file(part, number, "heads"))
        heads.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return encoder, heads.eval()


def _stage_file(part: Part, number: int, what: str) -> Path:
    return part.directory / f"stage-{number}-{what}.safetensors"


def read_part(directory: Path, name: str) -> dict[str, NDArray[Any]]:
    """One of a finished part's arrays files: `answers`, `encoder`, `heads` or `ngrams`."""
    arrays: dict[str, NDArray[Any]] = load_file(directory / f"{name}.safetensors")
    return arrays


def answer(
    items: Sequence[Labelled], encoder: TurnEncoder, heads: TurnHeads, ngrams: NgramClassifier
) -> dict[str, NDArray[Any]]:
    """Uncalibrated logits of every turn of `items`, in order, and the position in `items` of its conversation."""
    vectors = encoder.encode([item.conversation for item in items])
    layers = heads.arrays()
    rows: dict[str, list[NDArray[Any]]] = {"concern": [], "severity": [], "sentiment": [], "commitment": []}
    for item, found in zip(items, vectors, strict=True):
        for name, found_rows in rows.items():
            pieces = found.vectors @ layers[f"{name}.weight"].T + layers[f"{name}.bias"]
            turns = len(item.conversation.turns)
            # Sentiment is the mean over a monologue's pieces; of a concern, one piece is enough.
            mean = name == "sentiment"
            found_rows.append(turn_means(pieces, found.turn_of, turns) if mean else turn_maxima(pieces, found.turn_of))
    answers = {name: np.concatenate(found) for name, found in rows.items()} if items else {}
    answers["counted"] = ngrams.logits(_inputs(items))
    owners = [at for at, item in enumerate(items) for _ in item.conversation.turns]
    return answers | {"conversation": np.asarray(owners, dtype=np.int64)}


def fit_ngrams(
    learn: Sequence[Labelled], strength: float
) -> tuple[NgramClassifier, dict[str, Any], dict[str, NDArray[Any]]]:
    """One logistic regression an output over n-grams; the classifier, its vocabulary and its weights (float16)."""
    features = NgramFeatures.fit(_inputs(learn))
    matrix = features.transform(_inputs(learn))
    labels = np.concatenate([item.concerns for item in learn])
    weights = np.zeros((labels.shape[1], matrix.shape[1]), dtype=np.float16)
    bias = np.full(labels.shape[1], -8.0, dtype=np.float32)
    for column in range(labels.shape[1]):
        if 0 < labels[:, column].sum() < len(labels):
            layer = LogisticRegression(C=strength, solver="liblinear", random_state=0).fit(matrix, labels[:, column])
            weights[column] = layer.coef_[0].astype(np.float16)
            bias[column] = layer.intercept_[0]
    arrays: dict[str, NDArray[Any]] = {"ngram_weights": weights, "ngram_bias": bias}
    return NgramClassifier(features, weights, bias), features.to_document(), arrays


def _inputs(items: Sequence[Labelled]) -> list[NgramInput]:
    return [row for item in items for row in ngram_inputs([turn.text for turn in item.conversation.turns])]
