"""What a pipeline needs of the models, said once: served by Ray (`serving/served_models.py`) or held in process.

An implementation lives for one piece of work: `versions` names the version behind every answer it gave, so that
what is stored can be replayed years later even where a champion changed half way.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.contract.records import (
    ActionItem,
    AnalysedTurn,
    Conversation,
    Risk,
    Sentiment,
    SpeakerTurn,
    Summary,
    Transcription,
    TurnAssessment,
)

Samples = NDArray[np.float32]  # mono, 16 kHz, [-1, 1]


class SpeechModels(Protocol):
    """From sound to words and voices. Every method raises `unavailable` where it is to be tried again later."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Capability name -> version, of all answers given so far."""
        ...

    async def transcribe(self, samples: Samples, names: Sequence[str], language: str | None = None) -> Transcription:
        """Words with times and confidences, no speakers yet; `names` are who takes part, to be spelt right.

        `language`: an ISO 639-1 code where the caller knows it, else it is detected.
        """
        ...

    async def diarize(
        self, samples: Samples, *, speakers: int | None = None, most_speakers: int | None = None
    ) -> tuple[SpeakerTurn, ...]:
        """Who is heard when; `speakers` is how many, where that is known, `most_speakers` a bound on it."""
        ...


class Models(SpeechModels, Protocol):
    """Speech, and the reading of what was said."""

    async def score_with_evidence(self, conversation: Conversation) -> tuple[TurnAssessment, ...]:
        """One assessment a turn, in order, each concern with its evidence."""
        ...

    async def score(self, conversations: Sequence[Conversation]) -> list[tuple[AnalysedTurn, ...]]:
        """Of each conversation one answer a turn, in order: what is urgent, so without the concerns' evidence."""
        ...

    async def explain(
        self, conversations: Sequence[Conversation], assessments: Sequence[Sequence[TurnAssessment]]
    ) -> list[tuple[TurnAssessment, ...]]:
        """The same assessments, each concern with its evidence: a dozen times the work of judging the turn."""
        ...

    async def sentiment(self, conversation: Conversation) -> tuple[Sentiment, ...]:
        """One a turn, in order."""
        ...

    async def actions(self, conversation: Conversation) -> tuple[ActionItem, ...]: ...

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Rows of 384, L2-normalised, one a text."""
        ...

    async def risk(
        self, conversation: Conversation, assessments: Sequence[TurnAssessment], sentiments: Sequence[Sentiment]
    ) -> Risk: ...

    async def summarise(self, conversation: Conversation, assessments: Sequence[TurnAssessment]) -> Summary: ...
