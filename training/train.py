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
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from models.artefacts import Origin, write_artefact
from models.champions import SHIPPED
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
from training.dataset import SEED_DATA, SHORT_EXCHANGES, Labelled, dataset_sha256, read_dataset
from training.evaluation import text_figures
from training.fine_tuning import STAGES, FineTuning
from training.parts import Part, read_part, run_part
from training.risk_fitting import fit_risk
from training.splits import FOLDS, SEED, assign_folds, split
from training.summary_fitting import fit_summary

HELD_OUT_ANSWERS: Final = Path(__file__).parent / "held_out_answers.safetensors"


@dataclass(frozen=True)
class Settings:
    """All hyper-parameters of a run."""

    version: str = "1.1.0"
    seed: int = SEED
    folds: int = FOLDS
    answered: tuple[int, ...] = (0,)  # folds that are learnt without and answered; each costs as much as what ships
    stages: tuple[FineTuning, ...] = STAGES
    ngram_strength: float = 10.0
    false_alarms: float = 0.04  # share of ordinary turns that may carry a concern at the shipped thresholds
    processes: int = 2  # parts that learn at the same time, one thread each


@dataclass(frozen=True)
class Places:
    """Where a run reads and writes: the data sets, what it ships, the held-out answers, and finished parts."""

    data: Path = SEED_DATA
    besides: Path = SHORT_EXCHANGES
    shipped: Path = SHIPPED
    held_out_answers: Path = HELD_OUT_ANSWERS
    work: Path = Path("var") / "training"


def train(places: Places, settings: Settings) -> dict[str, Any]:
    """Train everything, ship it and keep the held-out answers; returns the figures.

    An interrupted run goes on where it was: finished parts are found again.
    """
    data, shipped = places.data, places.shipped
    dataset = read_dataset(data)
    fold_of = assign_folds(
        [item.conversation.id for item in dataset], [item.risk for item in dataset], settings.folds, settings.seed
    )
    digest = dataset_sha256(data, places.besides)
    parts = _parts(fold_of, places, places.work / run_key(digest, settings), settings)
    _run(parts, settings.processes)

    answers = gather([(part.held_out, read_part(part.directory, "answers")) for part in parts[1:]], dataset)
    save_answers(places.held_out_answers, answers, digest)
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
    relevant = {
        "data": digest,
        "learning": [asdict(stage) for stage in settings.stages],
        "ngrams": settings.ngram_strength,
    }
    text = json.dumps({**relevant, "folds": settings.folds, "seed": settings.seed}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _parts(fold_of: list[int], places: Places, directory: Path, settings: Settings) -> list[Part]:
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
            places.data,
            places.besides,
            base,
            directory / name,
            settings.stages,
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
    arguments.add_argument("--data", type=Path, default=Path("var"), metavar="DIR", help="where state lies")
    given = arguments.parse_args()
    figures = train(Places(work=given.data / "training"), Settings())
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
