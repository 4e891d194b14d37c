"""Training on a small part of the data: reproducible, and its artefacts load and answer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.text import TextModels, analyse
from models.weights import sentence_encoder
from tests.readers import conversation
from training.calibration import category_thresholds, load_answers
from training.dataset import SEED_DATA, SHORT_EXCHANGES, dataset_sha256, read_dataset
from training.fine_tuning import STAGES
from training.parts import Part, read_part, run_part
from training.train import HELD_OUT_ANSWERS, Places, Settings, train

QUICK = tuple(replace(stage, epochs=1) for stage in STAGES)


def few_conversations(directory: Path, count: int) -> Path:
    """A data set of `count` lines spread over the seed data's first file."""
    directory.mkdir()
    lines = (SEED_DATA / "train-a.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    (directory / "few.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory


def part(data: Path, directory: Path, learn: Sequence[int], held_out: Sequence[int]) -> Part:
    base = sentence_encoder()
    return Part("part", tuple(learn), tuple(held_out), data, SHORT_EXCHANGES, base, directory, QUICK, 10.0, seed=3)


def test_the_same_seed_learns_the_same_weights(tmp_path: Path) -> None:
    data = few_conversations(tmp_path / "data", 12)
    learnt = []
    for name in ("first", "second"):
        run_part(part(data, tmp_path / name, range(8), range(8, 12)))
        learnt.append(
            {**read_part(tmp_path / name, "encoder"), **read_part(tmp_path / name, "heads")}
            | read_part(tmp_path / name, "answers")
        )
    assert learnt[0].keys() == learnt[1].keys()
    assert [key for key in learnt[0] if not np.array_equal(learnt[0][key], learnt[1][key])] == []


def test_a_run_writes_artefacts_that_load_and_answer(tmp_path: Path) -> None:
    data = few_conversations(tmp_path / "data", 24)
    settings = replace(Settings(), folds=2, answered=(0, 1), stages=QUICK, processes=1, version="0.0.1")
    shipped, answers = tmp_path / "shipped", tmp_path / "answers.safetensors"
    figures = train(Places(data, SHORT_EXCHANGES, shipped, answers, tmp_path / "work"), settings)
    assert figures["safeguarding"]["conversations"] == 24
    models = TextModels.load(tmp_path / "state", shipped)
    assert models.versions["safeguarding"] == "safeguarding@0.0.1"
    assert len(analyse(conversation("Morning.", "He hit her."), models).turns) == 2
    kept = load_answers(answers, read_dataset(data), dataset_sha256(data, SHORT_EXCHANGES))
    assert len(kept.concern) == figures["safeguarding"]["turns"]
    with pytest.raises(ValueError, match="another data set"):
        load_answers(answers, read_dataset(data), "0" * 64)


def test_thresholds_keep_to_the_share_of_false_alarms() -> None:
    dataset = read_dataset()
    answers = load_answers(HELD_OUT_ANSWERS, dataset, dataset_sha256(SEED_DATA, SHORT_EXCHANGES))
    guesses = np.random.default_rng(0).random(answers.concern.shape, dtype=np.float32) / np.float32(2)
    thresholds = category_thresholds(answers, guesses, 0.04)
    above = np.asarray((guesses[:, :15] >= np.asarray(list(thresholds.values()))).any(axis=1))
    assert 0.03 < above[answers.true_concern[:, -1] == 0].mean() <= 0.04
