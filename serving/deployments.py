"""The Ray Serve deployments: one for each capability, each a thin wrapper around a class of `models/`.

`user_config` tells a replica which model versions to load: the champions, resolved once for all replicas. The replica
loads them in `reconfigure`. When a person promotes another version, Ray calls `reconfigure` again; the replica answers
with the old version until the new one is loaded. Replicas start as forks (`instance/fork_server.py`).

Text models compute with one thread each. Three of them process a conversation in parallel, and on a busy machine two
threads that wait for each other at every step are ten times slower than one.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
import torch
from numpy.typing import NDArray
from ray import serve

from models.artefacts import weights
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
from models.registry.champions import ResolvedModel
from models.speech.diarization import DEFAULT_MAX_SPEAKERS, Diarizer
from models.speech.transcription import Transcriber
from models.text.actions import ActionModel
from models.text.deeper_reading import DeeperReader
from models.text.embedding import EmbeddingModel
from models.text.generated_summaries import WrittenSummaries
from models.text.risk import RiskModel
from models.text.safeguarding import SafeguardingModel
from models.text.scorer import SharedScorer
from models.text.sentiment import SentimentModel
from models.text.summarisation import SummarisationModel
from models.text.turn_encoder import TurnEncoder
from pipelines.alerting import DEEPER_READER
from serving.placement import ReplicaSettings
from serving.replica_results import ReplicaResult, capture_result, capture_results

_log: Final = structlog.get_logger(__name__)

Samples = NDArray[np.float32]
Champions = dict[str, dict[str, Any]]  # model name -> ResolvedModel.as_document(): user_config must be JSON


def _artefact_dir(champions: Champions, name: str) -> Path:
    return ResolvedModel.from_document(champions[name]).verify().directory()


def _turn_encoder(champions: Champions, placement: ReplicaSettings) -> TurnEncoder:
    return TurnEncoder.load(_artefact_dir(champions, "turn_encoder"), weights.mpnet(placement.models))


@serve.deployment(name="transcription", max_ongoing_requests=1)
class TranscriptionDeployment:
    """Speech recognition. One recording at a time, because a recording uses all processors that it gets."""

    def __init__(self, placement: ReplicaSettings) -> None:
        found = weights.whisper(placement.models, placement.speech)
        options = placement.recognition_options()
        self._transcriber = Transcriber(found, options)

    async def transcribe(
        self, samples: Samples, names: Sequence[str], language: str | None
    ) -> ReplicaResult[Transcription]:
        """`samples`: float32[n], 16 kHz mono. `names` of the participants. `language`, if the caller knows it."""
        model = self._transcriber
        versions = {"transcription": model.version}
        return await asyncio.to_thread(
            capture_result, lambda: model.transcribe(samples, names=names, language=language), versions
        )


@serve.deployment(name="diarization", max_ongoing_requests=1)
class DiarizationDeployment:
    """Which speaker talks when. One recording at a time."""

    def __init__(self, placement: ReplicaSettings) -> None:
        torch.set_num_threads(max(1, placement.threads // 2))  # it runs beside recognition
        found = weights.diarization_pipeline(placement.models, placement.speech)
        self._diarizer = Diarizer(found, device=placement.device)

    async def diarize(
        self, samples: Samples, speakers: int | None, most_speakers: int | None
    ) -> ReplicaResult[tuple[SpeakerTurn, ...]]:
        """`samples`: float32[n], 16 kHz mono. `speakers`: number of speakers, `most_speakers`: upper bound."""
        model, most = self._diarizer, most_speakers or DEFAULT_MAX_SPEAKERS
        versions = {"diarization": model.version}
        return await asyncio.to_thread(
            capture_result, lambda: model.diarize(samples, max_speakers=most, num_speakers=speakers), versions
        )


@serve.deployment(name="safeguarding", max_ongoing_requests=64)
class SafeguardingDeployment:
    """Concerns of every turn with severity, calibrated probability and evidence spans.

    For messages it also scores sentiment in the same encoder pass; their evidence is a separate call.
    """

    def __init__(self, placement: ReplicaSettings) -> None:
        torch.set_num_threads(1)
        self._replica_settings = placement
        self._deeper = DeeperReader(placement.deeper) if placement.deeper is not None else None

    async def reconfigure(self, champions: Champions) -> None:
        self._models, self._versions = await asyncio.to_thread(self._load, champions)

    def _load(self, champions: Champions) -> tuple[SharedScorer, dict[str, str]]:
        encoder = _turn_encoder(champions, self._replica_settings)
        safeguarding = SafeguardingModel.load(_artefact_dir(champions, "safeguarding"), encoder)
        sentiment = SentimentModel.load(_artefact_dir(champions, "sentiment"), encoder)
        return SharedScorer(encoder, safeguarding, sentiment), {
            "safeguarding": safeguarding.version, "turn_encoder": encoder.version,
        }  # fmt: skip

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)
    async def score_with_evidence(
        self, conversations: list[Conversation]
    ) -> list[ReplicaResult[tuple[TurnAssessment, ...]]]:
        """One assessment per turn, in order."""
        return await asyncio.to_thread(
            capture_results, self._models.safeguarding.score_many_with_evidence, conversations, self._versions
        )

    async def deepen(
        self, conversation: Conversation, assessments: Sequence[TurnAssessment]
    ) -> ReplicaResult[tuple[TurnAssessment, ...]]:
        """The same assessments, unsure turns read again by the home's own model, where there is one."""
        deeper = self._deeper
        if deeper is None:
            return ReplicaResult(tuple(assessments), {})
        answer = await asyncio.to_thread(capture_result, lambda: deeper.read(conversation, assessments), {})
        if answer.value is None:
            return ReplicaResult(tuple(assessments), {})  # the failure is logged
        read = answer.value
        if read.failed:
            _log.warning(
                "unsure turns left to the first reader", conversation=conversation.id, failed=dict(read.failed)
            )
        return ReplicaResult(read.assessments, {DEEPER_READER: deeper.version} if read.asked else {})

    async def score(self, conversations: list[Conversation]) -> ReplicaResult[list[tuple[AnalysedTurn, ...]]]:
        """For each conversation one result per turn, in order, without evidence."""
        models, versions = self._models, self._versions
        reported_versions = versions | {"sentiment": models.sentiment.version}
        return await asyncio.to_thread(capture_result, lambda: models.score_many(conversations), reported_versions)

    async def explain(
        self, conversations: list[Conversation], assessments: list[Sequence[TurnAssessment]]
    ) -> ReplicaResult[list[tuple[TurnAssessment, ...]]]:
        """The same assessments, with the evidence of each concern."""
        safeguarding, versions = self._models.safeguarding, self._versions
        return await asyncio.to_thread(
            capture_result, lambda: safeguarding.explain(conversations, assessments), versions
        )


@serve.deployment(name="sentiment", max_ongoing_requests=64)
class SentimentDeployment:
    """The sentiment of every turn."""

    def __init__(self, placement: ReplicaSettings) -> None:
        torch.set_num_threads(1)
        self._replica_settings = placement

    async def reconfigure(self, champions: Champions) -> None:
        self._model, self._versions = await asyncio.to_thread(self._load, champions)

    def _load(self, champions: Champions) -> tuple[SentimentModel, dict[str, str]]:
        encoder = _turn_encoder(champions, self._replica_settings)
        model = SentimentModel.load(_artefact_dir(champions, "sentiment"), encoder)
        return model, {"sentiment": model.version, "turn_encoder": encoder.version}

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)
    async def predict(self, conversations: list[Conversation]) -> list[ReplicaResult[tuple[Sentiment, ...]]]:
        """One sentiment per turn, in order."""
        return await asyncio.to_thread(capture_results, self._model.predict_many, conversations, self._versions)


@serve.deployment(name="actions", max_ongoing_requests=64)
class ActionsDeployment:
    """Action items: what somebody in the conversation promised to do."""

    def __init__(self, placement: ReplicaSettings) -> None:
        torch.set_num_threads(1)
        self._replica_settings = placement

    async def reconfigure(self, champions: Champions) -> None:
        self._model, self._versions = await asyncio.to_thread(self._load, champions)

    def _load(self, champions: Champions) -> tuple[ActionModel, dict[str, str]]:
        encoder = _turn_encoder(champions, self._replica_settings)
        spacy = weights.spacy_model(self._replica_settings.verified_dir)
        model = ActionModel.load(_artefact_dir(champions, "actions"), encoder, spacy)
        return model, {"actions": model.version, "turn_encoder": encoder.version}

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)
    async def extract(self, conversations: list[Conversation]) -> list[ReplicaResult[tuple[ActionItem, ...]]]:
        """The action items of each conversation."""
        return await asyncio.to_thread(capture_results, self._model.extract_many, conversations, self._versions)


@serve.deployment(name="summarisation", max_ongoing_requests=64)
class SummarisationDeployment:
    """Two or three sentences; each cites its turns. The home's own language model writes them, if it has one."""

    def __init__(self, placement: ReplicaSettings) -> None:
        self._summary_writer = placement.writer

    async def reconfigure(self, champions: Champions) -> None:
        self._model = await asyncio.to_thread(SummarisationModel.load, _artefact_dir(champions, "summarisation"))

    async def summarise(
        self, conversation: Conversation, assessments: Sequence[TurnAssessment]
    ) -> ReplicaResult[Summary]:
        """`assessments`: one per turn of `conversation`."""
        model, writer = self._model, self._summary_writer
        if writer is None:
            versions = {"summarisation": model.version}
            return await asyncio.to_thread(capture_result, lambda: model.summarise(conversation, assessments), versions)
        written = WrittenSummaries(writer, model)
        answer = await asyncio.to_thread(
            capture_result, lambda: written.summarise_with_source(conversation, assessments), {}
        )
        if answer.value is None:
            return ReplicaResult(None, {"summarisation": model.version}, answer.error)
        if answer.value.reason is not None:
            _log.warning(
                "summary is extracted from the turns, the language model wrote none",
                conversation=conversation.id,
                reason=answer.value.reason,
            )
        return ReplicaResult(answer.value.summary, {"summarisation": answer.value.version})


@serve.deployment(name="risk", max_ongoing_requests=64)
class RiskDeployment:
    """The risk level of a whole conversation."""

    async def reconfigure(self, champions: Champions) -> None:
        self._model = await asyncio.to_thread(RiskModel.load, _artefact_dir(champions, "risk"))

    async def predict(
        self, conversation: Conversation, assessments: Sequence[TurnAssessment], sentiments: Sequence[Sentiment]
    ) -> ReplicaResult[Risk]:
        """`assessments` and `sentiments`: one per turn of `conversation`."""
        model = self._model
        versions = {"risk": model.version}
        return await asyncio.to_thread(
            capture_result, lambda: model.predict(conversation, assessments, sentiments), versions
        )


@serve.deployment(name="embedding", max_ongoing_requests=64)
class EmbeddingDeployment:
    """Texts as vectors of 384 numbers."""

    def __init__(self, placement: ReplicaSettings) -> None:
        torch.set_num_threads(1)
        self._model = EmbeddingModel.load(weights.sentence_encoder(placement.verified_dir))

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.005)
    async def embed(self, requests: list[list[str]]) -> list[ReplicaResult[Samples]]:
        """Each request's texts become rows of 384 numbers, each row of length 1."""
        versions = {"embedding": self._model.version}
        return await asyncio.to_thread(capture_results, self._embed_all, requests, versions)

    def _embed_all(self, requests: list[list[str]]) -> list[Samples]:
        rows = self._model.embed([text for texts in requests for text in texts])
        ends = np.cumsum([len(texts) for texts in requests])[:-1]
        return list(np.split(rows, ends))
