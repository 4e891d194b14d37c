"""Concerns and feelings of the same turns, out of one pass of the encoder and without evidence: how messages are read.

Finding the evidence of a concern costs more than all else (the turn is scored anew without each phrase), and what is
urgent is that somebody looks. So the two are apart: judged first, explained when there is time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from models.contract.records import AnalysedTurn, Conversation
from models.text.safeguarding import SafeguardingModel
from models.text.sentiment import SentimentModel
from models.text.turn_encoder import TurnEncoder


@dataclass(frozen=True)
class SharedScorer:
    """The two readers, over one encoder."""

    encoder: TurnEncoder
    safeguarding: SafeguardingModel
    sentiment: SentimentModel

    def score_many(self, conversations: Sequence[Conversation]) -> list[tuple[AnalysedTurn, ...]]:
        """Of each conversation one answer a turn, in order; concerns without evidence."""
        vectors = self.encoder.encode(conversations)
        assessments_by_conversation = self.safeguarding.score(conversations, vectors)
        sentiments_by_conversation = self.sentiment.predict_many(conversations, vectors)
        return [
            tuple(
                AnalysedTurn(scores=row.scores, concerns=row.concerns, sentiment=sentiment)
                for row, sentiment in zip(rows, sentiments, strict=True)
            )
            for rows, sentiments in zip(assessments_by_conversation, sentiments_by_conversation, strict=True)
        ]
