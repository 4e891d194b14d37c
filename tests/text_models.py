"""Loads the shipped text models once for all tests, and gives short ways to write a conversation."""

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path

from models.contract.records import Conversation, Participant, Turn
from models.text.analysis import TextModels


@functools.cache
def weights_directory() -> Path:
    """The folder with the unpacked weights, made once for all tests; its parent is a data folder."""
    return Path(_state().name) / "models"


@functools.cache
def _state() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="writecare-readers-")  # removed when the process ends


@functools.cache
def text_models() -> TextModels:
    """The shipped versions, as `analyze` loads them in a new data folder."""
    return TextModels.load(weights_directory().parent)


CARERS = (
    Participant(speaker="S1", role="care_worker", name="Ioana"),
    Participant(speaker="S2", role="manager", name="Beverley"),
)


def conversation(*lines: str, participants: Sequence[Participant] = CARERS, name: str = "c") -> Conversation:
    """A conversation of two people who take turns; S1 says the first line."""
    turns = tuple(Turn(speaker=f"S{at % 2 + 1}", text=line) for at, line in enumerate(lines))
    return Conversation(id=name, channel="handover", participants=tuple(participants), turns=turns)


def chance_of_concern(*lines: str) -> float:
    """The probability that the last line has any concern, given the lines before it."""
    [assessments] = text_models().safeguarding.score([conversation(*lines)])
    return assessments[-1].scores["any"]
