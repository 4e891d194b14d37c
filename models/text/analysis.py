"""Runs all text models on a conversation, in one process. Used by `analyze`, and by tests as a reference for Serve.

The turn encoder encodes each conversation once; safeguarding, sentiment and actions share its vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from models.artefacts.weights import mpnet, spacy_model
from models.contract.errors import unavailable
from models.contract.records import AnalysedTurn, Analysis, Conversation
from models.registry.champions import SHIPPED, champions
from models.text.actions import ActionModel
from models.text.language_detection import detect_coverage
from models.text.risk import RiskModel, at_least_low
from models.text.safeguarding import SafeguardingModel
from models.text.sentiment import SentimentModel
from models.text.summarisation import SummarisationModel
from models.text.turn_encoder import TurnEncoder

_ARTEFACT_NAMES: Final = {
    "encoder": "turn_encoder",
    "safeguarding": "safeguarding",
    "sentiment": "sentiment",
    "actions": "actions",
    "risk": "risk",
    "summarisation": "summarisation",
}


@dataclass(frozen=True)
class TextModels:
    """The loaded text models."""

    encoder: TurnEncoder
    safeguarding: SafeguardingModel
    sentiment: SentimentModel
    actions: ActionModel
    risk: RiskModel
    summarisation: SummarisationModel

    @classmethod
    def load(cls, data_dir: Path, shipped_dir: Path = SHIPPED) -> "TextModels":
        """Load the champions of `data_dir`, or the shipped versions if it has no registry yet.

        Passed digest checks are recorded under `data_dir`. Raises `WriteCareError` if an artefact or a weight file is
        missing or has a wrong digest.
        """
        cache = data_dir / "models" / "verified"
        path = {name: model.path for name, model in champions(data_dir, shipped_dir).items() if model.path is not None}
        absent = [field.name for field in fields(cls) if _ARTEFACT_NAMES[field.name] not in path]
        if absent:
            raise unavailable("artefact-missing", f"No version of these models is installed: {', '.join(absent)}.")
        encoder = TurnEncoder.load(path["turn_encoder"], mpnet(data_dir / "models"))
        return cls(
            encoder,
            SafeguardingModel.load(path["safeguarding"], encoder),
            SentimentModel.load(path["sentiment"], encoder),
            ActionModel.load(path["actions"], encoder, spacy_model(cache)),
            RiskModel.load(path["risk"]),
            SummarisationModel.load(path["summarisation"]),
        )

    @property
    def versions(self) -> dict[str, str]:
        """Capability -> version, for every model that an analysis uses."""
        return {
            "turn_encoder": self.encoder.version,
            "safeguarding": self.safeguarding.version,
            "sentiment": self.sentiment.version,
            "actions": self.actions.version,
            "risk": self.risk.version,
            "summarisation": self.summarisation.version,
        }


def analyse(conversation: Conversation, models: TextModels) -> Analysis:
    """The analysis of one conversation, with one analysed turn for each turn, in order."""
    return analyse_many([conversation], models)[0]


def analyse_many(conversations: Sequence[Conversation], models: TextModels) -> list[Analysis]:
    """The analyses of several conversations, in order, batched across conversations."""
    without_evidence = analyse_without_evidence(conversations, models)
    explained = models.safeguarding.explain(conversations, [analysis.turns for analysis in without_evidence])
    return [
        analysis.model_copy(
            update={
                "turns": tuple(
                    turn.model_copy(update={"concerns": to_assessment.concerns})
                    for turn, to_assessment in zip(analysis.turns, rows, strict=True)
                )
            }
        )
        for analysis, rows in zip(without_evidence, explained, strict=True)
    ]


def analyse_without_evidence(conversations: Sequence[Conversation], models: TextModels) -> list[Analysis]:
    """As `analyse_many`, without the evidence of each concern. Several times faster if the evidence is not needed."""
    vectors = models.encoder.encode(conversations)
    assessments_by_conversation = models.safeguarding.score(conversations, vectors)
    sentiments_by_conversation = models.sentiment.predict_many(conversations, vectors)
    actions_by_conversation = models.actions.extract_many(conversations, vectors)
    versions = models.versions
    return [
        Analysis(
            id=conversation.id,
            turns=tuple(
                AnalysedTurn.of(row, sentiment) for row, sentiment in zip(assessments, sentiments, strict=True)
            ),
            risk=risk if not language.unread_turns else at_least_low(risk),
            summary=models.summarisation.summarise(conversation, assessments),
            actions=actions,
            models=versions,
            **dict(language),
        )
        for conversation, assessments, sentiments, actions in zip(
            conversations, assessments_by_conversation, sentiments_by_conversation, actions_by_conversation, strict=True
        )
        for language in [detect_coverage(conversation)]
        for risk in [models.risk.predict(conversation, assessments, sentiments)]
    ]
