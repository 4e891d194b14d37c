"""From which probability of any concern a turn without one is marked 'look at this, I am not sure'.

Split conformal (Vovk et al., 2005; Angelopoulos and Bates, 2023): the edge is an order statistic of the concern turns
of conversations that were not learnt from. Turns of one conversation are not exchangeable, so the promise is
approximate: the report measures it (training/report). docs/decisions/0046 says why it is so plain.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.contract.records import CATEGORIES, SEVERITIES
from training.calibration import HeldOutAnswers

RECALL: Final = 0.95  # of turns with a concern that are to be flagged or marked
CRITICAL_RECALL: Final = 0.98  # of critical turns
_STEP: Final = 1e-5  # so that rounding moves no turn across the edge
MOST_SHOWN: Final = 0.25  # of ordinary turns that may be flagged or marked: who is shown more looks at nothing


def is_flagged(concern: NDArray[np.float32], thresholds: Mapping[str, float]) -> NDArray[np.bool_]:
    """(turns,): where a category reaches its threshold; `concern`: (turns, 16)."""
    return np.asarray((concern[:, :-1] >= np.asarray([thresholds[name] for name in CATEGORIES])).any(axis=1))


def conformal_edge(chances: NDArray[np.floating], wanted: float) -> float:
    """The value that a further turn of this kind reaches with probability `wanted`.

    Of too few turns to promise that (fewer than 49 for 0.98) the lowest; with none at all, infinity.
    """
    if not chances.size:
        return float("inf")
    rank = max(1, int((1.0 - wanted) * (chances.size + 1)))
    return float(np.sort(chances)[rank - 1])


def unsure_edge(answers: HeldOutAnswers, concern: NDArray[np.float32], thresholds: Mapping[str, float]) -> float:
    """The lower of both edges that the recalls ask for, and never so low that more than `MOST_SHOWN` is shown.

    `concern`: calibrated probabilities (turns, 16) of `answers`, which are held out. What is flagged is found anyhow.
    """
    chance = np.where(is_flagged(concern, thresholds), 1.0, concern[:, -1])
    return edge_of(chance, answers.true_concern[:, -1] == 1, answers.true_severity == len(SEVERITIES) - 1)


def edge_of(chance: NDArray[np.floating], voiced: NDArray[np.bool_], critical: NDArray[np.bool_]) -> float:
    """As `unsure_edge`, of the probability of any concern of each turn, 1 where it is flagged."""
    wanted = min(conformal_edge(chance[voiced], RECALL), conformal_edge(chance[critical], CRITICAL_RECALL), 1.0)
    ordinary = np.sort(chance[~voiced])[::-1]
    least = float(ordinary[int(MOST_SHOWN * ordinary.size)]) if ordinary.size else 0.0
    return round(least + _STEP if least > wanted else max(0.0, wanted - _STEP), 5)
