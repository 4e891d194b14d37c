"""Makes a report: reads, predicts, measures, draws and writes; for one version or two.

Called by `training/evaluate_text`, which reads the command line.
"""

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.text.analysis import TextModels
from models.text.safeguarding import SafeguardingModel
from training.behaviour_checks import BEHAVIOUR_CASES, run_cases
from training.metrics import interval, resampled
from training.out_of_corpus_figures import plain_figures, plain_lines, real_talk_figures
from training.probe_text import DESCRIPTIONS, PERTURBATION_COUNT, corpus_names, probe
from training.real_talk import read_real_talk
from training.report.comparison import comparison_figures
from training.report.material import (
    EvaluationSet,
    count_held_out,
    count_in_training_data,
    left_out_answers,
    load_corpus,
    read_material,
)
from training.report.page import comparison_page, page
from training.report.plots import draw
from training.report.predictions import Version, VersionPredictions, find_version, held_out_predictions, predict_with
from training.report.sections import Figures, other_values, report_figures
from training.report.steps import ProgressSteps
from training.train import LEFT_OUT, TrainingSettings
from training.unseen_style_figures import left_out_figures


def evaluate(options: argparse.Namespace, command: str, steps: ProgressSteps) -> tuple[Figures, Path]:
    """Makes and writes the report on one version. Returns its figures and its folder."""
    with steps.step("reading conversations and held-out answers"):
        training_data, digest = load_corpus()
        asked = read_material(options.on) if options.on else None
    version = find_version(options.model or str(options.shipped), options.data)
    with steps.step(f"loading {version.name}"):
        models = version.load()
    if options.model or asked is not None:
        material = asked if asked is not None else held_out_predictions(training_data).material
        reading = _predictions_of(version, models, material, digest, steps)
    else:
        with steps.step("calibrating crosswise"):
            reading = held_out_predictions(training_data, options.shipped)
    with steps.step("figures and intervals"):
        figures = report_figures(reading)
        weights, by_conversation = resampled(reading.owner), resampled(np.arange(len(reading.material.items)))
        figures["others"] = {
            name: interval(values).__dict__ for name, values in other_values(reading, weights, by_conversation).items()
        }
    figures |= {"made": _now().strftime("%d %B %Y, %H:%M UTC"), "command": command, "dataset_sha256": digest}
    with steps.step("the table of capabilities"):
        figures["behaviour"] = [
            {
                "version": version.name, "capability": result.row.capability, "heard": result.row.must_flag,
                "flagged": result.flagged, "right": result.right, "probability": result.probability,
                "said": result.row.lines[-1],
            }
            for result in run_cases(models.safeguarding, BEHAVIOUR_CASES)
        ]  # fmt: skip
    with steps.step("plain lines, real talk and styles never seen"):
        figures["outside"] = _out_of_corpus(options, models, training_data)
    if options.probe:
        with steps.step("swaps and deletions", PERTURBATION_COUNT + len(DESCRIPTIONS) + 1) as step:
            names = corpus_names(training_data.items)
            answers = probe(models.safeguarding, reading.material.items, names, step.part)
            figures["probe"] = {"asked": f"Asked is {version.name}.", **answers}
            _add_evidence(models.safeguarding, reading, figures)
    if options.calls:
        with steps.step("speech"):
            figures["speech"] = _speech(options.calls, options.data)
    directory = options.out or _folder(options.data, reading.name)
    with steps.step("drawings"):
        drawn = draw(figures, reading, directory / "plots")
    figures["drawings"] = {name: str(file.relative_to(directory)) for name, file in drawn.items()}
    return _write_report(figures, page, directory), directory


def compare(options: argparse.Namespace, command: str, steps: ProgressSteps) -> tuple[Figures, Path]:
    """Compares one version with another on the same conversations and writes it. Returns the figures and the folder."""
    versions = [find_version(named, options.data) for named in (options.model, options.against)]
    with steps.step("reading conversations"):
        training_data, digest = load_corpus()
        material = read_material(options.on) if options.on else held_out_predictions(training_data).material
    readings = []
    for version in versions:
        with steps.step(f"loading {version.name}"):
            models = version.load()
        readings.append(_predictions_of(version, models, material, digest, steps))
    with steps.step("figures, differences and intervals"):
        figures = comparison_figures(*readings)
    figures |= {"made": _now().strftime("%d %B %Y, %H:%M UTC"), "command": command, "dataset_sha256": digest}
    figures["own_data"] = count_in_training_data(material) == len(material.items)
    figures["version"] = f"{readings[0].name} against {readings[1].name}"
    directory = options.out or _folder(options.data, f"{readings[0].name}-against-{readings[1].name}")
    return _write_report(figures, comparison_page, directory), directory


def _out_of_corpus(options: argparse.Namespace, models: TextModels, training_data: EvaluationSet) -> Figures:
    """The version's figures outside its corpora. Unseen styles only if it is the shipped version."""
    left_out: list[Figures] = []
    answers = left_out_answers(training_data)
    if answers is not None and not options.model:
        settings = TrainingSettings()
        left_out = left_out_figures(answers, training_data.items, LEFT_OUT, settings.false_alarms)
    sets = read_real_talk(options.public) if options.public else []
    return {
        "plain_lines": plain_figures(models.safeguarding, plain_lines()),
        "real_talk": real_talk_figures(models.safeguarding, sets),
        "left_out": left_out,
    }


def _predictions_of(
    version: Version, models: TextModels, material: EvaluationSet, digest: str, steps: ProgressSteps
) -> VersionPredictions:
    with steps.step(f"asking {version.name}") as step:
        return predict_with(version, models, material, learnt_from(version, material, digest), step.share)


def learnt_from(version: Version, material: EvaluationSet, digest: str) -> str:
    """A sentence: whether the version was trained on these conversations, as far as its manifest says."""
    training_data, total = count_in_training_data(material), len(material.items)
    if training_data == 0:
        return "None of these conversations stands in what versions are trained on."
    if version.manifest("safeguarding").dataset_sha256 != digest:
        return (
            f"{training_data} of these {total} conversations stand in the present training data; this version "
            "learnt from another state of the data, so whether it knows them is not recorded: "
            "**take its figures as flattering**."
        )
    learnt = training_data - count_held_out(material)
    if learnt == 0:
        return (
            "It has not learnt from these conversations; calibration and thresholds were fitted on "
            f"{training_data} of them."
        )
    return (
        f"**It has learnt from {learnt} of these {total} conversations**: its figures flatter it and are no measure "
        "of how good it is."
    )


def _add_evidence(model: SafeguardingModel, reading: VersionPredictions, figures: Figures) -> None:
    """Adds the words with the most influence on the score to each case that the probed model flags."""
    talks = {item.conversation.id: item.conversation for item in reading.material.items}
    for name in ("missed_critical", "worst_misses", "worst_false_alarms"):
        for case in figures[name]:
            result = model.score_with_evidence(talks[case["conversation"]])[case["turn"]]
            case["evidence"] = [one.text for concern in result.concerns[:1] for one in concern.evidence]


def _speech(calls: Path, data: Path) -> str:
    """The speech figures as Markdown, from the command that measures them, in a separate process."""
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "training.evaluate_speech", "--calls", str(calls), "--data", str(data)],
        check=False, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    if ran.returncode != 0:
        raise RuntimeError(f"speech could not be measured on {calls}; see above")
    return ran.stdout


def _write_report(figures: Figures, render: Callable[[Figures], str], directory: Path) -> Figures:
    """Writes report.md and report.json to `directory`. Returns the figures as in the JSON (nan becomes null)."""
    plain: Figures = _plain_numbers(figures)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "report.md").write_text(render(plain), encoding="utf-8")
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    (directory / "report.json").write_text(text + "\n", encoding="utf-8")
    return plain


def _plain_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_numbers(inner) for inner in value]
    if isinstance(value, float):
        return None if math.isnan(value) else value
    return value


def _folder(data: Path, name: str) -> Path:
    return data / "reports" / f"{_now():%Y-%m-%dT%H%M%SZ}-{name}"


def _now() -> datetime:
    return datetime.now(UTC)
