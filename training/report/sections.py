"""Computes the figures of the report, section by section, as plain dictionaries: the content of report.json.

Third step of the report. Every figure that is `{value, low, high}` has a 95 % interval from resampling conversations.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.contract.records import CATEGORIES, RISK_LEVELS, SENTIMENT_LABELS, SEVERITIES
from training.metrics import (
    Floats,
    average_precisions,
    calibration_errors,
    confusions,
    f1s,
    interval,
    macro_f1s,
    mean_average_precisions,
    recalls_at_false_alarms,
    resampled,
    shares,
)
from training.report.predictions import VersionPredictions
from training.unsure import conformal_edge, edge_of

Figures = dict[str, Any]
Mask = NDArray[np.bool_]

NO_UPPER_LIMIT: Final = 10_000
LENGTHS: Final = ((0, 8), (8, 14), (14, 25), (25, NO_UPPER_LIMIT))  # words: from, and below
RATES: Final = (0.005, 0.01, 0.02, 0.05, 0.1)  # of ordinary turns that may be false alarms
WANTED_RECALL: Final = (0.90, 0.95, 0.98)
LEAST_CONCERN_TURNS: Final = 10  # turns with a concern: a share of fewer is not reliable
MOST_CASES: Final = 10
# The corpus's free tags, grouped where they name the same group of people. Origin is not guessed from names.
TAGS_OF_PEOPLE: Final[dict[str, frozenset[str]]] = {
    "regional or national English": frozenset(
        {"yorkshire", "geordie", "scouse", "glasgow", "scots", "welsh", "irish", "ulster", "west_indian", "caribbean"}
        | {"nigerian", "filipino_english", "indian_english", "dialect", "brummie", "cockney", "lancashire", "cornish"}
    ),
    "second language or interpreter": frozenset(
        {"second_language", "interpreter", "code_switching", "polish", "polish_carer", "punjabi", "punjabi_family"}
        | {"urdu_words"}
    ),
    "dementia": frozenset({"dementia"}),
    "learning disability or autism": frozenset({"learning_disability", "autism"}),
    "speech or hearing impairment": frozenset({"aphasia", "deaf", "speech_device", "hearing", "stammer"}),
}
_FOLDS: Final = 4


def report_figures(reading: VersionPredictions) -> Figures:
    """All figures of one version on its conversations."""
    weights = resampled(reading.owner)
    by_conversation = resampled(np.arange(len(reading.material.items)))
    return {
        "version": reading.name,
        "learnt": reading.learnt,
        "conversations": len(reading.material.items),
        "turns": len(reading.owner),
        "turns_with_a_concern": int(reading.any_truth.sum()),
        "safeguarding": {name: _interval(values) for name, values in safeguarding_values(reading, weights).items()},
        "at_false_alarm_rates": [_at_rate(reading, weights, rate) for rate in RATES],
        "categories": [_category(reading, weights, at) for at in range(len(CATEGORIES))],
        "category_confusion": _category_confusion(reading),
        "slices": list(_slices(reading, weights)),
        "hard_negatives": list(_hard_negatives(reading, weights)),
        "calibration": _reliability(reading, weights),
        "severity": _severity(reading, weights),
        "look_again": list(_below_threshold(reading, weights)),
        "risk": _risk(reading, by_conversation),
        "sentiment": _sentiment(reading, weights),
        "actions": _actions(reading, weights),
        "summary": _summary(reading, by_conversation),
        "missed_critical": _cases(reading, _missed_critical(reading)),
        "worst_misses": _cases(reading, _ranked(reading, reading.any_truth == 1, reading.any_concern_probability)),
        "worst_false_alarms": _cases(
            reading, _ranked(reading, reading.any_truth == 0, -reading.any_concern_probability)
        ),
    }


def safeguarding_values(reading: VersionPredictions, weights: Floats) -> dict[str, Floats]:
    """The figures by which versions are compared, for every resample: (resamples,) each."""
    truth, chance, has_concern = reading.any_truth, reading.any_concern_probability, reading.any_truth == 1
    categories = len(CATEGORIES)
    severity = confusions(reading.true_severity, reading.severity, len(SEVERITIES), weights)
    return {
        "average_precision_any": average_precisions(truth, chance, weights),
        "recall_at_1_percent": recalls_at_false_alarms(truth, chance, weights, 0.01),
        "recall_at_5_percent": recalls_at_false_alarms(truth, chance, weights, 0.05),
        "mean_average_precision": mean_average_precisions(
            reading.true_concern[:, :categories], reading.concern[:, :categories], weights
        ),
        "calibration_error": calibration_errors(truth, chance, weights),
        "concern_turns_flagged": shares(reading.flagged, has_concern, weights),
        "critical_turns_flagged": shares(reading.flagged, reading.true_severity == len(SEVERITIES) - 1, weights),
        "ordinary_turns_flagged": shares(reading.flagged, ~has_concern, weights),
        "severity_within_one": _share_within(severity),
    }


def other_values(reading: VersionPredictions, weights: Floats, by_conversation: Floats) -> dict[str, Floats]:
    """The comparable figures of the other models; `by_conversation`: (resamples, conversations)."""
    risk = confusions(reading.true_risk, reading.risk, len(RISK_LEVELS), by_conversation)
    predicted = reading.sentiment.argmax(axis=1)
    return {
        "risk_within_one": _share_within(risk),
        "risk_exact": _share_within(risk, 0),
        "sentiment_macro_f1": macro_f1s(confusions(reading.true_sentiment, predicted, len(SENTIMENT_LABELS), weights)),
        "actions_average_precision": average_precisions(reading.true_commits, reading.commitment, weights),
        "actions_f1": f1s(reading.true_commits == 1, reading.commitment >= reading.commitment_threshold, weights),
        "summary_rouge_1": _mean(reading.rouge, by_conversation),
    }


def turn_case(reading: VersionPredictions, row: int, around: int = 2) -> Figures:
    """A turn with the turns around it: its text, its labels, and the version's predictions."""
    item = reading.material.items[reading.owner[row]]
    turn = int(reading.place[row])
    roles = {person.speaker: person.role.replace("_", " ") for person in item.conversation.participants}
    lines = []
    for at in range(max(0, turn - around), min(len(item.conversation.turns), turn + around + 1)):
        spoken, here = item.conversation.turns[at], row - turn + at
        lines.append(
            {
                "turn": at,
                "role": roles.get(spoken.speaker or "", "unknown"),
                "text": spoken.text,
                "probability": float(reading.any_concern_probability[here]),
                "labels": _labels(reading, here),
            }
        )
    level = int(reading.true_severity[row])
    highest = int(reading.concern[row, : len(CATEGORIES)].argmax())
    return {
        "conversation": item.conversation.id,
        "channel": item.conversation.channel,
        "turn": turn,
        "probability": float(reading.any_concern_probability[row]),
        "highest_category": CATEGORIES[highest],
        "highest_probability": float(reading.concern[row, highest]),
        "flagged": bool(reading.flagged[row]),
        "labels": _labels(reading, row),
        "severity": SEVERITIES[level] if level >= 0 else None,
        "lines": lines,
    }


# --- safeguarding ----------------------------------------------------------------------------------------------------


def _at_rate(reading: VersionPredictions, weights: Floats, rate: float) -> Figures:
    return {
        "rate": rate,
        "recall": _interval(recalls_at_false_alarms(reading.any_truth, reading.any_concern_probability, weights, rate)),
    }


def _category(reading: VersionPredictions, weights: Floats, at: int) -> Figures:
    truth, above = reading.true_concern[:, at] == 1, reading.above[:, at]
    return {
        "category": CATEGORIES[at],
        "turns": int(truth.sum()),
        "threshold": float(reading.thresholds[at]),
        "average_precision": _interval(average_precisions(truth.astype(float), reading.concern[:, at], weights)),
        "recall": _interval(shares(above, truth, weights)),
        "precision": _interval(shares(truth, above, weights)),
        "recall_in_any_category": _interval(shares(reading.flagged, truth, weights)),
    }


def _category_confusion(reading: VersionPredictions) -> list[list[float]]:
    """(15, 16): true category by highest predicted category of turns with a concern; the last column is 'not flagged'.

    A turn of several categories counts once: for the predicted one if it is among them, else shared.
    """
    found = np.zeros((len(CATEGORIES), len(CATEGORIES) + 1))
    for row in np.flatnonzero(reading.any_truth == 1):
        true = np.flatnonzero(reading.true_concern[row, : len(CATEGORIES)])
        predicted = int(reading.concern[row, : len(CATEGORIES)].argmax()) if reading.flagged[row] else len(CATEGORIES)
        if predicted in true:
            found[predicted, predicted] += 1
        else:
            found[true, predicted] += 1 / len(true)
    return [[float(cell) for cell in row] for row in found]


def _slices(reading: VersionPredictions, weights: Floats) -> Iterator[Figures]:
    for kind, name, mask in slices(reading):
        has_concern = reading.any_truth == 1
        if not (mask & has_concern).any() or mask.all():
            continue
        inside = shares(reading.flagged, mask & has_concern, weights)
        yield {
            "kind": kind,
            "name": name,
            "conversations": int(np.unique(reading.owner[mask]).size),
            "turns": int(mask.sum()),
            "turns_with_a_concern": int((mask & has_concern).sum()),
            "average_precision_any": _interval(
                average_precisions(reading.any_truth[mask], reading.any_concern_probability[mask], weights[:, mask])
            ),
            "concern_turns_flagged": _interval(inside),
            "ordinary_turns_flagged": _interval(shares(reading.flagged, mask & ~has_concern, weights)),
            "recall_gap": _interval(inside - shares(reading.flagged, ~mask & has_concern, weights)),
        }


def slices(reading: VersionPredictions) -> Iterator[tuple[str, str, Mask]]:
    """Kind, name and turns of each part of the conversations that has figures of its own."""
    channel = reading.per_turn([item.conversation.channel for item in reading.material.items])
    for name in np.unique(channel):
        yield "channel", str(name), channel == name
    recognised = reading.per_turn([notes.recognised for notes in reading.material.notes])
    yield "written", "as a recogniser writes", recognised
    yield "written", "clean", ~recognised
    words = reading.words()
    for least, below in LENGTHS:
        name = (
            f"under {below}"
            if not least
            else f"{least} to {below - 1}"
            if below < NO_UPPER_LIMIT
            else f"{least} or more"
        )
        yield "turn length", f"{name} words", (words >= least) & (words < below)
    spoken_by = np.asarray(_roles(reading))
    for role in sorted(set(spoken_by)):
        yield "role of the speaker", role, spoken_by == role
    for name, tags in TAGS_OF_PEOPLE.items():
        yield "people", name, reading.tagged(tags)


def _roles(reading: VersionPredictions) -> list[str]:
    found = []
    for item in reading.material.items:
        role = {person.speaker: person.role for person in item.conversation.participants}
        found += [role.get(turn.speaker or "", "unknown").replace("_", " ") for turn in item.conversation.turns]
    return found


def _hard_negatives(reading: VersionPredictions, weights: Floats) -> Iterator[Figures]:
    """False alarms in conversations that sound like a concern but have none, by tag; first all of them."""
    ordinary = reading.any_truth == 0
    hard = ordinary & reading.per_turn([item.hard_negative for item in reading.material.items])
    tags: dict[str, int] = {}
    for item, notes in zip(reading.material.items, reading.material.notes, strict=True):
        for tag in notes.tags if item.hard_negative else ():
            tags[tag] = tags.get(tag, 0) + 1
    yield {"tag": "all hard negatives", **_false_alarms(reading, weights, hard)}
    for tag, _ in sorted(tags.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_CASES]:
        yield {"tag": tag, **_false_alarms(reading, weights, hard & reading.tagged(frozenset({tag})))}
    yield {"tag": "all other conversations", **_false_alarms(reading, weights, ordinary & ~hard)}


def _false_alarms(reading: VersionPredictions, weights: Floats, mask: Mask) -> Figures:
    return {
        "conversations": int(np.unique(reading.owner[mask]).size),
        "turns": int(mask.sum()),
        "conversations_with_a_false_alarm": int(np.unique(reading.owner[mask & reading.flagged]).size),
        "flagged": _interval(shares(reading.flagged, mask, weights)),
    }


def _reliability(reading: VersionPredictions, weights: Floats, bins: int = 10) -> list[Figures]:
    """Predicted probability and observed share, in bins of equal width of the probability of any concern."""
    which = np.minimum((reading.any_concern_probability * bins).astype(int), bins - 1)
    return [
        {
            "from": at / bins,
            "turns": int((which == at).sum()),
            "said": float(reading.any_concern_probability[which == at].mean()),
            "seen": _interval(shares(reading.any_truth == 1, which == at, weights)),
        }
        for at in range(bins)
        if (which == at).any()
    ]


def _severity(reading: VersionPredictions, weights: Floats) -> Figures:
    confusion = confusions(reading.true_severity, reading.severity, len(SEVERITIES), weights)
    return {
        "labels": list(SEVERITIES),
        "confusion": _counts(confusion[0]),
        "within_one": _interval(_share_within(confusion)),
        "exact": _interval(_share_within(confusion, 0)),
        "told_of": int(confusion[0].sum()),
    }


def _below_threshold(reading: VersionPredictions, weights: Floats) -> Iterator[Figures]:
    """'Look at this, I am not sure': the turns shown from a probability of any concern, and the recall that this gives.

    The edges are those of `training/unsure`: computed from three deals of conversations, measured on the fourth, in
    turn. `band` is the edge that ships; the others say what a wanted recall of concern turns would cost.
    """
    has_concern, critical = reading.any_truth == 1, reading.true_severity == len(SEVERITIES) - 1
    chance = np.where(reading.flagged, 1.0, reading.any_concern_probability)

    def band(rows: Mask) -> float:
        return edge_of(chance[rows], has_concern[rows], critical[rows])

    yield _shown(reading, weights, "shipped", 1.0, reading.flagged)
    yield _shown(reading, weights, "band", band(np.ones_like(has_concern)), _beyond(reading, chance, band))
    for wanted in WANTED_RECALL:

        def recalling(rows: Mask, wanted: float = wanted) -> float:
            return conformal_edge(chance[rows & has_concern], wanted)

        lower = recalling(np.ones_like(has_concern))
        yield _shown(reading, weights, f"{wanted:.0%} of concerns", lower, _beyond(reading, chance, recalling))


def _beyond(reading: VersionPredictions, chance: NDArray[Any], edge: Callable[[Mask], float]) -> Mask:
    """(turns,): what lies above the edge that the other deals of conversations give."""
    deal = reading.owner % _FOLDS
    lower = np.ones(len(deal))
    for asked in np.unique(deal):
        lower[deal == asked] = edge(deal != asked)
    return reading.flagged | (chance >= lower)


def _shown(reading: VersionPredictions, weights: Floats, rule: str, lower: float, shown: Mask) -> Figures:
    has_concern = reading.any_truth == 1
    band = shown & ~reading.flagged
    return {
        "rule": rule,
        "from_probability": lower,
        "turns_shown": float(shown.mean()),
        "recall": _interval(shares(shown, has_concern, weights)),
        "ordinary_turns_shown": _interval(shares(shown, ~has_concern, weights)),
        "critical_turns_shown": _interval(shares(shown, reading.true_severity == len(SEVERITIES) - 1, weights)),
        "turns_in_band": int(band.sum()),
        "concerns_in_band": int((band & has_concern).sum()),
    }


# --- the other models ------------------------------------------------------------------------------------------------


def _risk(reading: VersionPredictions, weights: Floats) -> Figures:
    confusion = confusions(reading.true_risk, reading.risk, len(RISK_LEVELS), weights)
    return {
        "labels": list(RISK_LEVELS),
        "confusion": _counts(confusion[0]),
        "within_one": _interval(_share_within(confusion)),
        "exact": _interval(_share_within(confusion, 0)),
        "any_concern_average_precision": _interval(
            average_precisions((reading.true_risk > 0).astype(float), reading.risk_chance, weights)
        ),
    }


def _sentiment(reading: VersionPredictions, weights: Floats) -> Figures:
    predicted = reading.sentiment.argmax(axis=1)
    confusion = confusions(reading.true_sentiment, predicted, len(SENTIMENT_LABELS), weights)
    by_part = {}
    for kind, name, mask in slices(reading):
        if kind in ("channel", "written"):
            part = confusions(reading.true_sentiment[mask], predicted[mask], len(SENTIMENT_LABELS), weights[:, mask])
            by_part[name] = _interval(macro_f1s(part))
    return {
        "labels": list(SENTIMENT_LABELS),
        "confusion": _counts(confusion[0]),
        "macro_f1": _interval(macro_f1s(confusion)),
        "accuracy": _interval(_share_within(confusion, 0)),
        "macro_f1_by_part": by_part,
    }


def _actions(reading: VersionPredictions, weights: Floats) -> Figures:
    truth, predicted = reading.true_commits == 1, reading.commitment >= reading.commitment_threshold
    return {
        "turns_that_commit": int(truth.sum()),
        "threshold": reading.commitment_threshold,
        "average_precision": _interval(average_precisions(reading.true_commits, reading.commitment, weights)),
        "f1": _interval(f1s(truth, predicted, weights)),
        "precision": _interval(shares(truth, predicted, weights)),
        "recall": _interval(shares(predicted, truth, weights)),
    }


def _summary(reading: VersionPredictions, weights: Floats) -> Figures:
    ours, longest = _mean(reading.rouge, weights), _mean(reading.rouge_longest, weights)
    return {
        "rouge_1": _interval(ours),
        "rouge_1_two_longest_turns": _interval(longest),
        "ratio": _interval(ours / np.where(longest > 0, longest, np.nan)),
    }


# --- cases -----------------------------------------------------------------------------------------------------------


def _missed_critical(reading: VersionPredictions) -> NDArray[np.int64]:
    missed = np.flatnonzero((reading.true_severity == len(SEVERITIES) - 1) & ~reading.flagged)
    return missed[np.argsort(reading.any_concern_probability[missed])]


def _ranked(reading: VersionPredictions, mask: Mask, worst_first: Floats) -> NDArray[np.int64]:
    rows = np.flatnonzero(mask)
    return rows[np.argsort(worst_first[rows], kind="stable")][:MOST_CASES]


def _cases(reading: VersionPredictions, rows: NDArray[np.int64]) -> list[Figures]:
    return [turn_case(reading, int(row)) for row in rows]


def _labels(reading: VersionPredictions, row: int) -> list[str]:
    return [name for at, name in enumerate(CATEGORIES) if reading.true_concern[row, at]]


# --- small things ----------------------------------------------------------------------------------------------------


def _share_within(confusion: Floats, steps: int = 1) -> Floats:
    """(resamples,): the share that is right or at most `steps` levels off."""
    size = confusion.shape[1]
    close = np.abs(np.subtract.outer(np.arange(size), np.arange(size))) <= steps
    with np.errstate(invalid="ignore", divide="ignore"):
        answer: Floats = (confusion * close).sum(axis=(1, 2)) / confusion.sum(axis=(1, 2))
    return answer


def _mean(values: Floats, weights: Floats) -> Floats:
    answer: Floats = weights @ values / weights.sum(axis=1)
    return answer


def _interval(values: Floats) -> Figures:
    return asdict(interval(values))


def _counts(confusion: Floats) -> list[list[int]]:
    return [[int(cell) for cell in row] for row in confusion]
