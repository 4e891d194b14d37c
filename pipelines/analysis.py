"""Analyses a conversation. Model calls that do not need each other's result run in parallel."""

import asyncio

from models.contract.records import AnalysedTurn, Analysis, Conversation
from models.text.language_detection import ENGLISH, detect_coverage
from models.text.risk import at_least_low
from pipelines.model_protocols import Models


async def analyse(
    conversation: Conversation, models: Models, *, recognised_language: str = ENGLISH, complete: bool = True
) -> Analysis:
    """One analysed turn per turn, in order; `models` names the versions that gave the answers.

    `recognised_language` is the language that the speech recogniser detected. `complete` is False if part of the call
    could not be transcribed.
    """
    language = await asyncio.to_thread(detect_coverage, conversation, recognised_language=recognised_language)
    assessments, sentiments, actions = await asyncio.gather(
        models.score_with_evidence(conversation), models.sentiment(conversation), models.actions(conversation)
    )
    risk, summary = await asyncio.gather(
        models.risk(conversation, assessments, sentiments), models.summarise(conversation, assessments)
    )
    return Analysis(
        id=conversation.id,
        turns=tuple(
            AnalysedTurn.of(assessment, sentiment)
            for assessment, sentiment in zip(assessments, sentiments, strict=True)
        ),
        risk=risk if complete and language.language_supported and not language.unread_turns else at_least_low(risk),
        summary=summary,
        actions=actions,
        models=dict(models.versions),
        **dict(language),
    )
