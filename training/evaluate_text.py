"""The report on the text models: `python -m training.evaluate_text`. Markdown and JSON, from held-out answers alone.

The answers were given in training by models that had not learnt from the conversation (`training/parts`); they lie
beside this file, so that the report takes seconds and anyone can make it again.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.artefacts import read_artefact
from models.champions import SHIPPED
from models.records import CATEGORIES, SENTIMENT_LABELS
from training.calibration import Answers, cross_calibrated, load_answers
from training.dataset import SEED_DATA, SHORT_EXCHANGES, Labelled, dataset_sha256, read_dataset
from training.evaluation import Figures, text_figures
from training.metrics import average_precision, macro_f1, recall_at_false_alarms
from training.risk_fitting import fit_risk
from training.summary_fitting import fit_summary
from training.train import HELD_OUT_ANSWERS

_WORST: Final = 10


def report(dataset: Sequence[Labelled], answers: Answers, shipped: Path) -> Figures:
    """All figures of all models, by channel too, with the worst cases in context."""
    thresholds = read_artefact(shipped / "safeguarding").thresholds
    commitment = read_artefact(shipped / "actions").thresholds["commitment"]
    figures = text_figures(answers, dataset, thresholds, commitment)
    figures["risk"] = fit_risk(answers, dataset, thresholds)[1]
    figures["summarisation"] = fit_summary(answers, dataset, thresholds)[1]
    concern, sentiment, _ = cross_calibrated(answers)
    figures["by_channel"] = {
        channel: _short_figures(answers, concern, sentiment, _of_channel(answers, dataset, channel))
        for channel in sorted({item.conversation.channel for item in dataset})
    }
    figures["sentiment_confusion"] = _confusion(answers.true_sentiment, sentiment.argmax(axis=1))
    figures["calibration"] = _reliability(answers.true_concern[:, -1], concern[:, -1])
    figures["worst_misses"] = _worst(answers, dataset, concern, voiced=True)
    figures["worst_false_alarms"] = _worst(answers, dataset, concern, voiced=False)
    return figures


def as_markdown(figures: Figures) -> str:
    """The report for people; every number is of conversations that the answering model had not learnt from."""
    safeguarding = figures["safeguarding"]
    lines = [
        "# Text models on held-out conversations",
        "",
        f"{safeguarding['conversations']} invented conversations, {safeguarding['turns']} turns; answered by "
        "models that learnt from other conversations, calibrated on others again. Intervals: 95 %, bootstrap over "
        "conversations.",
        "",
        "| figure | value | interval |",
        "|---|---|---|",
    ]
    lines += [_row(f"safeguarding: {name}", value) for name, value in safeguarding.items() if _is_interval(value)]
    for model in ("sentiment", "actions", "risk", "summarisation"):
        lines += [_row(f"{model}: {name}", value) for name, value in figures[model].items() if _is_interval(value)]
    lines += ["", "## At the shipped thresholds", "", "| figure | value |", "|---|---|"]
    lines += [f"| {_plain(name)} | {value:.3f} |" for name, value in safeguarding["at_shipped_thresholds"].items()]
    lines += ["", "## By category", "", "| category | average precision |", "|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in safeguarding["average_precision_by_category"].items()]
    lines += ["", "## By channel", "", _short_head(), "|---|---|---|---|---|"]
    lines += [_short_row(name, row) for name, row in figures["by_channel"].items()]
    lines += ["", "## Calibration of `any`", "", "| predicted | observed | turns |", "|---|---|---|"]
    lines += [f"| {said:.3f} | {seen:.3f} | {count} |" for said, seen, count in figures["calibration"]]
    lines += ["", f"## Sentiment: rows true, columns predicted ({', '.join(SENTIMENT_LABELS)})", ""]
    lines += [f"    {row}" for row in figures["sentiment_confusion"]]
    for title, name in (("Worst misses", "worst_misses"), ("Worst false alarms", "worst_false_alarms")):
        lines += ["", f"## {title}", ""]
        for case in figures[name]:
            lines += [f"- **{case['probability']:.3f}** {case['conversation']} turn {case['turn']} ({case['labels']})"]
            lines += [f"    - {line}" for line in case["context"]]
    return "\n".join(lines) + "\n"


def _short_figures(
    answers: Answers, concern: NDArray[np.float32], sentiment: NDArray[np.float32], rows: NDArray[Any]
) -> Figures:
    truth, chance = answers.true_concern[rows, -1], concern[rows, -1]
    return {
        "turns": int(rows.sum()),
        "average_precision_any": average_precision(truth, chance),
        "recall_at_5_percent": recall_at_false_alarms(truth, chance, 0.05),
        "sentiment_macro_f1": macro_f1(answers.true_sentiment[rows], sentiment[rows].argmax(axis=1)),
    }


def _of_channel(answers: Answers, dataset: Sequence[Labelled], channel: str) -> NDArray[Any]:
    return np.asarray([dataset[at].conversation.channel == channel for at in answers.conversation])


def _confusion(truth: NDArray[np.int64], told: NDArray[np.int64]) -> list[list[int]]:
    labels = range(len(SENTIMENT_LABELS))
    return [[int(((truth == row) & (told == column)).sum()) for column in labels] for row in labels]


def _reliability(truth: NDArray[np.float32], chance: NDArray[np.float32]) -> list[tuple[float, float, int]]:
    """Ten bins: mean probability, share of concerns, turns."""
    which = np.minimum((chance * 10).astype(int), 9)
    return [
        (float(chance[which == at].mean()), float(truth[which == at].mean()), int((which == at).sum()))
        for at in range(10)
        if (which == at).any()
    ]


def _worst(
    answers: Answers, dataset: Sequence[Labelled], concern: NDArray[np.float32], *, voiced: bool
) -> list[dict[str, Any]]:
    chance = concern[:, -1]
    candidates = np.flatnonzero(answers.true_concern[:, -1] == float(voiced))
    order = candidates[np.argsort(chance[candidates] if voiced else -chance[candidates])][:_WORST]
    found = []
    for row in order:
        owner = int(answers.conversation[row])
        turn = int(row - np.flatnonzero(answers.conversation == owner)[0])
        item = dataset[owner]
        labels = [name for at, name in enumerate(CATEGORIES) if answers.true_concern[row, at]]
        said = item.conversation.turns[max(0, turn - 2) : turn + 1]
        found.append(
            {
                "probability": float(chance[row]),
                "conversation": item.conversation.id,
                "turn": turn,
                "labels": ", ".join(labels) or "no concern",
                "context": [f"{spoken.speaker}: {spoken.text}" for spoken in said],
            }
        )
    return found


def _is_interval(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"value", "low", "high"}


def _row(name: str, figure: dict[str, float]) -> str:
    return f"| {_plain(name)} | {figure['value']:.3f} | {figure['low']:.3f} to {figure['high']:.3f} |"


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _short_head() -> str:
    return "| part | turns | AP any | recall at 5 % | sentiment macro-F1 |"


def _short_row(name: str, row: Figures) -> str:
    return (
        f"| {_plain(name)} | {row['turns']} | {row['average_precision_any']:.3f} | "
        f"{row['recall_at_5_percent']:.3f} | {row['sentiment_macro_f1']:.3f} |"
    )


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m training.evaluate_text", description=__doc__)
    arguments.add_argument("--data", type=Path, default=Path("var"), metavar="DIR", help="where state lies")
    arguments.add_argument("--shipped", type=Path, default=SHIPPED, metavar="DIR", help="the artefacts' thresholds")
    given = arguments.parse_args()
    dataset = read_dataset()
    answers = load_answers(HELD_OUT_ANSWERS, dataset, dataset_sha256(SEED_DATA, SHORT_EXCHANGES))
    figures = report(dataset, answers, given.shipped)
    directory = given.data / "reports" / "text"
    directory.mkdir(parents=True, exist_ok=True)
    text = as_markdown(figures)
    (directory / "report.md").write_text(text, encoding="utf-8")
    (directory / "report.json").write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
