"""Trains on some conversations, predicts the held-out ones, and writes all to disk: the long step of a run.

Called by `training/train`. Finished parts are reused, so that an interrupted run need not train twice.
"""

import json
import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression

from models.text.ngrams import NgramClassifier, NgramFeatures, NgramInput, ngram_inputs
from models.text.safeguarding import turn_maxima
from models.text.sentiment import turn_means
from models.text.turn_encoder import TurnEncoder, apply_difference, weight_difference
from training.dataset import FIRST_CORPORA, LabelledConversation
from training.fine_tuning import FineTuning, TurnHeads, fine_tune
from training.real_talk_mixing import insert_lines

_ANSWERS: Final = "answers.safetensors"


@dataclass(frozen=True)
class TrainingJob:
    """What to train on and what to predict. `base`: the packaged weights. `directory` receives the results.

    `real_talk`: excerpts of public sets, trained on as harmless. `held_out_talk`: others, predicted like `held_out`.
    `levelled`: groups of words for which the encoder has one meaning.
    """

    learn: Sequence[LabelledConversation]
    real_talk: Sequence[LabelledConversation]
    held_out: Sequence[LabelledConversation]
    held_out_talk: Sequence[LabelledConversation]
    base: Path
    directory: Path
    stages: tuple[FineTuning, ...]
    levelled: tuple[tuple[str, ...], ...]
    ngram_strength: float
    seed: int
    threads: int


def run_job(job: TrainingJob) -> None:
    """Writes `encoder`, `heads`, `ngrams` and the `answers` for held-out turns; the answers last."""
    if (job.directory / _ANSWERS).exists():
        return
    torch.set_num_threads(job.threads)
    job.directory.mkdir(parents=True, exist_ok=True)
    ngrams, document, arrays = fit_ngrams([*job.learn, *job.real_talk], job.ngram_strength)
    (job.directory / "ngrams.json").write_text(json.dumps(document), encoding="utf-8")
    save_file(arrays, job.directory / "ngrams.safetensors")
    encoder, heads = _train_stages(job, ngrams)
    if job.held_out_talk:
        harmless = np.concatenate([~np.isnan(item.concerns[:, -1]) for item in job.held_out_talk])
        found = held_out_logits(job.held_out_talk, encoder, heads, ngrams) | {"harmless": harmless}
        save_file(found, job.directory / "talk_answers.safetensors")
    save_file(held_out_logits(job.held_out, encoder, heads, ngrams), job.directory / _ANSWERS)


def _train_stages(job: TrainingJob, ngrams: NgramClassifier) -> tuple[TurnEncoder, TurnHeads]:
    """Encoder and heads after the last stage, as read from disk: what ships is what predicts, including its four bits.

    Each stage is written to disk, and the next one starts from that.
    """
    torch.manual_seed(job.seed)
    heads = TurnHeads(job.stages[0].dropout)
    encoder = TurnEncoder.from_base_weights(job.base, job.levelled)
    for number, settings in enumerate(job.stages, start=1):
        files = [job.directory / f"stage-{number}-{what}.safetensors" for what in ("encoder", "heads")]
        if not all(file.exists() for file in files):
            fine_tune(
                encoder,
                heads,
                _stage_data(job, settings, number),
                settings,
                rank=lambda texts: ngrams.logits([NgramInput(text, "") for text in texts])[:, -1],
                seed=job.seed + number,
                log=partial(_log, number),
            )
            save_file(
                weight_difference(encoder.network, TurnEncoder.from_base_weights(job.base, job.levelled).network),
                files[0],
            )
            save_file(heads.arrays(), files[1])
        encoder = TurnEncoder.from_base_weights(job.base, job.levelled)
        apply_difference(encoder.network, load_file(files[0]))
        heads.load_state_dict({name: torch.from_numpy(value) for name, value in load_file(files[1]).items()})
    for what, file in zip(("encoder", "heads"), files, strict=True):
        shutil.copyfile(file, job.directory / f"{what}.safetensors")
    return encoder, heads.eval()


def _stage_data(job: TrainingJob, settings: FineTuning, number: int) -> list[LabelledConversation]:
    """The conversations that a stage is trained on, and its excerpts of real conversations."""
    rng = random.Random(job.seed)  # noqa: S311 - a reproducible choice, not a secret
    mine = [item for item in job.learn if not settings.corpora or not item.source or item.folder in settings.corpora]
    if settings.replayed < 1.0:
        mine = [item for item in mine if item.folder not in FIRST_CORPORA or rng.random() < settings.replayed]
    talk = job.real_talk if settings.real_talk else ()
    return mine + insert_lines(talk, [item for item in mine if _is_a_line(item)], rng)


def _is_a_line(item: LabelledConversation) -> bool:
    return len(item.conversation.turns) == 1 and item.folder not in FIRST_CORPORA


def _log(stage: int, line: str) -> None:
    print(f"stage {stage}, {line}", flush=True)


def read_job_output(directory: Path, name: str) -> dict[str, NDArray[Any]]:
    """One array file of a finished job: `answers`, `talk_answers`, `encoder`, `heads` or `ngrams`."""
    arrays: dict[str, NDArray[Any]] = load_file(directory / f"{name}.safetensors")
    return arrays


def held_out_logits(
    items: Sequence[LabelledConversation], encoder: TurnEncoder, heads: TurnHeads, ngrams: NgramClassifier
) -> dict[str, NDArray[Any]]:
    """Uncalibrated logits of every turn of `items`, in order, and the position in `items` of its conversation."""
    vectors = encoder.encode([item.conversation for item in items])
    layers = heads.arrays()
    rows: dict[str, list[NDArray[Any]]] = {"concern": [], "severity": [], "sentiment": [], "commitment": []}
    for item, found in zip(items, vectors, strict=True):
        for name, found_rows in rows.items():
            pieces = found.vectors @ layers[f"{name}.weight"].T + layers[f"{name}.bias"]
            turns = len(item.conversation.turns)
            # Sentiment is the mean over the pieces of a long turn; a concern in one piece is enough.
            mean = name == "sentiment"
            found_rows.append(turn_means(pieces, found.turn_of, turns) if mean else turn_maxima(pieces, found.turn_of))
    answers = {name: np.concatenate(found) for name, found in rows.items()} if items else {}
    answers["counted"] = ngrams.logits(_inputs(items))
    owners = [at for at, item in enumerate(items) for _ in item.conversation.turns]
    return answers | {"conversation": np.asarray(owners, dtype=np.int64)}


def fit_ngrams(
    learn: Sequence[LabelledConversation], strength: float
) -> tuple[NgramClassifier, dict[str, Any], dict[str, NDArray[Any]]]:
    """One logistic regression per output over n-grams. Returns classifier, vocabulary and weights (float16)."""
    features = NgramFeatures.fit(_inputs(learn))
    matrix = features.transform(_inputs(learn))
    labels = np.concatenate([item.concerns for item in learn])
    known = ~np.isnan(labels).any(axis=1)
    matrix, labels = matrix[known], labels[known]
    weights = np.zeros((labels.shape[1], matrix.shape[1]), dtype=np.float16)
    bias = np.full(labels.shape[1], -8.0, dtype=np.float32)
    for column in range(labels.shape[1]):
        if 0 < labels[:, column].sum() < len(labels):
            layer = LogisticRegression(C=strength, solver="liblinear", random_state=0).fit(matrix, labels[:, column])
            weights[column] = layer.coef_[0].astype(np.float16)
            bias[column] = layer.intercept_[0]
    arrays: dict[str, NDArray[Any]] = {"ngram_weights": weights, "ngram_bias": bias}
    return NgramClassifier(features, weights, bias), features.to_document(), arrays


def _inputs(items: Sequence[LabelledConversation]) -> list[NgramInput]:
    return [row for item in items for row in ngram_inputs([turn.text for turn in item.conversation.turns])]
