"""The figures of the report, section by section, as plain dictionaries: what report.json holds and the page tells.

Third step of the report. Every figure that is `{value, low, high}` has a 95 % interval from resampling conversations.
"""

from collections.abc import Iterator
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
from training.report.predictions import Reading

Figures = dict[str, Any]
Mask = NDArray[np.bool_]

MANY: Final = 10_000
LENGTHS: Final = ((0, 8), (8, 14), (14, 25), (25, MANY))  # words: from, and below
RATES: Final = (0.005, 0.01, 0.02, 0.05, 0.1)  # of ordinary turns that may be false alarms
WANTED_RECALL: Final = (0.90, 0.95, 0.98)
FEW: Final = 10  # turns with a concern: a share of fewer is hardly a figure
WORST: Final = 10
# The corpus's free tags, gathered where they tell of the same group of people. Origin is not guessed from names.
PEOPLE: Final[dict[str, frozenset[str]]] = {
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
_DEALS: Final = 4


def report_figures(reading: Reading) -> Figures:
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
        "look_again": list(_look_again(reading, weights)),
        "risk": _risk(reading, by_conversation),
        "sentiment": _sentiment(reading, weights),
        "actions": _actions(reading, weights),
        "summary": _summary(reading, by_conversation),
        "missed_critical": _cases(reading, _missed_critical(reading)),
        "worst_misses": _cases(reading, _ranked(reading, reading.any_truth == 1, reading.any_chance)),
        "worst_false_alarms": _cases(reading, _ranked(reading, reading.any_truth == 0, -reading.any_chance)),
    }


def safeguarding_values(reading: Reading, weights: Floats) -> dict[str, Floats]:
    """The figures by which versions are compared, for every resample: (resamples,) each."""
    truth, chance, voiced = reading.any_truth, reading.any_chance, reading.any_truth == 1
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
        "concern_turns_flagged": shares(reading.flagged, voiced, weights),
        "critical_turns_flagged": shares(reading.flagged, reading.true_severity == len(SEVERITIES) - 1, weights),
        "ordinary_turns_flagged": shares(reading.flagged, ~voiced, weights),
        "severity_within_one": _near(severity),
    }


def other_values(reading: Reading, weights: Floats, by_conversation: Floats) -> dict[str, Floats]:
    """The comparable figures of the other models; `by_conversation`: (resamples, conversations)."""
    risk = confusions(reading.true_risk, reading.risk, len(RISK_LEVELS), by_conversation)
    told = reading.sentiment.argmax(axis=1)
    return {
        "risk_within_one": _near(risk),
        "risk_exact": _near(risk, 0),
        "sentiment_macro_f1": macro_f1s(confusions(reading.true_sentiment, told, len(SENTIMENT_LABELS), weights)),
        "actions_average_precision": average_precisions(reading.true_commits, reading.commitment, weights),
        "actions_f1": f1s(reading.true_commits == 1, reading.commitment >= reading.commitment_threshold, weights),
        "summary_rouge_1": _mean(reading.rouge, by_conversation),
    }


def case(reading: Reading, row: int, around: int = 2) -> Figures:
    """A turn with the turns around it: what was said, what is true of it, and what the version made of it."""
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
                "probability": float(reading.any_chance[here]),
                "labels": _labels(reading, here),
            }
        )
    level = int(reading.true_severity[row])
    highest = int(reading.concern[row, : len(CATEGORIES)].argmax())
    return {
        "conversation": item.conversation.id,
        "channel": item.conversation.channel,
        "turn": turn,
        "probability": float(reading.any_chance[row]),
        "highest_category": CATEGORIES[highest],
        "highest_probability": float(reading.concern[row, highest]),
        "flagged": bool(reading.flagged[row]),
        "labels": _labels(reading, row),
        "severity": SEVERITIES[level] if level >= 0 else None,
        "lines": lines,
    }


# --- safeguarding ----------------------------------------------------------------------------------------------------


def _at_rate(reading: Reading, weights: Floats, rate: float) -> Figures:
    return {
        "rate": rate,
        "recall": _interval(recalls_at_false_alarms(reading.any_truth, reading.any_chance, weights, rate)),
    }


def _category(reading: Reading, weights: Floats, at: int) -> Figures:
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


def _category_confusion(reading: Reading) -> list[list[float]]:
    """(15, 16): true category by highest category of turns with a concern; the last column is 'not flagged'.

    A turn of several categories counts once: for the one that was told where it is among them, else shared.
    """
    found = np.zeros((len(CATEGORIES), len(CATEGORIES) + 1))
    for row in np.flatnonzero(reading.any_truth == 1):
        true = np.flatnonzero(reading.true_concern[row, : len(CATEGORIES)])
        told = int(reading.concern[row, : len(CATEGORIES)].argmax()) if reading.flagged[row] else len(CATEGORIES)
        if told in true:
            found[told, told] += 1
        else:
            found[true, told] += 1 / len(true)
    return [[float(cell) for cell in row] for row in found]


def _slices(reading: Reading, weights: Floats) -> Iterator[Figures]:
    for kind, name, mask in slices(reading):
        voiced = reading.any_truth == 1
        if not (mask & voiced).any() or mask.all():
            continue
        inside = shares(reading.flagged, mask & voiced, weights)
        yield {
            "kind": kind,
            "name": name,
            "conversations": int(np.unique(reading.owner[mask]).size),
            "turns": int(mask.sum()),
            "turns_with_a_concern": int((mask & voiced).sum()),
            "average_precision_any": _interval(
                average_precisions(reading.any_truth[mask], reading.any_chance[mask], weights[:, mask])
            ),
            "concern_turns_flagged": _interval(inside),
            "ordinary_turns_flagged": _interval(shares(reading.flagged, mask & ~voiced, weights)),
            "recall_gap": _interval(inside - shares(reading.flagged, ~mask & voiced, weights)),
        }


def slices(reading: Reading) -> Iterator[tuple[str, str, Mask]]:
    """Kind, name and turns of each part of the conversations that is looked at by itself."""
    channel = reading.spread([item.conversation.channel for item in reading.material.items])
    for name in np.unique(channel):
        yield "channel", str(name), channel == name
    recognised = reading.spread([notes.recognised for notes in reading.material.notes])
    yield "written", "as a recogniser writes", recognised
    yield "written", "clean", ~recognised
    words = reading.words()
    for least, below in LENGTHS:
        name = f"under {below}" if not least else f"{least} to {below - 1}" if below < MANY else f"{least} or more"
        yield "turn length", f"{name} words", (words >= least) & (words < below)
    spoken_by = np.asarray(_roles(reading))
    for role in sorted(set(spoken_by)):
        yield "role of the speaker", role, spoken_by == role
    for name, tags in PEOPLE.items():
        yield "people", name, reading.tagged(tags)


def _roles(reading: Reading) -> list[str]:
    found = []
    for item in reading.material.items:
        role = {person.speaker: person.role for person in item.conversation.participants}
        found += [role.get(turn.speaker or "", "unknown").replace("_", " ") for turn in item.conversation.turns]
    return found


def _hard_negatives(reading: Reading, weights: Floats) -> Iterator[Figures]:
    """False alarms in conversations that sound like a concern and are none, by tag; all of them first."""
    ordinary = reading.any_truth == 0
    hard = ordinary & reading.spread([item.hard_negative for item in reading.material.items])
    tags: dict[str, int] = {}
    for item, notes in zip(reading.material.items, reading.material.notes, strict=True):
        for tag in notes.tags if item.hard_negative else ():
            tags[tag] = tags.get(tag, 0) + 1
    yield {"tag": "all hard negatives", **_false_alarms(reading, weights, hard)}
    for tag, _ in sorted(tags.items(), key=lambda pair: (-pair[1], pair[0]))[:WORST]:
        yield {"tag": tag, **_false_alarms(reading, weights, hard & reading.tagged(frozenset({tag})))}
    yield {"tag": "all other conversations", **_false_alarms(reading, weights, ordinary & ~hard)}


def _false_alarms(reading: Reading, weights: Floats, mask: Mask) -> Figures:
    return {
        "conversations": int(np.unique(reading.owner[mask]).size),
        "turns": int(mask.sum()),
        "conversations_with_a_false_alarm": int(np.unique(reading.owner[mask & reading.flagged]).size),
        "flagged": _interval(shares(reading.flagged, mask, weights)),
    }


def _reliability(reading: Reading, weights: Floats, bins: int = 10) -> list[Figures]:
    """What was said and what was so, in bins of equal width of the probability of any concern."""
    which = np.minimum((reading.any_chance * bins).astype(int), bins - 1)
    return [
        {
            "from": at / bins,
            "turns": int((which == at).sum()),
            "said": float(reading.any_chance[which == at].mean()),
            "seen": _interval(shares(reading.any_truth == 1, which == at, weights)),
        }
        for at in range(bins)
        if (which == at).any()
    ]


def _severity(reading: Reading, weights: Floats) -> Figures:
    confused = confusions(reading.true_severity, reading.severity, len(SEVERITIES), weights)
    return {
        "labels": list(SEVERITIES),
        "confusion": _counts(confused[0]),
        "within_one": _interval(_near(confused)),
        "exact": _interval(_near(confused, 0)),
        "told_of": int(confused[0].sum()),
    }


def _look_again(reading: Reading, weights: Floats) -> Iterator[Figures]:
    """'Look at this, I am not sure': how far below the shipped threshold one must look to meet a wanted recall.

    Split conformal (Vovk et al., 2005; Angelopoulos and Bates, 2023): the lower threshold is the quantile of the
    concern turns' nearness in three deals of conversations, its coverage is measured in the fourth, in turn. Turns of
    one conversation are not exchangeable, so the promise is approximate; the measured coverage is what counts.
    """
    voiced = reading.any_truth == 1
    deal = reading.owner % _DEALS
    yield _shown(reading, weights, None, 1.0, reading.flagged)
    for wanted in WANTED_RECALL:
        lower = np.ones(len(deal))
        for asked in np.unique(deal):
            lower[deal == asked] = _conformal(reading.nearness[voiced & (deal != asked)], wanted)
        shown = reading.nearness >= lower
        yield _shown(reading, weights, wanted, _conformal(reading.nearness[voiced], wanted), shown)


def _conformal(nearness: NDArray[np.float64], wanted: float) -> float:
    """The value that a further concern turn reaches with probability `wanted`; never above the threshold itself."""
    rank = int((1.0 - wanted) * (nearness.size + 1))
    return min(1.0, float(np.sort(nearness)[rank - 1])) if rank >= 1 else 0.0


def _shown(reading: Reading, weights: Floats, wanted: float | None, lower: float, shown: Mask) -> Figures:
    voiced = reading.any_truth == 1
    band = shown & ~reading.flagged
    return {
        "wanted_recall": wanted,
        "lower_as_share_of_threshold": lower,
        "recall": _interval(shares(shown, voiced, weights)),
        "ordinary_turns_shown": _interval(shares(shown, ~voiced, weights)),
        "critical_turns_shown": _interval(shares(shown, reading.true_severity == len(SEVERITIES) - 1, weights)),
        "turns_in_band": int(band.sum()),
        "concerns_in_band": int((band & voiced).sum()),
    }


# --- the other models ------------------------------------------------------------------------------------------------


def _risk(reading: Reading, weights: Floats) -> Figures:
    confused = confusions(reading.true_risk, reading.risk, len(RISK_LEVELS), weights)
    return {
        "labels": list(RISK_LEVELS),
        "confusion": _counts(confused[0]),
        "within_one": _interval(_near(confused)),
        "exact": _interval(_near(confused, 0)),
        "any_concern_average_precision": _interval(
            average_precisions((reading.true_risk > 0).astype(float), reading.risk_chance, weights)
        ),
    }


def _sentiment(reading: Reading, weights: Floats) -> Figures:
    told = reading.sentiment.argmax(axis=1)
    confused = confusions(reading.true_sentiment, told, len(SENTIMENT_LABELS), weights)
    by_part = {}
    for kind, name, mask in slices(reading):
        if kind in ("channel", "written"):
            part = confusions(reading.true_sentiment[mask], told[mask], len(SENTIMENT_LABELS), weights[:, mask])
            by_part[name] = _interval(macro_f1s(part))
    return {
        "labels": list(SENTIMENT_LABELS),
        "confusion": _counts(confused[0]),
        "macro_f1": _interval(macro_f1s(confused)),
        "accuracy": _interval(_near(confused, 0)),
        "macro_f1_by_part": by_part,
    }


def _actions(reading: Reading, weights: Floats) -> Figures:
    truth, told = reading.true_commits == 1, reading.commitment >= reading.commitment_threshold
    return {
        "turns_that_commit": int(truth.sum()),
        "threshold": reading.commitment_threshold,
        "average_precision": _interval(average_precisions(reading.true_commits, reading.commitment, weights)),
        "f1": _interval(f1s(truth, told, weights)),
        "precision": _interval(shares(truth, told, weights)),
        "recall": _interval(shares(told, truth, weights)),
    }


def _summary(reading: Reading, weights: Floats) -> Figures:
    ours, longest = _mean(reading.rouge, weights), _mean(reading.rouge_longest, weights)
    return {
        "rouge_1": _interval(ours),
        "rouge_1_two_longest_turns": _interval(longest),
        "ratio": _interval(ours / np.where(longest > 0, longest, np.nan)),
    }


# --- cases -----------------------------------------------------------------------------------------------------------


def _missed_critical(reading: Reading) -> NDArray[np.int64]:
    missed = np.flatnonzero((reading.true_severity == len(SEVERITIES) - 1) & ~reading.flagged)
    return missed[np.argsort(reading.any_chance[missed])]


def _ranked(reading: Reading, mask: Mask, worst_first: Floats) -> NDArray[np.int64]:
    rows = np.flatnonzero(mask)
    return rows[np.argsort(worst_first[rows], kind="stable")][:WORST]


def _cases(reading: Reading, rows: NDArray[np.int64]) -> list[Figures]:
    return [case(reading, int(row)) for row in rows]


def _labels(reading: Reading, row: int) -> list[str]:
    return [name for at, name in enumerate(CATEGORIES) if reading.true_concern[row, at]]


# --- small things ----------------------------------------------------------------------------------------------------


def _near(confused: Floats, steps: int = 1) -> Floats:
    """(resamples,): the share that is right or at most `steps` levels off."""
    size = confused.shape[1]
    close = np.abs(np.subtract.outer(np.arange(size), np.arange(size))) <= steps
    with np.errstate(invalid="ignore", divide="ignore"):
        answer: Floats = (confused * close).sum(axis=(1, 2)) / confused.sum(axis=(1, 2))
    return answer


def _mean(values: Floats, weights: Floats) -> Floats:
    answer: Floats = weights @ values / weights.sum(axis=1)
    return answer


def _interval(values: Floats) -> Figures:
    return asdict(interval(values))


def _counts(confused: Floats) -> list[list[int]]:
    return [[int(cell) for cell in row] for row in confused]
