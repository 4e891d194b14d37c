"""Stub models for the worker's tests: they recognise silence, and fail as often as configured."""

from collections.abc import Mapping, Sequence

import numpy as np

from models.contract.errors import WriteCareError, unavailable
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
from pipelines.model_protocols import Samples


class StubModels:
    """Implements `pipelines.model_protocols.Models` for silence. Transcriptions first raise `failures`, one each."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = list(failures)
        self.heard = 0

    @property
    def versions(self) -> Mapping[str, str]:
        return {"transcription": "quiet@1", "diarization": "quiet@1", "embedding": "quiet@1"}

    async def transcribe(self, samples: Samples, names: Sequence[str], language: str | None = None) -> Transcription:
        if self._failures:
            raise self._failures.pop(0)
        self.heard += 1
        return Transcription(words=(), speech=(), language="en")

    async def diarize(
        self, samples: Samples, *, speakers: int | None = None, most_speakers: int | None = None
    ) -> tuple[SpeakerTurn, ...]:
        return ()

    async def score_with_evidence(self, conversation: Conversation) -> tuple[TurnAssessment, ...]:
        return ()

    async def score(self, conversations: Sequence[Conversation]) -> list[tuple[AnalysedTurn, ...]]:
        return [() for _ in conversations]

    async def explain(
        self, conversations: Sequence[Conversation], assessments: Sequence[Sequence[TurnAssessment]]
    ) -> list[tuple[TurnAssessment, ...]]:
        return [() for _ in conversations]

    async def sentiment(self, conversation: Conversation) -> tuple[Sentiment, ...]:
        return ()

    async def actions(self, conversation: Conversation) -> tuple[ActionItem, ...]:
        return ()

    async def embed(self, texts: Sequence[str]) -> Samples:
        return np.zeros((len(texts), 384), dtype=np.float32)

    async def risk(
        self, conversation: Conversation, assessments: Sequence[TurnAssessment], sentiments: Sequence[Sentiment]
    ) -> Risk:
        return Risk(level="none", score=0.0)

    async def summarise(self, conversation: Conversation, assessments: Sequence[TurnAssessment]) -> Summary:
        return Summary(text="", sentences=())


def down() -> WriteCareError:
    """The error of a model that cannot answer now."""
    return unavailable("models-unavailable", "The model cannot answer just now.")
