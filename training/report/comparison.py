"""Compares two versions on the same conversations: the figures of each, and what changed."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.contract.records import CATEGORIES
from training.metrics import Floats, average_precisions, interval, resampled
from training.report.predictions import VersionPredictions
from training.report.sections import MOST_CASES, Figures, other_values, safeguarding_values, turn_case

_LEAST_CHANGE = 0.05  # a smaller change is not listed


def comparison_figures(model: VersionPredictions, against: VersionPredictions) -> Figures:
    """Figures of both, their difference by paired bootstrap over conversations, and the turns that changed most.

    Both predictions must be of the same conversations in the same order.
    """
    weights = resampled(model.owner)
    by_conversation = resampled(np.arange(len(model.material.items)))
    ours, theirs = (dict(_values(reading, weights, by_conversation)) for reading in (model, against))
    has_concern, gained, lost = model.any_truth == 1, model.flagged & ~against.flagged, against.flagged & ~model.flagged
    risen = model.any_concern_probability - against.any_concern_probability
    return {
        "conversations": len(model.material.items),
        "turns": len(model.owner),
        "model": {"name": model.name, "learnt": model.learnt},
        "against": {"name": against.name, "learnt": against.learnt},
        "figures": [
            {
                "figure": name,
                "model": interval(ours[name]).__dict__,
                "against": interval(theirs[name]).__dict__,
                "difference": interval(ours[name] - theirs[name]).__dict__,
            }
            for name in ours
        ],
        "newly_flagged_concerns": int((gained & has_concern).sum()),
        "lost_concerns": int((lost & has_concern).sum()),
        "new_false_alarms": int((gained & ~has_concern).sum()),
        "lost_false_alarms": int((lost & ~has_concern).sum()),
        "risen": _most_changed(model, against, risen),
        "fallen": _most_changed(model, against, -risen),
    }


def _values(reading: VersionPredictions, weights: Floats, by_conversation: Floats) -> Iterator[tuple[str, Floats]]:
    yield from safeguarding_values(reading, weights).items()
    yield from other_values(reading, weights, by_conversation).items()
    for at, name in enumerate(CATEGORIES):
        yield name, average_precisions(reading.true_concern[:, at], reading.concern[:, at], weights)


def _most_changed(model: VersionPredictions, against: VersionPredictions, by: NDArray[np.float32]) -> list[Figures]:
    """The turns that moved furthest in one direction, most first."""
    rows = np.argsort(-by, kind="stable")[:MOST_CASES]
    return [
        {**turn_case(model, int(row)), "before": float(against.any_concern_probability[row])}
        for row in rows
        if by[row] >= _LEAST_CHANGE
    ]
