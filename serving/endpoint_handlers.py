"""Answers each endpoint of the model API by calling the models: request in, response record out, no HTTP.

The table `HANDLERS` follows `models/contract/endpoints.py`. `transcribe` is separate, because its input is audio.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from models.audio.decoder import DecodedAudio
from models.contract.endpoints import (
    ActionItemsResponse,
    ComplianceResponse,
    ConversationRequest,
    EmbedRequest,
    EmbedResponse,
    EndpointName,
    SafeguardingResponse,
    SentimentResponse,
    SummaryResponse,
    TranscribeResponse,
    TurnSentiment,
)
from models.contract.records import Analysis, Conversation
from models.text.compliance import compliance_matters
from models.text.language_detection import detect_coverage
from pipelines.analysis import analyse
from pipelines.track_transcription import transcribe_call
from serving.served_models import ServedModels


async def analyze_transcript(models: ServedModels, request: ConversationRequest) -> Analysis:
    """The complete analysis of the conversation."""
    return await analyse(request.conversation(), models)


async def detect_safeguarding(models: ServedModels, request: ConversationRequest) -> SafeguardingResponse:
    """Concerns per turn."""
    conversation = request.conversation()
    turns = await models.score_with_evidence(conversation)
    return SafeguardingResponse(
        id=request.id, turns=turns, models=dict(models.versions), **await _language_fields(conversation)
    )


async def analyse_sentiment(models: ServedModels, request: ConversationRequest) -> SentimentResponse:
    """Sentiment per turn."""
    conversation = request.conversation()
    sentiments = await models.sentiment(conversation)
    turns = tuple(TurnSentiment(sentiment=one) for one in sentiments)
    return SentimentResponse(
        id=request.id, turns=turns, models=dict(models.versions), **await _language_fields(conversation)
    )


async def extract_actions(models: ServedModels, request: ConversationRequest) -> ActionItemsResponse:
    """Action items: what somebody promised to do."""
    conversation = request.conversation()
    actions = await models.actions(conversation)
    return ActionItemsResponse(
        id=request.id, actions=actions, models=dict(models.versions), **await _language_fields(conversation)
    )


async def generate_summary(models: ServedModels, request: ConversationRequest) -> SummaryResponse:
    """A summary; each sentence cites its turns."""
    conversation = request.conversation()
    summary = await models.summarise(conversation, await models.score_with_evidence(conversation))
    return SummaryResponse(
        id=request.id, summary=summary, models=dict(models.versions), **await _language_fields(conversation)
    )


async def analyse_compliance(models: ServedModels, request: ConversationRequest) -> ComplianceResponse:
    """Legal duties that may arise."""
    conversation = request.conversation()
    matters = compliance_matters(await models.score_with_evidence(conversation))
    return ComplianceResponse(
        id=request.id, matters=matters, models=dict(models.versions), **await _language_fields(conversation)
    )


async def _language_fields(conversation: Conversation) -> dict[str, Any]:
    """The language fields that every response has."""
    return dict(await asyncio.to_thread(detect_coverage, conversation))


async def embed(models: ServedModels, request: EmbedRequest) -> EmbedResponse:
    """Sentence embeddings."""
    rows = await models.embed(request.texts)
    return EmbedResponse(vectors=tuple(map(tuple, rows.tolist())), models=dict(models.versions))


HANDLERS: Final[Mapping[EndpointName, Callable[[ServedModels, Any], Awaitable[Any]]]] = {
    "analyze-transcript": analyze_transcript,
    "detect-safeguarding": detect_safeguarding,
    "extract-action-items": extract_actions,
    "sentiment-analysis": analyse_sentiment,
    "generate-summary": generate_summary,
    "compliance-analysis": analyse_compliance,
    "embed": embed,
}


async def transcribe(
    models: ServedModels,
    files: Sequence[DecodedAudio],
    *,
    source: str,
    speakers: int | None,
    language: str | None = None,
) -> TranscribeResponse:
    """Who said what, when. A single track is diarized; of several tracks, each is one speaker."""
    tracks = [track for one in files for track in one.tracks]
    made = await transcribe_call(tracks, models, speakers=speakers, language=language)
    return TranscribeResponse(source=source, sound=tuple(one.info.sound for one in files), **dict(made.transcript))
