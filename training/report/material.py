"""The labelled conversations of a report, and the corpus's notes on them.

First step of the report. Only this module knows the paths of data and held-out answers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.contract.errors import invalid
from models.contract.json_lines import read_json_lines
from training.calibration import HeldOutAnswers, load_answers
from training.dataset import NEVER_HELD_OUT, LabelledConversation, dataset_sha256, read_dataset
from training.train import HELD_OUT_ANSWERS, LEFT_OUT_ANSWERS, TrainingSettings, hold_out

_ALL_DATA: Final = NEVER_HELD_OUT[0].parent


@dataclass(frozen=True)
class Notes:
    """Notes of the corpus on a conversation that are neither labels nor input of a model."""

    recognised: bool  # written in the form of a speech recogniser's output
    tags: tuple[str, ...]


@dataclass(frozen=True)
class EvaluationSet:
    """Labelled conversations with their notes, in the same order."""

    items: tuple[LabelledConversation, ...]
    notes: tuple[Notes, ...]

    def chosen(self, positions: Iterable[int]) -> "EvaluationSet":
        """The conversations at `positions`, in that order."""
        at = list(positions)
        return EvaluationSet(tuple(self.items[one] for one in at), tuple(self.notes[one] for one in at))


def load_corpus() -> tuple[EvaluationSet, str]:
    """The conversations on which versions are trained and evaluated, and the digest of all training data."""
    items = read_dataset()
    return EvaluationSet(tuple(items), _notes(items, _ALL_DATA.glob("*/*.jsonl"))), _digest()


def held_out(material: EvaluationSet) -> HeldOutAnswers:
    """The answers of models not trained on the conversation. `conversation`: its position in `material`.

    Raises ValueError if they belong to other data than the present data.
    """
    return load_answers(HELD_OUT_ANSWERS, material.items, _digest())


def left_out_answers(material: EvaluationSet) -> HeldOutAnswers | None:
    """As `held_out`, of a model not trained on whole styles. None if no such answers are stored for these data."""
    try:
        return load_answers(LEFT_OUT_ANSWERS, material.items, _digest())
    except (ValueError, FileNotFoundError):
        return None


def never_held_out() -> list[LabelledConversation]:
    """The conversations on which every model is trained and none is evaluated."""
    return read_dataset(*NEVER_HELD_OUT)


def read_material(directory: Path) -> EvaluationSet:
    """Labelled conversations in the corpus's format (`training/data/care_conversations/GUIDE.md`), `*.jsonl`.

    Raises `invalid` (`conversations-unreadable`) if there are none or a line is not in that format.
    """
    try:
        items = read_dataset(directory)
        notes = _notes(items, directory.glob("*.jsonl"))
    except (ValueError, KeyError, TypeError, OSError) as error:
        message = f"{directory}: not the corpus's format ({type(error).__name__}); see its GUIDE.md."
        raise invalid("conversations-unreadable", message) from None
    if not items:
        raise invalid("conversations-unreadable", f"{directory} holds no conversations (*.jsonl).")
    return EvaluationSet(tuple(items), notes)


def count_in_training_data(material: EvaluationSet) -> int:
    """How many of these conversations are in the training data, word for word."""
    known = {_words(item) for item in [*load_corpus()[0].items, *never_held_out()]}
    return sum(_words(item) in known for item in material.items)


def count_held_out(material: EvaluationSet) -> int:
    """How many of these conversations training holds out, word for word."""
    items = read_dataset()
    blind = {_words(items[at]) for at in hold_out(items, TrainingSettings()).held_out}
    return sum(_words(item) in blind for item in material.items)


def _digest() -> str:
    return dataset_sha256()


def _words(item: LabelledConversation) -> tuple[str, ...]:
    return tuple(turn.text for turn in item.conversation.turns)


def _notes(items: Sequence[LabelledConversation], files: Iterable[Path]) -> tuple[Notes, ...]:
    rows = (row for file in files for row in read_json_lines(file))
    by_id = {str(row["id"]): Notes(bool(row.get("asr_style")), tuple(row.get("tags", ()))) for row in rows}
    return tuple(by_id[item.conversation.id] for item in items)
