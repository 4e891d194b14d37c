"""Train the text models: `python -m training.train --public DIR`. Reads top to bottom.

The same data give the same artefacts.

1. Read the data sets and hold out a seventh of the conversations.
2. Train once on the others, and on excerpts of real talk in the public sets of DIR. The measured models ship.
3. Fit calibration, thresholds and the risk layer on the held-out answers; thresholds keep to their share of false
   alarms on real talk, too. Below them, from which probability a turn is marked unsure (`training/unsure.py`).
4. Write `models/shipped/<name>/`: safetensors, JSON and a manifest each.

With `--measure-styles` the models are trained without the conversations of two briefs (`LEFT_OUT`) and nothing is
shipped. Their answers on these briefs are stored beside this file: the figures on styles that a model has never seen.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from models.artefacts.files import Provenance, write_artefact
from models.artefacts.weights import mpnet
from models.registry.champions import SHIPPED
from models.text.safeguarding import UNSURE
from training.calibration import (
    HeldOutAnswers,
    best_f1_threshold,
    category_thresholds,
    cross_calibrated_probabilities,
    fit_calibration,
    join_answers,
    raise_for_real_talk,
    save_answers,
)
from training.dataset import CORPORA, FIRST_CORPORA, NEVER_HELD_OUT, LabelledConversation, dataset_sha256, read_dataset
from training.fine_tuning import STAGES, FineTuning
from training.fold_training import TrainingJob, read_job_output, run_job
from training.held_out_figures import text_figures
from training.identity_terms import LEVELLED
from training.real_talk import read_real_talk
from training.real_talk_mixing import choose_excerpts
from training.risk_fitting import fit_risk
from training.splits import FOLDS, SEED, Split, assign_folds, split
from training.summary_fitting import fit_summary
from training.unsure import unsure_edge

HELD_OUT_ANSWERS: Final = Path(__file__).parent / "held_out_answers.safetensors"
LEFT_OUT_ANSWERS: Final = Path(__file__).parent / "left_out_answers.safetensors"
LEFT_OUT: Final = ("clinical", "records", "voices", "dialects")  # clinical shorthand and dialects, of two writers each
_NO_REAL_TALK: Final = (
    "No folder of public sets was named (--public DIR): nothing is learnt from real talk. Without it one harmless turn "
    "in twelve of a doctor's or a shop's talk is flagged (training/LOG.md), so do not ship what comes out."
)


@dataclass(frozen=True)
class TrainingSettings:
    """All hyper-parameters of a run."""

    version: str = "2.3.0"
    seed: int = SEED
    folds: int = FOLDS  # one of them is held out
    stages: tuple[FineTuning, ...] = STAGES
    levelled: tuple[tuple[str, ...], ...] = LEVELLED  # words that the encoder reads alike
    ngram_strength: float = 10.0
    false_alarms: float = 0.035  # share of ordinary turns that may carry a concern at the shipped thresholds
    false_alarms_real_talk: float = 0.005  # the same of real talk's turns
    talk_words: int = 80_000  # of real talk to train on
    left_out: tuple[str, ...] = ()  # styles left out of training
    threads: int = 2


@dataclass(frozen=True)
class TrainingPaths:
    """Where a run reads and writes: the data sets, what it ships, the held-out answers, and the training results.

    `training_only`: conversations that are trained on and never held out. `public`: the folder of public sets with real
    talk. `weights`: where packaged weights are unpacked.
    """

    data: tuple[Path, ...] = CORPORA
    training_only: tuple[Path, ...] = NEVER_HELD_OUT
    shipped: Path = SHIPPED
    held_out_answers: Path = HELD_OUT_ANSWERS
    work: Path = Path("var") / "training"
    weights: Path = Path("var") / "models"
    public: Path | None = None


def train(paths: TrainingPaths, settings: TrainingSettings) -> dict[str, Any]:
    """Train everything, ship it and keep the held-out answers; returns the figures."""
    dataset = read_dataset(*paths.data)
    digest = dataset_sha256(*paths.data, *paths.training_only)
    directory, asked = learn(paths, settings, dataset, digest)
    answers = join_answers([(asked, read_job_output(directory, "answers"))], dataset)
    save_answers(paths.held_out_answers, answers, digest)
    concern, _, commitment = cross_calibrated_probabilities(answers)
    thresholds = category_thresholds(answers, concern, settings.false_alarms)
    if paths.public is not None:
        thresholds = raise_for_real_talk(
            thresholds, answers, read_job_output(directory, "talk_answers"), settings.false_alarms_real_talk
        )
    commitment_threshold = best_f1_threshold(answers.true_commits, commitment)
    figures = text_figures(answers, dataset, thresholds, commitment_threshold)
    figures |= _write_artefacts(
        TrainedModels(
            directory, answers, dataset, thresholds, commitment_threshold, unsure_edge(answers, concern, thresholds)
        ),
        figures,
        shipped=paths.shipped,
        digest=digest,
        settings=settings,
    )
    return figures


def measure_styles(paths: TrainingPaths, settings: TrainingSettings) -> None:
    """Trains without the styles of `settings.left_out`; stores the answers on them and on the held-out seventh."""
    dataset = read_dataset(*paths.data)
    digest = dataset_sha256(*paths.data, *paths.training_only)
    directory, asked = learn(paths, settings, dataset, digest)
    save_answers(LEFT_OUT_ANSWERS, join_answers([(asked, read_job_output(directory, "answers"))], dataset), digest)


def learn(
    paths: TrainingPaths, settings: TrainingSettings, dataset: list[LabelledConversation], digest: str
) -> tuple[Path, tuple[int, ...]]:
    """The folder of the trained models, and the positions of the conversations they predict: held out or left out."""
    dealt = hold_out(dataset, settings)
    left_out = {at for at, item in enumerate(dataset) if item.style in settings.left_out}
    asked = tuple(sorted({*dealt.held_out, *left_out}))
    real = read_real_talk(paths.public) if paths.public is not None else []
    talk = choose_excerpts(real, settings.talk_words, settings.seed)
    used_ids = {item.conversation.id for item in talk}
    directory = paths.work / run_key(digest, settings, real_talk=bool(talk))
    run_job(
        TrainingJob(
            learn=[dataset[at] for at in dealt.learn if at not in left_out] + read_dataset(*paths.training_only),
            real_talk=talk,
            held_out=[dataset[at] for at in asked],
            held_out_talk=choose_excerpts(real, settings.talk_words // 2, settings.seed, used_ids),
            base=mpnet(paths.weights),
            directory=directory,
            stages=settings.stages,
            levelled=settings.levelled,
            ngram_strength=settings.ngram_strength,
            seed=settings.seed,
            threads=settings.threads,
        )
    )
    return directory, asked


def hold_out(dataset: list[LabelledConversation], settings: TrainingSettings) -> Split:
    """Which conversations are trained on and which are held out: as many of each risk, and of hard negatives.

    The first corpora are split together, as they were for 2.x. Each further corpus is split by itself, so that a new
    folder moves no conversation from one side to the other. Two halves of a pair (ids that differ in a last `a` or
    `b`) stay together.
    """
    fold_of: dict[str, int] = {}
    for deal in sorted({_split_group(item) for item in dataset}):
        dealt = {_pair_id(item): item for item in dataset if _split_group(item) == deal}
        strata = [f"{item.risk} {item.hard_negative}" for item in dealt.values()]
        folds = assign_folds(list(dealt), strata, settings.folds, settings.seed)
        fold_of |= {f"{deal} {pair}": fold for pair, fold in zip(dealt, folds, strict=True)}
    return split([fold_of[f"{_split_group(item)} {_pair_id(item)}"] for item in dataset], 0)


def _split_group(item: LabelledConversation) -> str:
    return "" if item.folder in FIRST_CORPORA else item.folder


def _pair_id(item: LabelledConversation) -> str:
    identifier = item.conversation.id
    return identifier.rstrip("ab") if _split_group(item) else identifier


def run_key(digest: str, settings: TrainingSettings, *, real_talk: bool) -> str:
    """A name for the results of a training run. It depends on data, training settings, folds and seed."""
    relevant = {
        "data": digest,
        "talk": settings.talk_words if real_talk else 0,
        "left_out": settings.left_out,
        "learning": [asdict(stage) for stage in settings.stages],
        "levelled": settings.levelled,
        "ngrams": settings.ngram_strength,
    }
    text = json.dumps({**relevant, "folds": settings.folds, "seed": settings.seed}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class TrainedModels:
    """What shipping needs: the trained models, and what was fitted on held-out answers."""

    directory: Path
    answers: HeldOutAnswers
    dataset: list[LabelledConversation]
    thresholds: dict[str, float]
    commitment_threshold: float
    unsure_from: float


def _write_artefacts(
    learnt: TrainedModels, figures: dict[str, Any], *, shipped: Path, digest: str, settings: TrainingSettings
) -> dict[str, Any]:
    """Write one artefact a model; returns the figures of the two that are fitted here."""
    heads, ngrams = read_job_output(learnt.directory, "heads"), read_job_output(learnt.directory, "ngrams")
    fitted = fit_calibration(learnt.answers)
    provenance = Provenance(settings.version, digest)
    encoder = write_artefact(
        shipped / "turn_encoder",
        provenance,
        arrays=read_job_output(learnt.directory, "encoder"),
        settings=asdict(settings),
    )
    reads = {"reads_encoder": encoder.files["weights.safetensors"]}  # a head fits no other encoder than its own
    write_artefact(
        shipped / "safeguarding",
        provenance,
        arrays={
            "concern": heads["concern.weight"],
            "concern_bias": heads["concern.bias"],
            "severity": heads["severity.weight"],
            "severity_bias": heads["severity.bias"],
            **fitted.concern.__dict__,
            **ngrams,
        },
        documents={"ngrams.json": json.loads((learnt.directory / "ngrams.json").read_text(encoding="utf-8"))},
        thresholds=learnt.thresholds | {UNSURE: learnt.unsure_from},
        figures=figures["safeguarding"],
        settings=reads,
    )
    write_artefact(
        shipped / "sentiment",
        provenance,
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
        provenance,
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
    write_artefact(shipped / "risk", provenance, arrays=risk, figures=risk_figures)
    ranking, summary_figures = fit_summary(learnt.answers, learnt.dataset, learnt.thresholds)
    write_artefact(shipped / "summarisation", provenance, arrays=ranking, figures=summary_figures)
    return {"risk": risk_figures, "summarisation": summary_figures}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("var"), metavar="DIR", help="the data folder")
    parser.add_argument("--public", type=Path, metavar="DIR", help="public sets with real talk (training/real_talk.py)")
    parser.add_argument("--measure-styles", action="store_true", help="leave two briefs out, and ship nothing")
    options = parser.parse_args()
    if options.public is None:
        print(_NO_REAL_TALK, file=sys.stderr)
    paths = TrainingPaths(work=options.data / "training", weights=options.data / "models", public=options.public)
    if options.measure_styles:
        measure_styles(paths, TrainingSettings(left_out=LEFT_OUT))
        return 0
    print(json.dumps(train(paths, TrainingSettings()), indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
