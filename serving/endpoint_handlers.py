"""What each call of the model API asks of the models: request in, response record out, no HTTP.

The table `READINGS` follows `models/contract/endpoints.py`; `transcribe` stands apart, since its input is sound.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from models.audio.decoder import DecodedAudio
from models.contract.endpoints import (
    ActionsReading,
    Call,
    ComplianceReading,
    ConversationRequest,
    Detection,
    Embedding,
    EmbedRequest,
    SentimentReading,
    SourcedTranscript,
    SummaryReading,
    TurnSentiment,
)
from models.contract.records import Analysis, Conversation
from models.text.compliance import compliance_matters
from models.text.language_detection import language_of
from pipelines.analysis import analyse
from pipelines.track_transcription import transcribe_call
from serving.served_models import ServedModels


async def analyze_transcript(models: ServedModels, request: ConversationRequest) -> Analysis:
    """Everything the models say of it."""
    return await analyse(request.conversation(), models)


async def detect_safeguarding(models: ServedModels, request: ConversationRequest) -> Detection:
    """Concerns by turn."""
    conversation = request.conversation()
    turns = await models.assess(conversation)
    return Detection(id=request.id, turns=turns, models=dict(models.versions), **await _language(conversation))


async def analyse_sentiment(models: ServedModels, request: ConversationRequest) -> SentimentReading:
    """The feeling by turn."""
    conversation = request.conversation()
    felt = await models.sentiment(conversation)
    turns = tuple(TurnSentiment(sentiment=one) for one in felt)
    return SentimentReading(id=request.id, turns=turns, models=dict(models.versions), **await _language(conversation))


async def extract_actions(models: ServedModels, request: ConversationRequest) -> ActionsReading:
    """Commitments that were voiced."""
    conversation = request.conversation()
    actions = await models.actions(conversation)
    return ActionsReading(id=request.id, actions=actions, models=dict(models.versions), **await _language(conversation))


async def generate_summary(models: ServedModels, request: ConversationRequest) -> SummaryReading:
    """A summary that cites its turns."""
    conversation = request.conversation()
    summary = await models.summarise(conversation, await models.assess(conversation))
    return SummaryReading(id=request.id, summary=summary, models=dict(models.versions), **await _language(conversation))


async def analyse_compliance(models: ServedModels, request: ConversationRequest) -> ComplianceReading:
    """Duties that may arise."""
    conversation = request.conversation()
    matters = compliance_matters(await models.assess(conversation))
    return ComplianceReading(
        id=request.id, matters=matters, models=dict(models.versions), **await _language(conversation)
    )


async def _language(conversation: Conversation) -> dict[str, Any]:
    """What every reading says of the conversation's language."""
    return dict(await asyncio.to_thread(language_of, conversation))


async def embed(models: ServedModels, request: EmbedRequest) -> Embedding:
    """Sentence embeddings."""
    rows = await models.embed(request.texts)
    return Embedding(vectors=tuple(map(tuple, rows.tolist())), models=dict(models.versions))


READINGS: Final[Mapping[Call, Callable[[ServedModels, Any], Awaitable[Any]]]] = {
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
) -> SourcedTranscript:
    """Who said what, when. One track is diarized; of several, each is one speaker's."""
    tracks = [track for one in files for track in one.tracks]
    made = await transcribe_call(tracks, models, speakers=speakers, language=language)
    return SourcedTranscript(source=source, sound=tuple(one.info.sound for one in files), **dict(made.transcript))
