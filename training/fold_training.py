"""Learn from some conversations, answer for those held out, and leave it all on disk: the long step of a run.

Called by `training/train`. What is finished is found again, so that an interrupted run need not learn twice.
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
from models.text.turn_encoder import TurnEncoder, apply_difference, difference
from training.dataset import FIRST_CORPORA, Labelled
from training.fine_tuning import FineTuning, TurnHeads, fine_tune
from training.real_talk_mixing import with_lines

_ANSWERS: Final = "answers.safetensors"


@dataclass(frozen=True)
class Lesson:
    """What to learn from and for whom to answer. `base`: the packaged weights; `directory` receives the results.

    `real_talk`: excerpts out of public sets, learnt from as harmless; `unlearnt_talk`: others, asked like `held_out`.
    `levelled`: groups of words that the encoder reads alike.
    """

    learn: Sequence[Labelled]
    real_talk: Sequence[Labelled]
    held_out: Sequence[Labelled]
    unlearnt_talk: Sequence[Labelled]
    base: Path
    directory: Path
    stages: tuple[FineTuning, ...]
    levelled: tuple[tuple[str, ...], ...]
    ngram_strength: float
    seed: int
    threads: int


def run(lesson: Lesson) -> None:
    """Write `encoder`, `heads`, `ngrams` and the `answers` for held-out turns, the last one last."""
    if (lesson.directory / _ANSWERS).exists():
        return
    torch.set_num_threads(lesson.threads)
    lesson.directory.mkdir(parents=True, exist_ok=True)
    ngrams, document, arrays = fit_ngrams([*lesson.learn, *lesson.real_talk], lesson.ngram_strength)
    (lesson.directory / "ngrams.json").write_text(json.dumps(document), encoding="utf-8")
    save_file(arrays, lesson.directory / "ngrams.safetensors")
    encoder, heads = _fine_tuned(lesson, ngrams)
    if lesson.unlearnt_talk:
        harmless = np.concatenate([~np.isnan(item.concerns[:, -1]) for item in lesson.unlearnt_talk])
        found = answer(lesson.unlearnt_talk, encoder, heads, ngrams) | {"harmless": harmless}
        save_file(found, lesson.directory / "talk_answers.safetensors")
    save_file(answer(lesson.held_out, encoder, heads, ngrams), lesson.directory / _ANSWERS)


def _fine_tuned(lesson: Lesson, ngrams: NgramClassifier) -> tuple[TurnEncoder, TurnHeads]:
    """Encoder and heads after the last stage, as they lie on disk: what ships is what answers, its four bits included.

    Each stage is left on disk and starts from the one before as it lies there.
    """
    torch.manual_seed(lesson.seed)
    heads = TurnHeads(lesson.stages[0].dropout)
    encoder = TurnEncoder.untrained(lesson.base, lesson.levelled)
    for number, settings in enumerate(lesson.stages, start=1):
        files = [lesson.directory / f"stage-{number}-{what}.safetensors" for what in ("encoder", "heads")]
        if not all(file.exists() for file in files):
            fine_tune(
                encoder,
                heads,
                _of_the_stage(lesson, settings, number),
                settings,
                rank=lambda texts: ngrams.logits([NgramInput(text, "") for text in texts])[:, -1],
                seed=lesson.seed + number,
                tell=partial(_tell, number),
            )
            save_file(
                difference(encoder.network, TurnEncoder.untrained(lesson.base, lesson.levelled).network), files[0]
            )
            save_file(heads.arrays(), files[1])
        encoder = TurnEncoder.untrained(lesson.base, lesson.levelled)
        apply_difference(encoder.network, load_file(files[0]))
        heads.load_state_dict({name: torch.from_numpy(value) for name, value in load_file(files[1]).items()})
    for what, file in zip(("encoder", "heads"), files, strict=True):
        shutil.copyfile(file, lesson.directory / f"{what}.safetensors")
    return encoder, heads.eval()


def _of_the_stage(lesson: Lesson, settings: FineTuning, number: int) -> list[Labelled]:
    """The conversations that a stage learns from, and its excerpts of real talk."""
    draw = random.Random(lesson.seed)  # noqa: S311 - a reproducible choice, not a secret
    mine = [item for item in lesson.learn if not settings.corpora or not item.source or item.folder in settings.corpora]
    if settings.replayed < 1.0:
        mine = [item for item in mine if item.folder not in FIRST_CORPORA or draw.random() < settings.replayed]
    talk = lesson.real_talk if settings.real_talk else ()
    return mine + with_lines(talk, [item for item in mine if _is_a_line(item)], draw)


def _is_a_line(item: Labelled) -> bool:
    return len(item.conversation.turns) == 1 and item.folder not in FIRST_CORPORA


def _tell(stage: int, line: str) -> None:
    print(f"stage {stage}, {line}", flush=True)


def read_learnt(directory: Path, name: str) -> dict[str, NDArray[Any]]:
    """One of a finished lesson's arrays files: `answers`, `talk_answers`, `encoder`, `heads` or `ngrams`."""
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


def _inputs(items: Sequence[Labelled]) -> list[NgramInput]:
    return [row for item in items for row in ngram_inputs([turn.text for turn in item.conversation.turns])]
