"""The drawings of the report, as SVG files that need no network to open.

Fourth step of the report. Each function draws one file. The figures contain all that is drawn, except the curves, which
come from the turns.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve

from models.contract.records import CATEGORIES
from training.report.predictions import VersionPredictions
from training.report.sections import LEAST_CONCERN_TURNS, Figures

_INK: Final = "#22303c"
_BLUE: Final = "#2166ac"
_RED: Final = "#b2182b"
_GREY: Final = "#9aa5b1"
_STYLE: Final[dict[str, Any]] = {
    "svg.hashsalt": "writecare",  # the same figures give the same bytes
    "svg.fonttype": "path",  # the same letters on every machine
    "font.size": 10,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": "#e4e8ec",
    "legend.frameon": False,
}


def draw(figures: Figures, reading: VersionPredictions, directory: Path, suffix: str = ".svg") -> dict[str, Path]:
    """All drawings of a report, by name, in `directory` (created if it is missing)."""
    directory.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, function in (
        ("precision_recall", _precision_recall),
        ("calibration", _calibration),
        ("categories", _categories),
        ("category_confusion", _category_confusion),
        ("slices", _slices),
        ("look_again", _below_threshold_plot),
        ("levels", _levels),
    ):
        found[name] = directory / f"{name}{suffix}"
        with mpl.rc_context(_STYLE):
            function(figures, reading, found[name])
    return found


@contextmanager
def _canvas(file: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure without pyplot's global state, saved at the end of the block; inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    metadata = {"Date": None} if file.suffix == ".svg" else {}
    figure.savefig(file, dpi=110, facecolor="white", metadata=metadata)


def _precision_recall(figures: Figures, reading: VersionPredictions, file: Path) -> None:
    with _canvas(file, 9, 4) as figure:
        concern, actions = figure.subplots(1, 2)
        at = figures["safeguarding"]
        flagged, truth = reading.flagged, reading.any_truth == 1
        precision = float(truth[flagged].mean()) if flagged.any() else float("nan")
        _curve(
            concern,
            reading.any_truth,
            reading.any_concern_probability,
            at["average_precision_any"],
            "Any concern, by turn",
        )
        concern.plot(at["concern_turns_flagged"]["value"], precision, "o", color=_RED, label="shipped thresholds")
        for rate, mark in ((0.01, "^"), (0.05, "s")):
            threshold = _threshold_at(reading, rate)
            caption = reading.any_concern_probability > threshold
            if caption.any():
                recall, right = caption[truth].mean(), truth[caption].mean()
                concern.plot(recall, right, mark, color=_INK, label=f"{rate:.0%} false alarms", markersize=6)
        concern.legend(loc="lower left", bbox_to_anchor=(0, 0.16))
        found = figures["actions"]
        _curve(actions, reading.true_commits, reading.commitment, found["average_precision"], "Turns that promise")
        recall, right = found["recall"]["value"], found["precision"]["value"]
        actions.plot(recall, right, "o", color=_RED, label="shipped threshold")
        actions.legend(loc="lower left", bbox_to_anchor=(0, 0.16))


def _curve(axes: Any, truth: Any, chance: Any, figure: Figures, title: str) -> None:
    precision, recall, _ = precision_recall_curve(truth, chance)
    axes.plot(recall, precision, color=_BLUE, linewidth=2, drawstyle="steps-post")
    axes.axhline(float(truth.mean()), color=_GREY, linestyle=":", linewidth=1)
    axes.text(1.0, float(truth.mean()) + 0.02, "chance", color=_GREY, ha="right", fontsize=8)
    caption = f"AP {figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=f"{title}\n{caption}")
    axes.grid(visible=True)


def _threshold_at(reading: VersionPredictions, rate: float) -> float:
    ordinary = np.sort(reading.any_concern_probability[reading.any_truth == 0])[::-1]
    return float(ordinary[min(int(rate * ordinary.size), ordinary.size - 1)])


def _calibration(figures: Figures, reading: VersionPredictions, file: Path) -> None:
    with _canvas(file, 5.2, 5.2) as figure:
        plot, counts = figure.subplots(2, 1, height_ratios=[4, 1], sharex=True)
        bins = figures["calibration"]
        said = [one["said"] for one in bins]
        seen = np.asarray([[one["seen"][part] for part in ("value", "low", "high")] for one in bins])
        plot.plot([0, 1], [0, 1], color=_GREY, linestyle=":", label="as said, so it is")
        plot.vlines(said, seen[:, 1], seen[:, 2], color=_BLUE, alpha=0.45, linewidth=3)
        plot.plot(said, seen[:, 0], "o", color=_BLUE, label="ten bins, 95 % interval")
        error = figures["safeguarding"]["calibration_error"]["value"]
        title = f"Calibration of 'any concern'\nexpected error {error:.3f}"
        plot.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="share that is a concern", title=title)
        plot.legend(loc="upper left")
        plot.grid(visible=True)
        counts.bar(said, [one["turns"] for one in bins], width=0.05, color=_GREY)
        counts.set(yscale="log", ylim=(1, None), ylabel="turns", xlabel="probability said")


def _categories(figures: Figures, _: VersionPredictions, file: Path) -> None:
    rows = sorted(figures["categories"], key=lambda row: _number(row["average_precision"]["value"]))
    with _canvas(file, 9, 4.6) as figure:
        precision, recall = figure.subplots(1, 2, sharey=True)
        names = [f"{_plain(row['category'])} ({row['turns']})" for row in rows]
        _forest(precision, names, [row["average_precision"] for row in rows], _BLUE)
        precision.set(title="Average precision by category", xlim=(0, 1.02))
        _forest(recall, names, [row["recall_in_any_category"] for row in rows], _RED)
        recall.set(title="Flagged, in whichever category", xlim=(0, 1.02))


def _slices(figures: Figures, _: VersionPredictions, file: Path) -> None:
    rows = [row for row in reversed(figures["slices"]) if row["turns_with_a_concern"] >= LEAST_CONCERN_TURNS]
    rows = rows or figures["slices"][::-1]
    with _canvas(file, 9, 0.9 + 0.27 * len(rows)) as figure:
        flagged_axes, alarm_axes = figure.subplots(1, 2, sharey=True)
        names = [f"{_plain(row['name'])} ({row['turns_with_a_concern']})" for row in rows]
        for axes, name, title in (
            (flagged_axes, "concern_turns_flagged", "Concern turns flagged"),
            (alarm_axes, "ordinary_turns_flagged", "Ordinary turns flagged"),
        ):
            _forest(axes, names, [row[name] for row in rows], _BLUE)
            axes.axvline(figures["safeguarding"][name]["value"], color=_RED, linewidth=1, linestyle="--")
            axes.set_title(title)
        flagged_axes.set_xlim(0, 1.02)
        alarm_axes.set_xlim(left=0)
        kinds = [row["kind"] for row in rows]
        for at in range(1, len(kinds)):
            if kinds[at] != kinds[at - 1]:
                for axes in (flagged_axes, alarm_axes):
                    axes.axhline(at - 0.5, color=_GREY, linewidth=0.6)


def _forest(axes: Any, names: Sequence[str], found: Sequence[Figures], colour: str) -> None:
    at = np.arange(len(names))
    values = np.asarray([[_number(one[part]) for part in ("value", "low", "high")] for one in found])
    values = values.reshape(len(names), 3)
    axes.hlines(at, values[:, 1], values[:, 2], color=colour, alpha=0.45, linewidth=3)
    axes.plot(values[:, 0], at, "o", color=colour, markersize=5)
    axes.set_yticks(at, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", length=0)


def _category_confusion(figures: Figures, _: VersionPredictions, file: Path) -> None:
    cells = np.asarray(figures["category_confusion"])
    with _canvas(file, 8.6, 6.6) as figure:
        axes = figure.subplots()
        names = [_plain(name) for name in CATEGORIES]
        _heat(axes, cells, names, [*names, "not flagged"])
        axes.axvline(len(CATEGORIES) - 0.5, color=_INK, linewidth=1)
        axes.set(xlabel="highest category told", ylabel="true category", title="Which category a concern is taken for")


def _levels(figures: Figures, _: VersionPredictions, file: Path) -> None:
    with _canvas(file, 12, 4) as figure:
        for axes, (name, title) in zip(
            figure.subplots(1, 3),
            (("severity", "Severity, by turn"), ("risk", "Risk, by conversation"), ("sentiment", "Sentiment, by turn")),
            strict=True,
        ):
            labels = figures[name]["labels"]
            _heat(axes, np.asarray(figures[name]["confusion"]), labels, labels)
            axes.set(title=title, xlabel="told", ylabel="true")


def _heat(axes: Any, cells: Any, rows: Sequence[str], columns: Sequence[str]) -> None:
    """Counts, coloured by their share of the row."""
    shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1e-9)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(np.arange(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(len(rows)), rows)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for (row, column), cell in np.ndenumerate(cells):
        if cell > 0:
            colour = "white" if shares[row, column] > 0.55 else _INK
            axes.text(column, row, f"{cell:g}" if cell == int(cell) else f"{cell:.1f}", ha="center", va="center",
                      color=colour, fontsize=8)  # fmt: skip


def _below_threshold_plot(figures: Figures, reading: VersionPredictions, file: Path) -> None:
    order = np.argsort(-np.where(reading.flagged, 1.0, reading.any_concern_probability), kind="stable")
    has_concern = (reading.any_truth == 1)[order]
    recall = np.cumsum(has_concern) / max(1, has_concern.sum())
    shown = np.cumsum(~has_concern) / max(1, (~has_concern).sum())
    with _canvas(file, 6.4, 4.2) as figure:
        axes = figure.subplots()
        axes.plot(100 * shown, recall, color=_BLUE, linewidth=2)
        for row in figures["look_again"]:
            shipped = row["rule"] == "shipped"
            at = 100 * row["ordinary_turns_shown"]["value"]
            axes.plot(at, row["recall"]["value"], "o", color=_RED if shipped else _INK)
            caption = "shipped thresholds" if shipped else row["rule"]
            axes.annotate(
                caption, (at, row["recall"]["value"]), xytext=(8, -11), textcoords="offset points", fontsize=8
            )
        axes.set(
            xscale="symlog", ylim=(0, 1.02), xlim=(0, 100), xlabel="ordinary turns shown to a person, %",
            ylabel="concern turns shown", title="What looking below the thresholds would cost",
        )  # fmt: skip
        axes.set_xticks([0, 1, 2, 5, 10, 20, 50, 100], ["0", "1", "2", "5", "10", "20", "50", "100"])
        axes.grid(visible=True)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _plain(name: str) -> str:
    return name.replace("_", " ")
