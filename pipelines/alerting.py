"""Decides whether an analysis raises an alert, and builds the alert with its evidence. Pure functions.

A concern that reached its shipped threshold is shown to a person. One exception: a long call with a single weak
concern, because among hundreds of turns some reach the threshold by chance. The call's transcript still marks that
concern. The software raises a concern; it never says that abuse happened.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from comms.safeguarding.alerts.records import EvidenceSpan, NewAlert, NewEvidence
from models.contract.records import SEVERITIES, Analysis, Concern

SAFEGUARDING: Final = "safeguarding"
DEEPER_READER: Final = "deeper_reader"  # who reads again what the first is unsure of (models/text/deeper_reading)
_LONG_CALL_TURNS: Final = 40  # turns
_WEAK_PROBABILITY: Final = 0.5  # probability of a concern below which one turn is not enough in a long call


def warrants_alert(concerns: Sequence[Sequence[Concern]]) -> bool:
    """Whether a call raises an alert. `concerns` holds the concerns of each turn, one sequence per turn.

    In a call of up to 40 turns any concern is enough. In a longer call a critical or a likely concern is enough, and
    so are two turns with a concern, because they support each other.
    """
    turns_with_concerns = [turn for turn in concerns if turn]
    if len(concerns) <= _LONG_CALL_TURNS or len(turns_with_concerns) != 1:
        return bool(turns_with_concerns)
    return any(
        concern.probability >= _WEAK_PROBABILITY or concern.severity == SEVERITIES[-1]
        for concern in turns_with_concerns[0]
    )


def alert_for(analysis: Analysis, *, recording_id: UUID, transcription_id: UUID, analysis_id: UUID) -> NewAlert | None:
    """The alert of `analysis`, or None if `warrants_alert` is False.

    It has one piece of evidence per turn and category, in the order of the call. Its severity is the highest of its
    concerns, and its probability is that of the most likely concern.
    """
    evidence = tuple(
        NewEvidence(
            utterance=position,
            category=concern.category,
            severity=concern.severity,
            probability=concern.probability,
            threshold=concern.threshold,
            model=SAFEGUARDING if concern.model is None else DEEPER_READER,
            model_version=concern.model or analysis.models[SAFEGUARDING],
            spans=tuple(
                EvidenceSpan(utterance=phrase.turn, start=phrase.start, end=phrase.end, weight=phrase.weight)
                for phrase in concern.evidence
            ),
        )
        for position, turn in enumerate(analysis.turns)
        for concern in turn.concerns
    )
    if not warrants_alert([turn.concerns for turn in analysis.turns]):
        return None
    likeliest_first = sorted(evidence, key=lambda piece: -piece.probability)
    return NewAlert(
        recording_id=recording_id,
        transcription_id=transcription_id,
        analysis_id=analysis_id,
        severity=max((piece.severity for piece in evidence), key=SEVERITIES.index),
        categories=tuple(dict.fromkeys(piece.category for piece in likeliest_first)),
        probability=likeliest_first[0].probability,
        models=analysis.models,
        evidence=evidence,
    )
