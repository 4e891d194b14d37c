"""Training on a small part of the data is reproducible, and its artefacts can be loaded and used."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.artefacts.weights import mpnet
from models.text.analysis import TextModels, analyse
from tests.text_models import conversation, weights_directory
from training.calibration import category_thresholds, load_answers
from training.dataset import CORPORA, dataset_sha256, read_dataset
from training.fine_tuning import FineTuning
from training.fold_training import TrainingJob, read_job_output, run_job
from training.identity_terms import LEVELLED
from training.train import HELD_OUT_ANSWERS, TrainingPaths, TrainingSettings, train

# The test folders have names that no split knows, so the stages train on all of them.
QUICK = (
    FineTuning(corpora=(), epochs=1, resegmented=1.0),
    FineTuning(corpora=(), epochs=1, real_talk=True),
)
FILES = ("encoder", "heads", "answers")


def few_conversations(directory: Path, count: int, skipped: int = 0) -> Path:
    """A data set of `count` conversations of the seed data's first file."""
    directory.mkdir()
    lines = (CORPORA[0] / "train-a.jsonl").read_text(encoding="utf-8").splitlines()[skipped : skipped + count]
    (directory / "few.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory


def test_the_same_seed_learns_the_same_weights(tmp_path: Path) -> None:
    dataset = read_dataset(few_conversations(tmp_path / "data", 12))
    learnt = []
    for name in ("first", "second"):
        place = tmp_path / name
        run_job(
            TrainingJob(
                learn=dataset[:8],
                real_talk=(),
                held_out=dataset[8:],
                held_out_talk=(),
                base=mpnet(weights_directory()),
                directory=place,
                stages=QUICK,
                levelled=LEVELLED,
                ngram_strength=10.0,
                seed=3,
                threads=1,
            )
        )
        learnt.append({key: value for file in FILES for key, value in read_job_output(place, file).items()})
    assert learnt[0].keys() == learnt[1].keys()
    assert [key for key in learnt[0] if not np.array_equal(learnt[0][key], learnt[1][key])] == []


@pytest.mark.timeout(1800)  # it trains: minutes on an idle machine, longer on a busy one
def test_a_run_writes_artefacts_that_load_and_answer(tmp_path: Path) -> None:
    data, training_only = (
        few_conversations(tmp_path / "data", 24),
        few_conversations(tmp_path / "besides", 4, skipped=24),
    )
    settings = replace(TrainingSettings(), folds=2, stages=QUICK, version="0.0.1")
    shipped, answers = tmp_path / "shipped", tmp_path / "answers.safetensors"
    figures = train(
        TrainingPaths((data,), (training_only,), shipped, answers, tmp_path / "work", weights_directory()), settings
    )
    assert figures["safeguarding"]["conversations"] == 12
    models = TextModels.load(weights_directory().parent, shipped)
    assert models.versions["safeguarding"] == "safeguarding@0.0.1"
    assert len(analyse(conversation("Morning.", "He hit her."), models).turns) == 2
    kept = load_answers(answers, read_dataset(data), dataset_sha256(data, training_only))
    assert len(kept.concern) == figures["safeguarding"]["turns"]
    with pytest.raises(ValueError, match="another data set"):
        load_answers(answers, read_dataset(data), "0" * 64)


def test_thresholds_keep_to_the_share_of_false_alarms() -> None:
    dataset = read_dataset()
    answers = load_answers(HELD_OUT_ANSWERS, dataset, dataset_sha256())
    guesses = np.random.default_rng(0).random(answers.concern.shape, dtype=np.float32) / np.float32(2)
    thresholds = category_thresholds(answers, guesses, 0.04)
    above = np.asarray((guesses[:, :15] >= np.asarray(list(thresholds.values()))).any(axis=1))
    assert 0.03 < above[answers.true_concern[:, -1] == 0].mean() <= 0.04
