"""Fakes that implement Protocols of the application. They patch none of our code."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.contract.records import (
    CATEGORIES,
    ActionItem,
    AnalysedTurn,
    Concern,
    Conversation,
    Evidence,
    NotUnderstood,
    Risk,
    Sentiment,
    Severity,
    SpeakerTurn,
    Summary,
    SummarySentence,
    Transcription,
    TurnAssessment,
    Word,
)
from pipelines.model_protocols import Samples

CALM = Sentiment(label="neutral", probabilities={"negative": 0.1, "neutral": 0.8, "positive": 0.1})


def _moved(concern: Concern, turn: int, text: str) -> Concern:
    return concern.model_copy(update={"evidence": (Evidence(turn=turn, start=0, end=2, text=text[:2], weight=0.5),)})


class ScriptedModels:
    """Implements `Models`: finds the same words on every track and a concern in each turn that contains some of them.

    `calls` counts the calls. `before` is awaited, with the name of the capability, before each answer.
    """

    def __init__(
        self,
        words: str = "he grabbed my arm",
        before: Mapping[str, Callable[[], Awaitable[None]]] = {},
        severity: Severity = "high",
        finds: str | None = None,
        language: str = "en",
        not_understood: tuple[NotUnderstood, ...] = (),
    ) -> None:
        """`finds`: words that a turn must contain to have a concern. None: every turn has one. Empty: no turn has
        one.
        """
        self._words = words
        self._severity: Severity = severity
        self._finds = finds
        self._language = language
        self._not_understood = not_understood
        self._before = before
        self.calls: list[str] = []
        self.read: list[Conversation] = []
        self.explained: list[Conversation] = []

    @property
    def versions(self) -> Mapping[str, str]:
        return dict.fromkeys(self.calls, "test-1")

    async def _asked(self, capability: str) -> None:
        self.calls.append(capability)
        if capability in self._before:
            await self._before[capability]()
        await asyncio.sleep(0)

    async def transcribe(self, samples: Samples, names: Sequence[str], language: str | None = None) -> Transcription:
        await self._asked("transcription")
        words = tuple(
            Word(word=word, start_seconds=0.1 * at, end_seconds=0.1 * at + 0.08, confidence=0.9)
            for at, word in enumerate(self._words.split())
        )
        return Transcription(
            words=words,
            speech=((0.0, 0.1 * len(words)),),
            language=language or self._language,
            not_understood=self._not_understood,
        )

    async def diarize(
        self, samples: Samples, *, speakers: int | None = None, most_speakers: int | None = None
    ) -> tuple[SpeakerTurn, ...]:
        await self._asked("diarization")
        return (SpeakerTurn(speaker="Speaker 1", start_seconds=0.0, end_seconds=1.0),)

    async def score(self, conversations: Sequence[Conversation]) -> list[tuple[AnalysedTurn, ...]]:
        """As `score_with_evidence` without evidence. It calls both models, so that the versions of both are known."""
        await self._asked("sentiment")
        return [
            tuple(
                AnalysedTurn(
                    scores=row.scores, sentiment=CALM,
                    concerns=tuple(concern.model_copy(update={"evidence": ()}) for concern in row.concerns),
                )
                for row in await self.score_with_evidence(conversation)
            )
            for conversation in conversations
        ]  # fmt: skip

    async def explain(
        self, conversations: Sequence[Conversation], assessments: Sequence[Sequence[TurnAssessment]]
    ) -> list[tuple[TurnAssessment, ...]]:
        """The evidence of every concern is the first two characters of its turn."""
        await self._asked("evidence")
        self.calls.append("safeguarding")  # the models whose evidence it is
        self.explained.extend(conversations)
        return [
            tuple(
                row.model_copy(update={"concerns": tuple(_moved(concern, at, turn.text) for concern in row.concerns)})
                for at, (turn, row) in enumerate(zip(conversation.turns, rows, strict=True))
            )
            for conversation, rows in zip(conversations, assessments, strict=True)
        ]

    async def score_with_evidence(self, conversation: Conversation) -> tuple[TurnAssessment, ...]:
        await self._asked("safeguarding")
        self.read.append(conversation)
        scores = dict.fromkeys((*CATEGORIES, "any"), 0.01)
        return tuple(
            TurnAssessment(
                scores=scores,
                concerns=(
                    _moved(
                        Concern(category="physical_abuse", severity=self._severity, probability=0.8, threshold=0.3),
                        at, turn.text,
                    ),
                ) if self._concerns(turn.text) else (),
            )
            for at, turn in enumerate(conversation.turns)
        )  # fmt: skip

    def _concerns(self, text: str) -> bool:
        return bool(text) if self._finds is None else bool(self._finds) and self._finds in text

    async def sentiment(self, conversation: Conversation) -> tuple[Sentiment, ...]:
        await self._asked("sentiment")
        return tuple(CALM for _ in conversation.turns)

    async def actions(self, conversation: Conversation) -> tuple[ActionItem, ...]:
        await self._asked("actions")
        return ()

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        await self._asked("embedding")
        return np.full((len(texts), 384), 1 / np.sqrt(384), dtype=np.float32)

    async def risk(
        self, conversation: Conversation, assessments: Sequence[TurnAssessment], sentiments: Sequence[Sentiment]
    ) -> Risk:
        await self._asked("risk")
        return Risk(level="high" if any(row.concerns for row in assessments) else "none", score=0.8)

    async def summarise(self, conversation: Conversation, assessments: Sequence[TurnAssessment]) -> Summary:
        await self._asked("summarisation")
        sentences = tuple(SummarySentence(text=turn.text, turns=(at,)) for at, turn in enumerate(conversation.turns))
        return Summary(text=" ".join(sentence.text for sentence in sentences), sentences=sentences)
