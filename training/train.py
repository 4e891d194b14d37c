"""Train the text models: `python -m training.train`. Reads top to bottom; the same data give the same artefacts.

1. Read the data sets and hold out a seventh of the conversations.
2. Learn from the others, once: what is measured is what ships.
3. Fit calibration, thresholds and the risk layer on the held-out answers.
4. Write `models/shipped/<name>/`: safetensors, JSON and a manifest each.
"""

import argparse
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from models.artefacts import Origin, write_artefact
from models.champions import SHIPPED
from models.weights import mpnet
from training.calibration import (
    Answers,
    best_f1_threshold,
    category_thresholds,
    cross_calibrated,
    fit_calibration,
    gather,
    save_answers,
)
from training.dataset import CORPORA, SHORT_EXCHANGES, Labelled, dataset_sha256, read_dataset
from training.evaluation import text_figures
from training.fine_tuning import STAGES, FineTuning
from training.learning import Lesson, read_learnt, run
from training.levelling import LEVELLED
from training.risk_fitting import fit_risk
from training.splits import FOLDS, SEED, Split, assign_folds, split
from training.summary_fitting import fit_summary

HELD_OUT_ANSWERS: Final = Path(__file__).parent / "held_out_answers.safetensors"


@dataclass(frozen=True)
class Settings:
    """All hyper-parameters of a run."""

    version: str = "2.2.0"
    seed: int = SEED
    folds: int = FOLDS  # one of them is held out
    stages: tuple[FineTuning, ...] = STAGES
    levelled: tuple[tuple[str, ...], ...] = LEVELLED  # words that the encoder reads alike
    ngram_strength: float = 10.0
    false_alarms: float = 0.045  # share of ordinary turns that may carry a concern at the shipped thresholds
    threads: int = 2


@dataclass(frozen=True)
class Places:
    """Where a run reads and writes: the data sets, what it ships, the held-out answers, and what is learnt.

    `besides`: conversations that are learnt from and never held out. `weights`: where packaged weights are unpacked.
    """

    data: tuple[Path, ...] = CORPORA
    besides: Path = SHORT_EXCHANGES
    shipped: Path = SHIPPED
    held_out_answers: Path = HELD_OUT_ANSWERS
    work: Path = Path("var") / "training"
    weights: Path = Path("var") / "models"


def train(places: Places, settings: Settings) -> dict[str, Any]:
    """Train everything, ship it and keep the held-out answers; returns the figures."""
    dataset = read_dataset(*places.data)
    digest = dataset_sha256(*places.data, places.besides)
    dealt = hold_out(dataset, settings)
    directory = places.work / run_key(digest, settings)
    run(
        Lesson(
            learn=[dataset[at] for at in dealt.learn] + read_dataset(places.besides),
            held_out=[dataset[at] for at in dealt.held_out],
            base=mpnet(places.weights),
            directory=directory,
            stages=settings.stages,
            levelled=settings.levelled,
            ngram_strength=settings.ngram_strength,
            seed=settings.seed,
            threads=settings.threads,
        )
    )
    answers = gather([(dealt.held_out, read_learnt(directory, "answers"))], dataset)
    save_answers(places.held_out_answers, answers, digest)
    concern, _, commitment = cross_calibrated(answers)
    thresholds = category_thresholds(answers, concern, settings.false_alarms)
    commitment_threshold = best_f1_threshold(answers.true_commits, commitment)
    figures = text_figures(answers, dataset, thresholds, commitment_threshold)
    figures |= _ship(
        Learnt(directory, answers, dataset, thresholds, commitment_threshold),
        figures,
        shipped=places.shipped,
        digest=digest,
        settings=settings,
    )
    return figures


def hold_out(dataset: list[Labelled], settings: Settings) -> Split:
    """Which conversations are learnt from and which are held out: as many of each risk, and of hard negatives."""
    ids = [item.conversation.id for item in dataset]
    strata = [f"{item.risk} {item.hard_negative}" for item in dataset]
    return split(assign_folds(ids, strata, settings.folds, settings.seed), 0)


def run_key(digest: str, settings: Settings) -> str:
    """A name for what a run learns: it depends on data, settings of learning, folds and seed."""
    relevant = {
        "data": digest,
        "learning": [asdict(stage) for stage in settings.stages],
        "levelled": settings.levelled,
        "ngrams": settings.ngram_strength,
    }
    text = json.dumps({**relevant, "folds": settings.folds, "seed": settings.seed}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Learnt:
    """What shipping needs: what was learnt, and what held-out answers taught about it."""

    directory: Path
    answers: Answers
    dataset: list[Labelled]
    thresholds: dict[str, float]
    commitment_threshold: float


def _ship(learnt: Learnt, figures: dict[str, Any], *, shipped: Path, digest: str, settings: Settings) -> dict[str, Any]:
    """Write one artefact a model; returns the figures of the two that are fitted here."""
    heads, ngrams = read_learnt(learnt.directory, "heads"), read_learnt(learnt.directory, "ngrams")
    fitted = fit_calibration(learnt.answers)
    origin = Origin(settings.version, digest)
    encoder = write_artefact(
        shipped / "turn_encoder", origin, arrays=read_learnt(learnt.directory, "encoder"), settings=asdict(settings)
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
    figures = train(Places(work=given.data / "training", weights=given.data / "models"), Settings())
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
