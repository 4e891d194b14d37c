"""Decided: whether an analysis is worth a person's eyes, and what they must be shown. Pure.

Every concern that reached its shipped threshold is put before a person; the thresholds, not this module, say how
many that are. The software raises a concern and never says that abuse happened.
"""

from uuid import UUID

from comms.alerts.records import NewAlert, NewEvidence, Span
from models.records import SEVERITIES, Analysis

SAFEGUARDING = "safeguarding"


def alert_for(analysis: Analysis, *, recording_id: UUID, transcription_id: UUID, analysis_id: UUID) -> NewAlert | None:
    """The alert that `analysis` calls for, None where no turn reaches a threshold.

    One piece of evidence a turn and category, in the order of the call; the alert's severity is the highest and its
    probability that of its likeliest concern.
    """
    evidence = tuple(
        NewEvidence(
            utterance=position,
            category=concern.category,
            severity=concern.severity,
            probability=concern.probability,
            threshold=concern.threshold,
            model=SAFEGUARDING,
            model_version=analysis.models[SAFEGUARDING],
            spans=tuple(
                Span(utterance=moved.turn, start=moved.start, end=moved.end, weight=moved.weight)
                for moved in concern.evidence
            ),
        )
        for position, turn in enumerate(analysis.turns)
        for concern in turn.concerns
    )
    if not evidence:
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
