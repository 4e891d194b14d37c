"""All readers of a conversation together, in one process: what `analyze` runs, and what tests compare Serve with.

The turn encoder reads each conversation once; safeguarding, sentiment and actions share its vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.actions import ActionModel
from models.records import AnalysedTurn, Analysis, Conversation
from models.risk import RiskModel
from models.safeguarding import SafeguardingModel
from models.sentiment import SentimentModel
from models.summarisation import SummarisationModel
from models.turn_encoder import TurnEncoder
from models.weights import sentence_encoder, spacy_model

SHIPPED: Final = Path(__file__).parent / "shipped"


@dataclass(frozen=True)
class TextModels:
    """The loaded readers."""

    encoder: TurnEncoder
    safeguarding: SafeguardingModel
    sentiment: SentimentModel
    actions: ActionModel
    risk: RiskModel
    summarisation: SummarisationModel

    @classmethod
    def load(cls, shipped: Path = SHIPPED, cache: Path | None = None) -> "TextModels":
        """From the shipped artefacts and the packaged weights; `cache` as for `models.weights`.

        Raises `WriteCareError` where an artefact or weight is missing or has another digest than it should.
        """
        encoder = TurnEncoder.load(shipped / "turn_encoder", sentence_encoder(cache))
        return cls(
            encoder,
            SafeguardingModel.load(shipped / "safeguarding", encoder),
            SentimentModel.load(shipped / "sentiment", encoder),
            ActionModel.load(shipped / "actions", encoder, spacy_model(cache)),
            RiskModel.load(shipped / "risk"),
            SummarisationModel.load(shipped / "summarisation"),
        )

    @property
    def versions(self) -> dict[str, str]:
        """Capability -> version, of every model that an analysis rests on."""
        return {
            "turn_encoder": self.encoder.version,
            "safeguarding": self.safeguarding.version,
            "sentiment": self.sentiment.version,
            "actions": self.actions.version,
            "risk": self.risk.version,
            "summarisation": self.summarisation.version,
        }


def analyse(conversation: Conversation, models: TextModels) -> Analysis:
    """Everything the models say of one conversation; one analysed turn a turn, in order."""
    return analyse_many([conversation], models)[0]


def analyse_many(conversations: Sequence[Conversation], models: TextModels) -> list[Analysis]:
    """As `analyse` for each, in order; encoding is batched across conversations."""
    vectors = models.encoder.encode(conversations)
    scored = models.safeguarding.score(conversations, vectors)
    assessed = models.safeguarding.explain(conversations, scored)
    felt = models.sentiment.predict_many(conversations, vectors)
    promised = models.actions.extract_many(conversations, vectors)
    versions = models.versions
    return [
        Analysis(
            id=conversation.id,
            turns=tuple(
                AnalysedTurn(scores=row.scores, concerns=row.concerns, sentiment=sentiment)
                for row, sentiment in zip(assessments, sentiments, strict=True)
            ),
            risk=models.risk.predict(conversation, assessments, sentiments),
            summary=models.summarisation.summarise(conversation, assessments),
            actions=actions,
            models=versions,
        )
        for conversation, assessments, sentiments, actions in zip(conversations, assessed, felt, promised, strict=True)
    ]
