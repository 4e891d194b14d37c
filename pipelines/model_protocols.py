"""The model interfaces that the pipelines use. Ray serves the models (`serving/served_models.py`), or the process does.

An implementation is used for one piece of work. `versions` names the model version behind every answer it gave, so
that a stored result can be reproduced years later, even if a champion changed half way.
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
    """Speech recognition and diarization. Every method raises `unavailable` if the caller must retry later."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Capability name -> version, for all answers given so far."""
        ...

    async def transcribe(self, samples: Samples, names: Sequence[str], language: str | None = None) -> Transcription:
        """Words with times and confidences, without speakers. `names` are the participants' names, for their spelling.

        `language` is an ISO 639-1 code. If it is None, the language is detected.
        """
        ...

    async def diarize(
        self, samples: Samples, *, speakers: int | None = None, most_speakers: int | None = None
    ) -> tuple[SpeakerTurn, ...]:
        """Which speaker talks when. `speakers` is the number of speakers if known, `most_speakers` an upper bound."""
        ...


class Models(SpeechModels, Protocol):
    """The speech models and the text models."""

    async def score_with_evidence(self, conversation: Conversation) -> tuple[TurnAssessment, ...]:
        """One assessment per turn, in order. Each concern has its evidence."""
        ...

    async def score(self, conversations: Sequence[Conversation]) -> list[tuple[AnalysedTurn, ...]]:
        """For each conversation one result per turn, in order. Without evidence spans, so that it is fast."""
        ...

    async def explain(
        self, conversations: Sequence[Conversation], assessments: Sequence[Sequence[TurnAssessment]]
    ) -> list[tuple[TurnAssessment, ...]]:
        """The same assessments, with the evidence of each concern. Takes about twelve times as long as scoring."""
        ...

    async def sentiment(self, conversation: Conversation) -> tuple[Sentiment, ...]:
        """One sentiment per turn, in order."""
        ...

    async def actions(self, conversation: Conversation) -> tuple[ActionItem, ...]: ...

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Rows of 384 numbers, L2-normalised, one row per text."""
        ...

    async def risk(
        self, conversation: Conversation, assessments: Sequence[TurnAssessment], sentiments: Sequence[Sentiment]
    ) -> Risk: ...

    async def summarise(self, conversation: Conversation, assessments: Sequence[TurnAssessment]) -> Summary: ...
