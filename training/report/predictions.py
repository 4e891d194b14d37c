"""A version's predictions for labelled conversations: the one table from which all figures of the report are computed.

Made from the held-out answers that training stored (by models not trained on the conversation), or by running a version
from disk. Second step of the report.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.artefacts.files import MANIFEST_NAME, Manifest, load_manifest, sha256_of
from models.contract.errors import invalid
from models.contract.records import CATEGORIES, RISK_LEVELS, SENTIMENT_LABELS, SEVERITIES
from models.registry.champions import SHIPPED, ResolvedModel, write_champions
from models.text.analysis import TextModels
from models.text.safeguarding import OUTPUTS
from training.calibration import HeldOutAnswers, cross_calibrated_probabilities, severity_levels
from training.report.material import EvaluationSet, held_out
from training.risk_fitting import held_out_risk
from training.summary_fitting import held_out_summaries, rouge_1, two_longest_turns

_NAMES: Final = ("turn_encoder", "safeguarding", "sentiment", "actions", "risk", "summarisation")
_AT_ONCE: Final = 16  # conversations between two progress updates


@dataclass(frozen=True)
class VersionPredictions:
    """Probabilities and levels of one version; rows are turns in order, `owner` their conversation in `material`.

    `concern`: (turns, 16), the categories then any. `severity`: (turns,) index, -1 if the version gives none.
    `sentiment`: (turns, 3). `commitment`: (turns,). `risk`: (conversations,) index, `risk_chance` that there is any
    concern. `rouge`: (conversations,) ROUGE-1 of the summary. `thresholds`: (15,).
    """

    name: str
    learnt: str  # a sentence: whether the version was trained on these conversations
    material: EvaluationSet
    owner: NDArray[np.int64]
    concern: NDArray[np.float32]
    severity: NDArray[np.int64]
    sentiment: NDArray[np.float32]
    commitment: NDArray[np.float32]
    risk: NDArray[np.int64]
    risk_chance: NDArray[np.floating[Any]]
    rouge: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    commitment_threshold: float

    @cached_property
    def place(self) -> NDArray[np.int64]:
        """(turns,): the number of each turn in its conversation."""
        lengths = [len(item.conversation.turns) for item in self.material.items]
        return np.concatenate([np.arange(length) for length in lengths])

    @cached_property
    def true_concern(self) -> NDArray[np.float32]:
        return np.concatenate([item.concerns for item in self.material.items])

    @cached_property
    def true_severity(self) -> NDArray[np.int64]:
        return np.concatenate([item.severity for item in self.material.items])

    @cached_property
    def true_sentiment(self) -> NDArray[np.int64]:
        return np.concatenate([item.sentiment for item in self.material.items])

    @cached_property
    def true_commits(self) -> NDArray[np.float32]:
        return np.concatenate([item.commits for item in self.material.items])

    @cached_property
    def true_risk(self) -> NDArray[np.int64]:
        return np.asarray([RISK_LEVELS.index(item.risk) for item in self.material.items])

    @cached_property
    def rouge_longest(self) -> NDArray[np.float64]:
        """(conversations,): ROUGE-1 of the two longest turns, the baseline of a summary."""
        return np.asarray([rouge_1(two_longest_turns(item), item.summary) for item in self.material.items])

    @property
    def any_truth(self) -> NDArray[np.float32]:
        return self.true_concern[:, -1]

    @property
    def any_concern_probability(self) -> NDArray[np.float32]:
        return self.concern[:, -1]

    @cached_property
    def above(self) -> NDArray[np.bool_]:
        """(turns, 15): which categories reach their threshold."""
        return self.concern[:, : len(CATEGORIES)] >= self.thresholds

    @cached_property
    def flagged(self) -> NDArray[np.bool_]:
        """(turns,): which turns are shown to a person."""
        return np.asarray(self.above.any(axis=1))

    def per_turn(self, values: Sequence[Any]) -> NDArray[Any]:
        """(turns,): each conversation's value for each of its turns; `values`: one per conversation."""
        return np.asarray(values)[self.owner]

    def tagged(self, tags: frozenset[str]) -> NDArray[np.bool_]:
        """(turns,): True for turns of conversations with any of `tags`."""
        return self.per_turn([bool(tags & set(notes.tags)) for notes in self.material.notes])

    def words(self) -> NDArray[np.int64]:
        """(turns,): the number of words of each turn."""
        turns = [turn for item in self.material.items for turn in item.conversation.turns]
        return np.asarray([len(turn.text.split()) for turn in turns])


def held_out_predictions(corpus: EvaluationSet, shipped: Path = SHIPPED) -> VersionPredictions:
    """The shipped models' predictions for conversations that they were not trained on.

    Cross-calibrated, with the shipped thresholds. Raises ValueError if the answers are of other data.
    """
    answers = _by_conversation(held_out(corpus))
    safeguarding = load_manifest(shipped / "safeguarding")
    concern, sentiment, commitment = cross_calibrated_probabilities(answers)
    risk = held_out_risk(answers, corpus.items, safeguarding.thresholds)
    summaries = held_out_summaries(answers, corpus.items, safeguarding.thresholds)
    asked, owner = np.unique(answers.conversation, return_inverse=True)
    return VersionPredictions(
        name=safeguarding.version,
        learnt="Every answer is by the model that ships, which had not learnt from the conversation, calibrated on "
        "others again. "
        "The shipped thresholds were chosen on these answers, so figures at them are slightly flattering.",
        material=corpus.chosen(int(at) for at in asked),
        owner=owner,
        concern=concern,
        severity=severity_levels(answers.severity),
        sentiment=sentiment,
        commitment=commitment,
        risk=risk.predicted,
        risk_chance=risk.any_concern_probability,
        rouge=summaries.rouge,
        thresholds=_thresholds(safeguarding.thresholds),
        commitment_threshold=load_manifest(shipped / "actions").thresholds["commitment"],
    )


@dataclass(frozen=True)
class Version:
    """A version on disk: its six artefacts by name, checked."""

    name: str
    artefacts: dict[str, Path]

    def manifest(self, name: str) -> Manifest:
        return load_manifest(self.artefacts[name])

    def load(self) -> TextModels:
        """Loads its models. Raises `WriteCareError` if its parts do not fit together."""
        resolved = {
            name: ResolvedModel(name, self.manifest(name).version, path, sha256_of(path / MANIFEST_NAME))
            for name, path in self.artefacts.items()
        }
        with tempfile.TemporaryDirectory(prefix="writecare-evaluate-") as folder:
            write_champions(Path(folder) / "models", resolved)
            return TextModels.load(Path(folder))


def find_version(named: str, data_dir: Path, shipped: Path = SHIPPED) -> Version:
    """The version that `named` means: a folder laid out as `models/shipped`, or a number, shipped or registered.

    Raises `invalid` (`version-unknown`) if a part is missing or several versions have this number.
    """
    if Path(named).is_dir():
        artefacts = {name: Path(named) / name for name in _NAMES}
    else:
        artefacts = {name: _registered(name, named, data_dir, shipped) for name in _NAMES}
    absent = [name for name, path in artefacts.items() if not (path / MANIFEST_NAME).is_file()]
    if absent:
        raise invalid("version-unknown", f"{named} is no folder of artefacts and no known version ({absent[0]}).")
    return Version(load_manifest(artefacts["safeguarding"]).version, artefacts)


def predict_with(
    version: Version, models: TextModels, material: EvaluationSet, learnt: str, report_progress: Callable[[float], None]
) -> VersionPredictions:
    """Runs a loaded version on every conversation. `report_progress` is called with the share that is done.

    Severity is known only for turns that the version flags.
    """
    concern, severity, sentiment, commitment, risk, chance, rouge = [], [], [], [], [], [], []
    for start in range(0, len(material.items), _AT_ONCE):
        some = material.items[start : start + _AT_ONCE]
        asked = [item.conversation for item in some]
        vectors = models.encoder.encode(asked)
        assessed = models.safeguarding.score(asked, vectors)
        felt = models.sentiment.predict_many(asked, vectors)
        commitment += models.actions.commitment_probabilities(asked, vectors)
        for item, rows, feelings in zip(some, assessed, felt, strict=True):
            concern += [[row.scores[name] for name in OUTPUTS] for row in rows]
            severity += [SEVERITIES.index(row.concerns[0].severity) if row.concerns else -1 for row in rows]
            sentiment += [[one.probabilities[name] for name in SENTIMENT_LABELS] for one in feelings]
            predicted = models.risk.predict(item.conversation, rows, feelings)
            risk.append(RISK_LEVELS.index(predicted.level))
            chance.append(predicted.score)
            rouge.append(rouge_1(models.summarisation.summarise(item.conversation, rows).text, item.summary))
        report_progress(min(1.0, (start + len(some)) / len(material.items)))
    owners = [at for at, item in enumerate(material.items) for _ in item.conversation.turns]
    return VersionPredictions(
        name=version.name,
        learnt=learnt,
        material=material,
        owner=np.asarray(owners, dtype=np.int64),
        concern=np.asarray(concern, dtype=np.float32),
        severity=np.asarray(severity, dtype=np.int64),
        sentiment=np.asarray(sentiment, dtype=np.float32),
        commitment=np.concatenate(commitment),
        risk=np.asarray(risk, dtype=np.int64),
        risk_chance=np.asarray(chance, dtype=np.float32),
        rouge=np.asarray(rouge),
        thresholds=_thresholds(models.safeguarding.thresholds),
        commitment_threshold=models.actions.threshold,
    )


def _registered(name: str, version: str, data_dir: Path, shipped: Path) -> Path:
    if (shipped / name / MANIFEST_NAME).is_file() and load_manifest(shipped / name).version == version:
        return shipped / name
    found = sorted((data_dir / "models" / name).glob(f"{version}-????????"))
    if len(found) > 1:
        raise invalid("version-unknown", f"{name} {version} is registered {len(found)} times: name a folder instead.")
    return found[0] if found else data_dir / "models" / name / version


def _thresholds(by_name: Mapping[str, float]) -> NDArray[np.float64]:
    return np.asarray([by_name[name] for name in CATEGORIES])


def _by_conversation(answers: HeldOutAnswers) -> HeldOutAnswers:
    """Rows sorted by conversation, the order in `VersionPredictions`."""
    return answers.rows(np.argsort(answers.conversation, kind="stable"))
