"""Read: a conversation becomes an analysis. The model calls run side by side where none needs another's answer."""

import asyncio

from models.records import AnalysedTurn, Analysis, Conversation
from pipelines.capabilities import Models


async def analyse(conversation: Conversation, models: Models) -> Analysis:
    """One analysed turn per turn, in order; `models` names the versions that gave the answers."""
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
        risk=risk,
        summary=summary,
        actions=actions,
        models=dict(models.versions),
    )
