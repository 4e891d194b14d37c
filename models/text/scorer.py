"""Scores concerns and sentiment in one encoder pass, without evidence spans. Messages are assessed with it.

Finding evidence costs more than everything else, because the turn is scored again without each phrase. The alert is
urgent, the evidence is not. So messages are scored first, and the evidence is found later.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from models.contract.records import AnalysedTurn, Conversation
from models.text.safeguarding import SafeguardingModel
from models.text.sentiment import SentimentModel
from models.text.turn_encoder import TurnEncoder


@dataclass(frozen=True)
class SharedScorer:
    """The safeguarding and sentiment models on one shared encoder."""

    encoder: TurnEncoder
    safeguarding: SafeguardingModel
    sentiment: SentimentModel

    def score_many(self, conversations: Sequence[Conversation]) -> list[tuple[AnalysedTurn, ...]]:
        """For each conversation one result for each turn, in order; concerns have no evidence."""
        vectors = self.encoder.encode(conversations)
        assessments_by_conversation = self.safeguarding.score(conversations, vectors)
        sentiments_by_conversation = self.sentiment.predict_many(conversations, vectors)
        return [
            tuple(AnalysedTurn.of(row, sentiment) for row, sentiment in zip(rows, sentiments, strict=True))
            for rows, sentiments in zip(assessments_by_conversation, sentiments_by_conversation, strict=True)
        ]
