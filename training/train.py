"""Train the text models: `python -m training.train`. Reads top to bottom; the same data give the same artefacts.

1. Read the data set and deal its conversations into folds.
2. Learn once over everything (to ship) and once without each answered fold (to answer for what was held out).
3. Fit calibration, thresholds and the risk layer on the held-out answers.
4. Write `models/shipped/<name>/`: safetensors, JSON and a manifest each.
"""

import argparse
import hashlib
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from models.artefacts import Origin, write_artefact
from models.weights import sentence_encoder
from training.calibration import (
    Answers,
    best_f1_threshold,
    category_thresholds,
    cross_calibrated,
    fit_calibration,
    gather,
    save_answers,
)
from training.dataset import SEED_DATA, Labelled, dataset_sha256, read_dataset
from training.evaluation import text_figures
from training.fine_tuning import FineTuning
from training.parts import Part, read_part, run_part
from training.risk_fitting import fit_risk
from training.splits import FOLDS, SEED, assign_folds, split
from training.summary_fitting import fit_summary

_ROOT: Final = Path(__file__).parents[1]
HELD_OUT_ANSWERS: Final = Path(__file__).parent / "held_out_answers.safetensors"


@dataclass(frozen=True)
class Settings:
    """All hyper-parameters of a run."""

    version: str = "1.0.0"
    seed: int = SEED
    folds: int = FOLDS
    answered: tuple[int, ...] = (0,)  # folds that are learnt without and answered; each costs as much as what ships
    fine_tuning: FineTuning = field(default_factory=FineTuning)
    ngram_strength: float = 10.0
    false_alarms: float = 0.04  # share of ordinary turns that may carry a concern at the shipped thresholds
    processes: int = 2  # parts that learn at the same time, one thread each


def train(data: Path, shipped: Path, held_out_answers: Path, work: Path, settings: Settings) -> dict[str, Any]:
    """Train everything on `data`, write to `shipped` and the held-out answers to their file; returns the figures.

    `work` keeps finished parts, so that an interrupted run goes on where it was.
    """
    dataset = read_dataset(data)
    fold_of = assign_folds(
        [item.conversation.id for item in dataset], [item.risk for item in dataset], settings.folds, settings.seed
    )
    digest = dataset_sha256(data)
    parts = _parts(fold_of, data, work / run_key(digest, settings), settings)
    _run(parts, settings.processes)

    answers = gather([(part.held_out, read_part(part.directory, "answers")) for part in parts[1:]], dataset)
    save_answers(held_out_answers, answers, digest)
    concern, _, commitment = cross_calibrated(answers)
    thresholds = category_thresholds(answers, concern, settings.false_alarms)
    commitment_threshold = best_f1_threshold(answers.true_commits, commitment)
    figures = text_figures(answers, dataset, thresholds, commitment_threshold)
    figures |= _ship(
        Learnt(parts[0].directory, answers, dataset, thresholds, commitment_threshold),
        figures,
        shipped=shipped,
        digest=digest,
        settings=settings,
    )
    return figures


def run_key(digest: str, settings: Settings) -> str:
    """A name for what a part depends on: data, settings of learning, folds and seed."""
    relevant = {"data": digest, "learning": asdict(settings.fine_tuning), "ngrams": settings.ngram_strength}
    text = json.dumps({**relevant, "folds": settings.folds, "seed": settings.seed}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _parts(fold_of: list[int], data: Path, directory: Path, settings: Settings) -> list[Part]:
    """First the part over everything, which ships; then one a fold."""
    everything = tuple(range(len(fold_of)))
    dealt = [("all", everything, ())] + [
        (f"fold-{fold}", split(fold_of, fold).learn, split(fold_of, fold).held_out) for fold in settings.answered
    ]
    base = sentence_encoder()
    return [
        Part(
            name,
            learn,
            asked,
            data,
            base,
            directory / name,
            settings.fine_tuning,
            settings.ngram_strength,
            settings.seed,
        )
        for name, learn, asked in dealt
    ]


def _run(parts: list[Part], processes: int) -> None:
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for name in pool.map(run_part, parts):
            print(f"{name}: done", flush=True)


@dataclass(frozen=True)
class Learnt:
    """What shipping needs: the part over everything, and what held-out answers taught about it."""

    directory: Path
    answers: Answers
    dataset: list[Labelled]
    thresholds: dict[str, float]
    commitment_threshold: float


def _ship(learnt: Learnt, figures: dict[str, Any], *, shipped: Path, digest: str, settings: Settings) -> dict[str, Any]:
    """Write one artefact a model; returns the figures of the two that are fitted here."""
    heads, ngrams = read_part(learnt.directory, "heads"), read_part(learnt.directory, "ngrams")
    fitted = fit_calibration(learnt.answers)
    origin = Origin(settings.version, digest)
    encoder = write_artefact(
        shipped / "turn_encoder", origin, arrays=read_part(learnt.directory, "encoder"), settings=asdict(settings)
    )
    reads = {"reads_encoder": encoder.files["weights.safetensors"]}  # a head fits no other encoder than its own
    write_artefact(
        shipped / "safeguarding",
        origin,
        arrays={
            "concern": heads["concern.weight"],
            "concern_bias": heads["concern.bias"],
            "severity": heads["severity.weight"],
            "severity_bias": heads["severity.bias"],
            **fitted.concern.__dict__,
            **ngrams,
        },
        documents={"ngrams.json": json.loads((learnt.directory / "ngrams.json").read_text(encoding="utf-8"))},
        thresholds=learnt.thresholds,
        figures=figures["safeguarding"],
        settings=reads,
    )
    write_artefact(
        shipped / "sentiment",
        origin,
        arrays={
            "head": heads["sentiment.weight"],
            "head_bias": heads["sentiment.bias"],
            "calibration": fitted.sentiment,
        },
        figures=figures["sentiment"],
        settings=reads,
    )
    write_artefact(
        shipped / "actions",
        origin,
        arrays={
            "head": heads["commitment.weight"],
            "head_bias": heads["commitment.bias"],
            "calibration": fitted.commitment,
        },
        thresholds={"commitment": round(learnt.commitment_threshold, 4)},
        figures=figures["actions"],
        settings=reads,
    )
    risk, risk_figures = fit_risk(learnt.answers, learnt.dataset, learnt.thresholds)
    write_artefact(shipped / "risk", origin, arrays=risk, figures=risk_figures)
    ranking, summary_figures = fit_summary(learnt.answers, learnt.dataset, learnt.thresholds)
    write_artefact(shipped / "summarisation", origin, arrays=ranking, figures=summary_figures)
    return {"risk": risk_figures, "summarisation": summary_figures}


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    arguments.add_argument("--data", type=Path, default=_ROOT / "var", metavar="DIR", help="where state lies")
    arguments.add_argument("--dataset", type=Path, default=SEED_DATA, metavar="DIR", help="labelled conversations")
    arguments.add_argument("--shipped", type=Path, default=_ROOT / "models" / "shipped", metavar="DIR")
    arguments.add_argument("--epochs", type=int, default=FineTuning.epochs)
    given = arguments.parse_args()
    settings = Settings(fine_tuning=FineTuning(epochs=given.epochs))
    figures = train(given.dataset, given.shipped, HELD_OUT_ANSWERS, given.data / "training", settings)
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
