"""Read: a conversation becomes an analysis. The model calls run side by side where none needs another's answer."""

import asyncio

from models.contract.records import AnalysedTurn, Analysis, Conversation
from models.text.language_detection import ENGLISH, language_of
from models.text.risk import at_least_low
from pipelines.model_protocols import Models


async def analyse(conversation: Conversation, models: Models, *, heard: str = ENGLISH, whole: bool = True) -> Analysis:
    """One analysed turn per turn, in order; `models` names the versions that gave the answers.

    `heard` is the language that a recogniser heard; not `whole`: something of the call was not understood at all.
    """
    language = await asyncio.to_thread(language_of, conversation, heard=heard)
    assessments, sentiments, actions = await asyncio.gather(
        models.assess(conversation), models.sentiment(conversation), models.actions(conversation)
    )
    risk, summary = await asyncio.gather(
        models.risk(conversation, assessments, sentiments), models.summarise(conversation, assessments)
    )
    return Analysis(
        id=conversation.id,
        turns=tuple(
            AnalysedTurn(scores=assessment.scores, concerns=assessment.concerns, sentiment=sentiment)
            for assessment, sentiment in zip(assessments, sentiments, strict=True)
        ),
        risk=risk if whole and language.language_supported and not language.unread_turns else at_least_low(risk),
        summary=summary,
        actions=actions,
        models=dict(models.versions),
        **dict(language),
    )
