"""Prints the results of one call for the demo: as text for a terminal, and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from comms.safeguarding.alerts.records import AlertDetail
from models.contract.records import Analysis, Concern, StageTiming, Transcript

_MOST_PASSAGES = 3
_PASSAGE_WIDTH = 56
_COLOUR = {"none": "green", "low": "yellow", "medium": "dark_orange", "high": "red", "critical": "bold red"}


@dataclass(frozen=True)
class ProcessedCall:
    """All results of one processed recording."""

    source: str
    transcript: Transcript
    analysis: Analysis
    alert: AlertDetail | None
    timings: tuple[StageTiming, ...]

    def as_json(self) -> dict[str, Any]:
        """The JSON of `demo --json`. `alert` is null if no alert was raised."""
        return {
            "source": self.source,
            "transcript": {"source": self.source, **self.transcript.model_dump(mode="json")},
            "analysis": self.analysis.model_dump(mode="json"),
            "alert": None if self.alert is None else _alert_as_json(self.alert),
            "timings": [timing.model_dump(mode="json") for timing in self.timings],
        }


def _alert_as_json(alert: AlertDetail) -> dict[str, Any]:
    shown = {"utterance", "text", "start_seconds", "end_seconds", "category", "severity", "probability", "threshold"}
    return {
        "id": str(alert.id),
        "state": alert.state,
        "severity": alert.severity,
        "categories": list(alert.categories),
        "evidence": [piece.model_dump(mode="json", include=shown) for piece in alert.evidence],
    }


def print_call(console: Console, call: ProcessedCall) -> None:
    """Transcript, concerns, sentiment, summary, actions, alert, models, timings: in the order a reviewer reads."""
    console.print()
    console.rule(Text(f" {call.source} ", style="bold"))
    console.print(_transcript_table(call))
    console.print(_concerns(call))
    console.print(_summary_block(call))
    console.print(_alert_panel(call.alert))
    console.print(_timings_table(call.timings))
    console.print(Text("Models", style="bold"))
    for name, version in sorted(call.analysis.models.items()):
        console.print(Text(f"  {name:<15} {version}"), soft_wrap=True)


def format_time(seconds: float) -> str:
    """Seconds as m:ss.t, or h:mm:ss.t past the hour."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def _transcript_table(call: ProcessedCall) -> Table:
    table = Table(title="Transcript", title_justify="left", title_style="bold", expand=True, box=None, padding=(0, 1))
    for heading, style in (("#", "dim"), ("time", "cyan"), ("speaker", "bold"), ("feeling", "dim"), ("words", "")):
        table.add_column(heading, style=style, no_wrap=heading != "words", ratio=1 if heading == "words" else None)
    if not call.transcript.utterances:
        table.add_row("", "", "", "", Text("No speech was heard.", style="italic"))
    for position, (utterance, read) in enumerate(zip(call.transcript.utterances, call.analysis.turns, strict=True)):
        text = Text(utterance.text)
        for concern in read.concerns:
            for phrase in concern.evidence:
                if phrase.turn == position:
                    text.stylize(_COLOUR[concern.severity], phrase.start, phrase.end)
        speaker = utterance.speaker or "unsure"
        table.add_row(str(position), format_time(utterance.start_seconds), speaker, read.sentiment.label, text)
    return table


def _concerns(call: ProcessedCall) -> Group:
    """One block per concern, in the order of the call: category, probability, time in the audio, evidence words."""
    lines: list[Text] = [Text("\nConcerns for a person to judge", style="bold")]
    for position, turn in enumerate(call.analysis.turns):
        utterance = call.transcript.utterances[position]
        for concern in turn.concerns:
            lines.append(
                Text.assemble(
                    (f"[{position}] ", "dim"),
                    (f"{format_time(utterance.start_seconds)}–{format_time(utterance.end_seconds)} ", "cyan"),
                    (concern.category.replace("_", " "), "bold"), ", ",
                    (concern.severity, _COLOUR[concern.severity]),
                    f", probability {concern.probability:.0%} (threshold {concern.threshold:.0%})",
                )
            )  # fmt: skip
            lines += [Text(f"      rests on {words}", style="dim") for words in _evidence_phrases(position, concern)]
    if len(lines) == 1:
        lines.append(Text("None reached its threshold.", style="green"))
    return Group(*lines, Text(""))


def _evidence_phrases(position: int, concern: Concern) -> list[str]:
    """The words with the most influence on the score. Words of an earlier turn have its number."""
    strongest = sorted(concern.evidence, key=lambda phrase: -phrase.weight)[:_MOST_PASSAGES]
    return [
        f"“{shorten(phrase.text, _PASSAGE_WIDTH, placeholder=' …')}”"
        + ("" if phrase.turn == position else f" said in turn {phrase.turn}")
        for phrase in strongest
    ]


def _summary_block(call: ProcessedCall) -> Group:
    analysis = call.analysis
    risk = Text("Risk of the call: ", style="bold") + Text(
        f"{analysis.risk.level} ({analysis.risk.score:.0%})", style=_COLOUR[analysis.risk.level]
    )
    labels = [turn.sentiment.label for turn in analysis.turns]
    feeling = ", ".join(f"{labels.count(label)} {label}" for label in ("negative", "neutral", "positive"))
    lines: list[Any] = [risk, Text("Sentiment of the turns: ", style="bold") + Text(feeling)]
    summary = Text("Summary: ", style="bold")
    for sentence in analysis.summary.sentences:
        summary += Text(sentence.text + " ") + Text(f"[{', '.join(map(str, sentence.turns))}] ", style="dim")
    lines.append(summary if analysis.summary.sentences else summary + Text("nothing to sum up."))
    lines.append(Text("Actions:", style="bold") + Text("" if analysis.actions else " none was agreed."))
    for action in analysis.actions:
        owner, due = action.owner or "nobody named", action.due or "no date said"
        lines.append(Text(f"  • {action.text} ({owner}; {due}) ") + Text(f"[{action.turn}]", style="dim"))
    return Group(*lines, Text(""))


def _alert_panel(alert: AlertDetail | None) -> Panel:
    if alert is None:
        return Panel("No alert was raised.", title="Alert", title_align="left", border_style="green")
    body = Text.assemble(
        ("id        ", "dim"), str(alert.id), "\n",
        ("state     ", "dim"), alert.state, "\n",
        ("severity  ", "dim"), (alert.severity, _COLOUR[alert.severity]), "\n",
        ("about     ", "dim"), ", ".join(category.replace("_", " ") for category in alert.categories), "\n",
        ("evidence  ", "dim"), f"{len(alert.evidence)} passages, each with its moment in the audio. A person decides.",
    )  # fmt: skip
    return Panel(body, title="Alert", title_align="left", border_style=_COLOUR[alert.severity])


def _timings_table(timings: Sequence[StageTiming]) -> Table:
    table = Table(title="Timings", title_justify="left", title_style="bold", box=None, padding=(0, 1))
    for heading in ("stage", "audio s", "wall s", "real-time factor"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for timing in timings:
        factor = f"{timing.wall_seconds / timing.audio_seconds:.3f}" if timing.audio_seconds else "–"
        table.add_row(timing.stage, f"{timing.audio_seconds:.1f}", f"{timing.wall_seconds:.2f}", factor)
    return table
