"""Reads and hashes the labelled care conversations, and keeps labels apart from what a model may see.

First step of training and evaluation. `LabelledConversation.conversation` holds only the fields that a model may read;
the labels are separate fields.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.contract.json_lines import read_json_lines
from models.contract.records import CATEGORIES, SENTIMENT_LABELS, SEVERITIES, Conversation, Participant, Turn

_DATA: Final = Path(__file__).parent / "data"
# Each row is a folder of JSONL files. Add a row for a new folder; the positions of conversations follow this order. The
# stored held-out answers fit only these rows.
CORPORA: Final = (
    _DATA / "care_conversations",
    _DATA / "hard_conversations",
    _DATA / "care_conversations_2",
    _DATA / "care_conversations_3",
)
# In these folders each file was written to a brief of its own: a style. Elsewhere the folder is one style.
STYLED_CORPORA: Final = frozenset({"care_conversations_2", "care_conversations_3"})
FIRST_CORPORA: Final = ("care_conversations", "hard_conversations", "short_exchanges")  # all training data of 2.2.0
NEVER_HELD_OUT: Final = (_DATA / "short_exchanges", _DATA / "single_lines")  # only used for training


@dataclass(frozen=True)
class LabelledConversation:
    """A conversation and what annotators said of it.

    `concerns`: (turns, 16) 0/1 in the order of the 15 categories, then any. `severity`: (turns,) index or -1.
    `sentiment`: (turns,) index. `commits`: (turns,) 0/1, whether an action is committed to there.
    An unknown label is nan, of severity -1, of sentiment -100.
    `source`: folder and file, `care_conversations/train-a`, one writer each. `style`: the brief it was written to.
    """

    conversation: Conversation
    concerns: NDArray[np.float32]
    severity: NDArray[np.int64]
    sentiment: NDArray[np.int64]
    commits: NDArray[np.float32]
    risk: str
    summary: str
    actions: tuple[dict[str, Any], ...]
    hard_negative: bool
    source: str = ""
    style: str = ""

    @property
    def folder(self) -> str:
        """The first part of the source: the corpus."""
        return self.source.split("/")[0]


def read_dataset(*directories: Path) -> list[LabelledConversation]:
    """All conversations of the directories' JSONL files (default: CORPORA), by directory, file name, then line."""
    files = [file for directory in directories or CORPORA for file in sorted(directory.glob("*.jsonl"))]
    return [item for file in files for item in _read_file(file)]


def _read_file(file: Path) -> Sequence[LabelledConversation]:
    folder = file.parent.name
    style = file.stem if folder in STYLED_CORPORA else folder
    return [replace(parse_labelled(row), source=f"{folder}/{file.stem}", style=style) for row in read_json_lines(file)]


def dataset_sha256(*directories: Path) -> str:
    """One digest over the data files' names and bytes; without directories, over all training data of what ships."""
    digest = hashlib.sha256()
    named = directories or (*CORPORA, *NEVER_HELD_OUT)
    files = [file for directory in named for file in sorted(directory.glob("*.jsonl"))]
    for file in files:
        digest.update(f"{file.name}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def parse_labelled(row: dict[str, Any]) -> LabelledConversation:
    """One line of the data set."""
    turns = row["turns"]
    concerns = np.zeros((len(turns), len(CATEGORIES) + 1), dtype=np.float32)
    severity = np.full(len(turns), -1, dtype=np.int64)
    commits = np.zeros(len(turns), dtype=np.float32)
    for at, turn in enumerate(turns):
        for concern in turn["concerns"]:
            concerns[at, CATEGORIES.index(concern["category"])] = 1.0
            concerns[at, -1] = 1.0
            severity[at] = max(severity[at], SEVERITIES.index(concern["severity"]))
    for action in row.get("actions", ()):
        commits[action["turn"]] = 1.0
    conversation = Conversation(
        id=row["id"],
        channel=row["channel"],
        participants=tuple(Participant(**person) for person in row["participants"]),
        turns=tuple(Turn(speaker=turn["speaker"], text=turn["text"]) for turn in turns),
    )
    sentiment = np.asarray([SENTIMENT_LABELS.index(turn["sentiment"]) for turn in turns], dtype=np.int64)
    return LabelledConversation(
        conversation,
        concerns,
        severity,
        sentiment,
        commits,
        row["risk"],
        row.get("summary", ""),
        tuple(row.get("actions", ())),
        row.get("hard_negative", False),
    )
