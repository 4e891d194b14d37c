"""Makes a report from beginning to end: reads, asks, measures, draws and writes; for one version or two.

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
from training.behaviour_checks import CAPABILITIES, ask
from training.metrics import interval, resampled
from training.out_of_corpus_figures import plain_figures, plain_lines, real_talk_figures
from training.probe_text import CHANGES, DESCRIPTIONS, corpus_names, probe
from training.real_talk import read_real_talk
from training.report.comparison import comparison_figures
from training.report.material import (
    Material,
    corpus,
    held_out_among,
    known_to_the_corpus,
    left_out_answers,
    read_material,
)
from training.report.page import comparison_page, page
from training.report.plots import draw
from training.report.predictions import Reading, Version, find_version, held_out_reading, reading_by
from training.report.sections import Figures, other_values, report_figures
from training.report.steps import Steps
from training.train import LEFT_OUT, Settings
from training.unseen_style_figures import left_out_figures


def evaluate(given: argparse.Namespace, command: str, steps: Steps) -> tuple[Figures, Path]:
    """The report on one version, written; its figures and its folder."""
    with steps.step("reading conversations and held-out answers"):
        known, digest = corpus()
        asked = read_material(given.on) if given.on else None
    version = find_version(given.model or str(given.shipped), given.data)
    with steps.step(f"loading {version.name}"):
        models = version.load()
    if given.model or asked is not None:
        material = asked if asked is not None else held_out_reading(known).material
        reading = _asked(version, models, material, digest, steps)
    else:
        with steps.step("calibrating crosswise"):
            reading = held_out_reading(known, given.shipped)
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
                "version": version.name, "capability": told.row.capability, "heard": told.row.heard,
                "flagged": told.flagged, "right": told.right, "probability": told.probability,
                "said": told.row.lines[-1],
            }
            for told in ask(models.safeguarding, CAPABILITIES)
        ]  # fmt: skip
    with steps.step("plain lines, real talk and styles never seen"):
        figures["outside"] = _outside(given, models, known)
    if given.probe:
        with steps.step("swaps and deletions", CHANGES + len(DESCRIPTIONS) + 1) as step:
            names = corpus_names(known.items)
            answers = probe(models.safeguarding, reading.material.items, names, step.part)
            figures["probe"] = {"asked": f"Asked is {version.name}.", **answers}
            _add_evidence(models.safeguarding, reading, figures)
    if given.calls:
        with steps.step("speech"):
            figures["speech"] = _speech(given.calls, given.data)
    directory = given.out or _folder(given.data, reading.name)
    with steps.step("drawings"):
        drawn = draw(figures, reading, directory / "plots")
    figures["drawings"] = {name: str(file.relative_to(directory)) for name, file in drawn.items()}
    return _written(figures, page, directory), directory


def compare(given: argparse.Namespace, command: str, steps: Steps) -> tuple[Figures, Path]:
    """One version against another on the same conversations, written; the figures and the folder."""
    versions = [find_version(named, given.data) for named in (given.model, given.against)]
    with steps.step("reading conversations"):
        known, digest = corpus()
        material = read_material(given.on) if given.on else held_out_reading(known).material
    readings = []
    for version in versions:
        with steps.step(f"loading {version.name}"):
            models = version.load()
        readings.append(_asked(version, models, material, digest, steps))
    with steps.step("figures, differences and intervals"):
        figures = comparison_figures(*readings)
    figures |= {"made": _now().strftime("%d %B %Y, %H:%M UTC"), "command": command, "dataset_sha256": digest}
    figures["own_data"] = known_to_the_corpus(material) == len(material.items)
    figures["version"] = f"{readings[0].name} against {readings[1].name}"
    directory = given.out or _folder(given.data, f"{readings[0].name}-against-{readings[1].name}")
    return _written(figures, comparison_page, directory), directory


def _outside(given: argparse.Namespace, models: TextModels, known: Material) -> Figures:
    """How the version does outside its corpora; styles never seen only where this is the version that ships."""
    left_out: list[Figures] = []
    answers = left_out_answers(known)
    if answers is not None and not given.model:
        settings = Settings()
        left_out = left_out_figures(answers, known.items, LEFT_OUT, settings.false_alarms)
    sets = read_real_talk(given.public) if given.public else []
    return {
        "plain_lines": plain_figures(models.safeguarding, plain_lines()),
        "real_talk": real_talk_figures(models.safeguarding, sets),
        "left_out": left_out,
    }


def _asked(version: Version, models: TextModels, material: Material, digest: str, steps: Steps) -> Reading:
    with steps.step(f"asking {version.name}") as step:
        return reading_by(version, models, material, learnt_from(version, material, digest), step.share)


def learnt_from(version: Version, material: Material, digest: str) -> str:
    """A sentence: whether the version has learnt from these conversations, as far as its manifest can tell."""
    known, total = known_to_the_corpus(material), len(material.items)
    if known == 0:
        return "None of these conversations stands in what versions are trained on."
    if version.manifest("safeguarding").dataset_sha256 != digest:
        return (
            f"{known} of these {total} conversations stand in the present training data; this version learnt from "
            "another state of the data, so whether it knows them is not recorded: **take its figures as flattering**."
        )
    learnt = known - held_out_among(material)
    if learnt == 0:
        return f"It has not learnt from these conversations; calibration and thresholds were fitted on {known} of them."
    return (
        f"**It has learnt from {learnt} of these {total} conversations**: its figures flatter it and are no measure "
        "of how good it is."
    )


def _add_evidence(model: SafeguardingModel, reading: Reading, figures: Figures) -> None:
    """The words that moved the score, in each case that the probed model flags."""
    talks = {item.conversation.id: item.conversation for item in reading.material.items}
    for name in ("missed_critical", "worst_misses", "worst_false_alarms"):
        for case in figures[name]:
            told = model.assess(talks[case["conversation"]])[case["turn"]]
            case["evidence"] = [one.text for concern in told.concerns[:1] for one in concern.evidence]


def _speech(calls: Path, data: Path) -> str:
    """The speech figures as Markdown, from the command that measures them, in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "training.evaluate_speech", "--calls", str(calls), "--data", str(data)],
        check=False, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    if ran.returncode != 0:
        raise RuntimeError(f"speech could not be measured on {calls}; see above")
    return ran.stdout


def _written(figures: Figures, tell: Callable[[Figures], str], directory: Path) -> Figures:
    """report.md and report.json in `directory`; the figures as JSON has them (nothing is not a number there)."""
    plain: Figures = _plain_numbers(figures)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "report.md").write_text(tell(plain), encoding="utf-8")
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
