"""Calls the models on Ray Serve for the worker and the model API. Implements the Protocol of the pipelines.

One `ServedModels` is used for one piece of work. It records the model version behind every answer, so that a stored
result can be reproduced, even if a champion changed half way.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import ray
from numpy.typing import NDArray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

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
from serving.placement import APPLICATION
from serving.replica_results import ReplicaResult

Samples = NDArray[np.float32]
Value = TypeVar("Value")


class ServedModels:
    """Implements `pipelines.model_protocols.Models`. Every method raises `unavailable` if Ray cannot answer now."""

    def __init__(self, handles: Mapping[str, Any]) -> None:
        """`handles`: deployment name -> handle, from `deployment_handles`. Several objects may share them."""
        self._handles = handles
        self._versions: dict[str, str] = {}
        self._stored_samples: tuple[Samples, Any] | None = None

    @property
    def versions(self) -> Mapping[str, str]:
        """Capability -> version, for all answers given so far."""
        return dict(self._versions)

    async def transcribe(self, samples: Samples, names: Sequence[str], language: str | None = None) -> Transcription:
        """Words with times and confidences, without speakers."""
        transcription: Transcription = await self._call_deployment(
            "transcription", "transcribe", self._put_samples(samples), list(names), language
        )
        return transcription

    async def diarize(
        self, samples: Samples, *, speakers: int | None = None, most_speakers: int | None = None
    ) -> tuple[SpeakerTurn, ...]:
        """Which speaker talks when."""
        sound = self._put_samples(samples)
        turns: tuple[SpeakerTurn, ...] = await self._call_deployment(
            "diarization", "diarize", sound, speakers, most_speakers
        )
        return turns

    async def score_with_evidence(self, conversation: Conversation) -> tuple[TurnAssessment, ...]:
        """One assessment per turn, in order, with evidence. Unsure turns are read again if that is set."""
        assessed: tuple[TurnAssessment, ...] = await self._call_deployment(
            "safeguarding", "score_with_evidence", conversation
        )
        if all(row.unsure is None for row in assessed):
            return assessed
        deepened: tuple[TurnAssessment, ...] = await self._call_deployment(
            "safeguarding", "deepen", conversation, assessed
        )
        return deepened

    async def score(self, conversations: Sequence[Conversation]) -> list[tuple[AnalysedTurn, ...]]:
        """For each conversation one result per turn, in order, without evidence."""
        scored: list[tuple[AnalysedTurn, ...]] = await self._call_deployment(
            "safeguarding", "score", list(conversations)
        )
        return scored

    async def explain(
        self, conversations: Sequence[Conversation], assessments: Sequence[Sequence[TurnAssessment]]
    ) -> list[tuple[TurnAssessment, ...]]:
        """The same assessments, with the evidence of each concern."""
        found: list[tuple[TurnAssessment, ...]] = await self._call_deployment(
            "safeguarding", "explain", list(conversations), list(assessments)
        )
        return found

    async def sentiment(self, conversation: Conversation) -> tuple[Sentiment, ...]:
        """One sentiment per turn, in order."""
        sentiments: tuple[Sentiment, ...] = await self._call_deployment("sentiment", "predict", conversation)
        return sentiments

    async def actions(self, conversation: Conversation) -> tuple[ActionItem, ...]:
        """The action items: what somebody in the conversation promised to do."""
        found: tuple[ActionItem, ...] = await self._call_deployment("actions", "extract", conversation)
        return found

    async def embed(self, texts: Sequence[str]) -> Samples:
        """Rows of 384 numbers, L2-normalised, one row per text."""
        rows: Samples = await self._call_deployment("embedding", "embed", list(texts))
        return rows

    async def risk(
        self, conversation: Conversation, assessments: Sequence[TurnAssessment], sentiments: Sequence[Sentiment]
    ) -> Risk:
        """The risk level of the conversation."""
        level: Risk = await self._call_deployment(
            "risk", "predict", conversation, tuple(assessments), tuple(sentiments)
        )
        return level

    async def summarise(self, conversation: Conversation, assessments: Sequence[TurnAssessment]) -> Summary:
        """Two or three sentences; each cites its turns."""
        summary: Summary = await self._call_deployment("summarisation", "summarise", conversation, tuple(assessments))
        return summary

    def _put_samples(self, samples: Samples) -> Any:
        """Puts the samples into Ray's object store once for both speech models. Releases the previous track first."""
        if self._stored_samples is None or self._stored_samples[0] is not samples:
            self._stored_samples = None
            try:
                self._stored_samples = (samples, ray.put(samples))
            except RayError:
                raise unavailable(
                    "models-busy", "The models' memory is full with other recordings: try again shortly."
                ) from None
        return self._stored_samples[1]

    async def _call_deployment(self, deployment: str, method: str, *arguments: Any) -> Any:
        try:
            answer: ReplicaResult[Any] = await getattr(self._handles[deployment], method).remote(*arguments)
        except RayTaskError as error:
            # Ray's own error text holds the remote traceback, so only our own error is raised.
            if isinstance(error.cause, WriteCareError):
                raise error.cause from None
            raise _models_unavailable(deployment) from None
        except (TimeoutError, RayError, RayServeException):
            raise _models_unavailable(deployment) from None
        value = answer.unwrap()
        self._versions.update(answer.versions)
        return value


def deployment_handles(names: Sequence[str]) -> dict[str, Any]:
    """The handles of these deployments. The process must have joined the Ray cluster.

    Raises `unavailable` if they are not deployed (yet).
    """
    try:
        return {name: serve.get_deployment_handle(name, APPLICATION) for name in names}
    except (RayError, RayServeException):
        raise _models_unavailable(names[0]) from None


def _models_unavailable(deployment: str) -> WriteCareError:
    return unavailable("models-unavailable", f"The model {deployment} cannot answer now: try again shortly.")
