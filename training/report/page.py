"""The report as a Markdown page, with the drawings beside it.

Fifth step of the report: figures in, text out. It measures nothing.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from training.report.out_of_corpus_section import outside_blocks
from training.report.sections import LEAST_CONCERN_TURNS, Figures
from training.report.tables import figure, plain, share, table

_TITLES: Final[dict[str, str]] = {
    "average_precision_any": "average precision, any concern",
    "recall_at_1_percent": "recall at 1 % false alarms",
    "recall_at_5_percent": "recall at 5 % false alarms",
    "mean_average_precision": "mean average precision, 15 categories",
    "calibration_error": "expected calibration error, any concern",
    "concern_turns_flagged": "concern turns flagged",
    "critical_turns_flagged": "critical turns flagged",
    "ordinary_turns_flagged": "ordinary turns flagged",
    "severity_within_one": "severity right or one step off",
    "risk_within_one": "risk right or one step off",
    "risk_exact": "risk exact",
    "sentiment_macro_f1": "sentiment, macro-F1",
    "actions_average_precision": "actions, average precision of turns that promise",
    "actions_f1": "actions, F1 of turns that promise",
    "summary_rouge_1": "summary, ROUGE-1",
}
_INVENTED: Final = (
    "All conversations are invented and come from this project's own data; no real person, home or incident is in "
    "them, which is why their words may be printed here. The figures say how the models do on invented talk, mostly "
    "by the same hands that wrote what they learnt from. About a home's real talk they say nothing."
)
_RULES: Final = {"shipped": "as shipped", "band": "band, as training computes it"}
_INTERVALS: Final = "In brackets: 95 % intervals from resampling whole conversations a thousand times."


def page(figures: Figures) -> str:
    """The whole report on one version; drawings are named relative to it."""
    return "\n\n".join(block for block in _blocks(figures) if block) + "\n"


def _blocks(figures: Figures) -> Iterator[str]:
    yield f"# Text models {figures['version']}"
    yield (
        f"{figures['conversations']} conversations, {figures['turns']} turns, {figures['turns_with_a_concern']} with a "
        f"concern. {figures['learnt']} {_INTERVALS} Made {figures['made']} by `{figures['command']}`."
    )
    if "outside" in figures:
        yield from outside_blocks(figures["outside"])
    yield _INVENTED
    yield "## At a glance\n\n" + _overview_table(figures)
    yield "### Look here first\n\n" + "\n".join(f"- {line}" for line in weakest_points(figures))
    yield from _safeguarding(figures)
    yield from _groups(figures)
    yield from _other_models(figures)
    yield from _behaviour(figures.get("behaviour"))
    yield from _probe(figures.get("probe"))
    if figures.get("speech"):
        yield "## Speech\n\n" + figures["speech"].strip()
    yield from _cases(figures)


def weakest_points(figures: Figures) -> list[str]:
    """Where the version is weakest, from its figures, so that a reader need not search for it."""
    found = []
    missed = figures["missed_critical"]
    if missed:
        found.append(f"**{len(missed)} critical turns are not flagged**; each is listed below.")
    weakest = sorted((r for r in figures["categories"] if r["turns"]), key=lambda r: r["average_precision"]["value"])
    text = ", ".join(f"{plain(row['category'])} {figure(row['average_precision'])}" for row in weakest[:3])
    found.append(f"Weakest categories by average precision: {text}.")
    for row in figures["slices"]:
        gap = row["recall_gap"]
        if row["turns_with_a_concern"] >= LEAST_CONCERN_TURNS and gap["high"] is not None and gap["high"] < 0:
            found.append(
                f"Fewer concerns are heard in **{plain(row['name'])}** than elsewhere: "
                f"{figure(row['concern_turns_flagged'])} of {row['turns_with_a_concern']}, "
                f"a gap of {figure(gap, sign=True)}."
            )
    short = [
        row
        for row in figures["slices"]
        if row["kind"] == "turn length" and row["turns_with_a_concern"] < LEAST_CONCERN_TURNS
    ]
    if short:
        count = sum(row["turns_with_a_concern"] for row in short)
        named = " and ".join(row["name"] for row in short)
        found.append(f"Too few concerns to judge by: {named} ({count} together).")
    loud = [row for row in figures["hard_negatives"] if not row["tag"].startswith("all ")]
    loud.sort(key=lambda row: -row["flagged"]["value"])
    if loud and loud[0]["flagged"]["value"] > 0:
        text = ", ".join(f"{plain(row['tag'])} {figure(row['flagged'])}" for row in loud[:3])
        found.append(f"Most false alarms among hard negatives: {text}.")
    wrong = [row for row in figures.get("behaviour") or () if not row["right"]]
    if wrong:
        found.append(f"{len(wrong)} rows of the table of capabilities are wrong: {_named(wrong)}.")
    return found


def _named(rows: Sequence[Figures]) -> str:
    return ", ".join(dict.fromkeys(row["capability"] for row in rows))


def _overview_table(figures: Figures) -> str:
    rows = [(_TITLES[name], figure(value)) for name, value in figures["safeguarding"].items()]
    rows += [(_TITLES[name], figure(value)) for name, value in figures["others"].items()]
    return table(("figure", "value"), rows)


# --- safeguarding ----------------------------------------------------------------------------------------------------


def _safeguarding(figures: Figures) -> Iterator[str]:
    yield "## Safeguarding"
    yield _image(figures, "precision_recall", "Precision and recall of concerns and of promises")
    yield table(
        ("false alarms among ordinary turns", "recall of concern turns"),
        [(share(row["rate"]), figure(row["recall"])) for row in figures["at_false_alarm_rates"]],
    )
    yield _image(figures, "calibration", "Reliability diagram of any concern")
    yield "### By category"
    yield _image(figures, "categories", "Average precision and recall by category")
    yield table(
        ("category", "turns", "average precision", "recall", "precision", "flagged at all", "threshold"),
        [
            (
                plain(row["category"]), row["turns"], figure(row["average_precision"]), figure(row["recall"]),
                figure(row["precision"]), figure(row["recall_in_any_category"]), f"{row['threshold']:.3f}",
            )
            for row in figures["categories"]
        ],
    )  # fmt: skip
    yield (
        "Recall and precision are of the category itself at its shipped threshold; *flagged at all* counts a turn "
        "that was brought to a person under another name."
    )
    yield _image(figures, "category_confusion", "True category by highest category told")
    yield "### Severity, risk and sentiment: true against told"
    yield _image(figures, "levels", "Confusions of severity, risk and sentiment")
    severity = figures["severity"]
    yield (
        f"Severity of the {severity['told_of']} concern turns for which a level is known: exact "
        f"{figure(severity['exact'])}, right or one step off {figure(severity['within_one'])}."
    )
    yield "### 'Look at this, I am not sure'"
    yield _image(figures, "look_again", "Recall against ordinary turns shown")
    yield (
        "What is shown if turns below the shipped thresholds are shown as well, down to a probability of any concern "
        "that a conformal quantile gives. It is computed on three quarters of the conversations and measured on the "
        "fourth, in turn. *Band*: the edge that training ships (`training/unsure.py`), for turns marked 'unsure'. *Of "
        "all turns* is the reader's load."
    )
    yield table(
        (
            "rule", "down to", "recall", "critical turns", "ordinary turns shown", "of all turns", "more turns",
            "concerns among them",
        ),
        [
            (
                _RULES.get(row["rule"], row["rule"]),
                "the thresholds" if row["rule"] == "shipped" else f"{row['from_probability']:.3f}",
                figure(row["recall"]), figure(row["critical_turns_shown"]), figure(row["ordinary_turns_shown"]),
                share(round(row["turns_shown"], 3)), row["turns_in_band"], row["concerns_in_band"],
            )
            for row in figures["look_again"]
        ],
    )  # fmt: skip


def _groups(figures: Figures) -> Iterator[str]:
    yield "## Channels, lengths, speakers, people"
    yield _image(figures, "slices", "Concern and ordinary turns flagged, by part")
    yield (
        "*Gap* is the recall at the shipped thresholds minus that of all other turns, in bold where its interval "
        "leaves out nothing; with this many parts one or two do so by chance. Parts with fewer than "
        f"{LEAST_CONCERN_TURNS} concern turns are in italics and not drawn. People are told by the corpus's tags; "
        "nobody's origin is guessed from a name. A part in which all or none are flagged has no spread to resample: "
        "read its count, not its interval."
    )
    head = ("", "turns", "concerns", "AP, any", "concern turns flagged", "ordinary turns flagged", "gap")
    for kind, rows in groupby(figures["slices"], key=lambda row: row["kind"]):
        yield f"### By {kind}" if kind != "written" else "### By way of writing"
        yield table(head, [_slice(row) for row in rows])
    yield "### Hard negatives: they sound like a concern and are none"
    yield table(
        ("tag", "conversations", "with a false alarm", "ordinary turns", "flagged"),
        [
            (
                plain(row["tag"]), row["conversations"], row["conversations_with_a_false_alarm"], row["turns"],
                figure(row["flagged"]),
            )
            for row in figures["hard_negatives"]
        ],
    )  # fmt: skip


def _slice(row: Figures) -> tuple[Any, ...]:
    few, gap = row["turns_with_a_concern"] < LEAST_CONCERN_TURNS, row["recall_gap"]
    clear = not few and gap["low"] is not None and (gap["low"] > 0 or gap["high"] < 0)
    text = figure(gap, sign=True)
    return (
        f"*{plain(row['name'])}*" if few else plain(row["name"]), row["turns"], row["turns_with_a_concern"],
        figure(row["average_precision_any"]), figure(row["concern_turns_flagged"]),
        figure(row["ordinary_turns_flagged"]), "" if few else f"**{text}**" if clear else text,
    )  # fmt: skip


# --- the rest --------------------------------------------------------------------------------------------------------


def _other_models(figures: Figures) -> Iterator[str]:
    risk, sentiment, actions, summary = (figures[name] for name in ("risk", "sentiment", "actions", "summary"))
    yield "## Risk"
    yield (
        f"Level exact {figure(risk['exact'])}, right or one step off {figure(risk['within_one'])}; average precision "
        f"of conversations with any concern {figure(risk['any_concern_average_precision'])}."
    )
    yield "## Sentiment"
    yield f"Macro-F1 {figure(sentiment['macro_f1'])}, accuracy {figure(sentiment['accuracy'])}."
    parts = sentiment["macro_f1_by_part"]
    yield table(("part", "macro-F1"), [(plain(name), figure(value)) for name, value in parts.items()])
    yield "## Actions"
    yield (
        f"{actions['turns_that_commit']} turns commit somebody to something. Average precision "
        f"{figure(actions['average_precision'])}; at the shipped threshold of {actions['threshold']:.3f} precision "
        f"{figure(actions['precision'])}, recall {figure(actions['recall'])}, F1 {figure(actions['f1'])}. The curve "
        "stands beside that of concerns, above."
    )
    yield "## Summary"
    yield (
        f"ROUGE-1 against people's summaries {figure(summary['rouge_1'])}; the two longest turns of the conversation "
        f"reach {figure(summary['rouge_1_two_longest_turns'])}: {figure(summary['ratio'])} times as much."
    )


def _behaviour(rows: Sequence[Figures] | None) -> Iterator[str]:
    if not rows:
        return
    yield "## Behaviour: capabilities"
    right = sum(row["right"] for row in rows)
    yield (
        f"Sentences written for this table, in no training data; {right} of {len(rows)} are as they should be. They "
        f"are answered by {rows[0]['version']} as it ships, and flagged means what it means in service. The same rows "
        "are tests (`tests/behaviour`)."
    )
    each = []
    for name, group in groupby(sorted(rows, key=lambda row: row["capability"]), key=lambda row: row["capability"]):
        some = list(group)
        cells = [_tally([row for row in some if row["heard"] == heard]) for heard in (True, False)]
        each.append((name, *cells))
    yield table(("capability", "must be heard", "must be left alone"), each)
    yield table(
        ("", "capability", "should be", "is", "any", "said"),
        [
            (
                "✓" if row["right"] else "✗", row["capability"], "flagged" if row["heard"] else "quiet",
                "flagged" if row["flagged"] else "quiet", f"{row['probability']:.2f}", row["said"],
            )
            for row in rows
        ],
    )  # fmt: skip


def _tally(rows: Sequence[Figures]) -> str:
    return f"{sum(row['right'] for row in rows)} of {len(rows)}" if rows else ""


def _probe(probe: Figures | None) -> Iterator[str]:
    if not probe:
        return
    yield "## Swaps: what must not matter"
    yield (
        f"{probe['asked']} A share of 95 % of the turns that moves by less than 0.05 is the goal; both over all turns "
        "of the conversations that were changed and over the changed turns alone."
    )
    yield table(
        ("changed", "conversations", "turns changed", "of all turns", "of changed turns", "AP, any", "recall at 5 %"),
        [
            (
                row["change"], row["conversations"], row["turns_changed"], figure(row["steady"]),
                figure(row["steady_where_changed"]), f"{row['average_precision_any']:.3f}",
                f"{row['recall_at_5_percent']:.3f}",
            )
            for row in probe["changes"]
        ],
    )  # fmt: skip
    yield (
        "Words that describe a person, put before the person ('a *Welsh* lady') and exchanged. *Steady*: "
        "pairs of words between which the turn moves by less than 0.05."
    )
    yield table(
        ("attribute", "turns changed", "steady", "highest, against the mean of all", "lowest, against the mean"),
        [
            (
                row["attribute"], row["turns_changed"], figure(row["steady"]),
                f"{row['highest']['word']} {figure(row['highest']['shift'], sign=True)}",
                f"{row['lowest']['word']} {figure(row['lowest']['shift'], sign=True)}",
            )
            for row in probe["descriptions"]
        ],
    )  # fmt: skip
    yield "## Evidence: do the words shown carry the score?"
    faith = probe["faithfulness"]
    if faith is None:
        yield "No flagged turn has evidence that could be weighed against other words of it."
        return
    yield (
        f"In {faith['turns']} flagged turns the words shown as evidence were deleted, and as many words of the same "
        "turn drawn at random. The category's log-odds fell by "
        f"{figure(faith['fall_without_evidence'])} without the evidence and by "
        f"{figure(faith['fall_without_random_words'])} without random words, a difference of "
        f"{figure(faith['difference'], sign=True)}. The evidence weighed more in "
        f"{figure(faith['evidence_fell_more'])} of the turns."
    )


# --- cases -----------------------------------------------------------------------------------------------------------


def _cases(figures: Figures) -> Iterator[str]:
    yield "## Cases in context"
    yield (
        "The number before each line is the probability of any concern; the judged line is bold, true labels are in "
        "brackets." + ("" if figures.get("probe") else " Evidence is added by `--probe`.")
    )
    for name, title, none in (
        ("missed_critical", "Critical turns that are not flagged", "Every critical turn is flagged."),
        ("worst_misses", "Worst misses", "Nothing was missed."),
        ("worst_false_alarms", "Worst false alarms", "There is none."),
    ):
        yield f"### {title}"
        yield "\n\n".join(case_text(case) for case in figures[name]) or none


def case_text(case: Figures) -> str:
    """One turn with its neighbours, as a quotation."""
    severity = f", {case['severity']}" if case["severity"] else ""
    text = f"{plain(case['highest_category'])} {case['highest_probability']:.2f}"
    lines = [
        f"**{case['conversation']}**, {plain(case['channel'])}, turn {case['turn']}: "
        f"{plain(', '.join(case['labels'])) or 'no concern'}{severity}. Highest: {text}, "
        f"{'flagged' if case['flagged'] else 'not flagged'}.",
        "",
    ]
    for line in case["lines"]:
        mark = "**" if line["turn"] == case["turn"] else ""
        labels = f" [{plain(', '.join(line['labels']))}]" if line["labels"] else ""
        words = line["text"].replace("*", "\\*").strip()
        lines.append(f"> {line['probability']:.2f} {line['role']}: {mark}{words}{mark}{labels}  ")
    if case.get("evidence"):
        lines += ["", "Rests on " + ", ".join(f"“{words}”" for words in case["evidence"]) + "."]
    return "\n".join(lines)


# --- two versions ----------------------------------------------------------------------------------------------------


def comparison_page(figures: Figures) -> str:
    """Two versions on the same conversations: both columns, the difference, and what changed."""
    one, other = figures["model"], figures["against"]
    blocks = [
        f"# {one['name']} against {other['name']}",
        f"{figures['conversations']} conversations, {figures['turns']} turns. Made {figures['made']} by "
        f"`{figures['command']}`. {_INTERVALS} Both versions are resampled together, so the interval of the "
        "difference is of a paired comparison.",
        f"- **{one['name']}** {one['learnt']}\n- **{other['name']}** {other['learnt']}",
        _INVENTED if figures["own_data"] else "",
        "## Both, and the difference\n\n" + comparison_table(figures),
        "## Flags that changed",
        f"{figures['newly_flagged_concerns']} concern turns are flagged that were not, {figures['lost_concerns']} no "
        f"longer are; {figures['new_false_alarms']} ordinary turns are newly flagged, "
        f"{figures['lost_false_alarms']} no longer are.",
        "## Turns that changed most",
    ]
    for name, title in (("risen", "Risen"), ("fallen", "Fallen")):
        blocks.append(f"### {title}")
        blocks += [
            f"{case['before']:.2f} → {case['probability']:.2f}: " + case_text(case) for case in figures[name]
        ] or ["None."]
    return "\n\n".join(block for block in blocks if block) + "\n"


def comparison_table(figures: Figures) -> str:
    one, other = figures["model"]["name"], figures["against"]["name"]
    rows = []
    for row in figures["figures"]:
        gap = row["difference"]
        clear = gap["low"] is not None and (gap["low"] > 0 or gap["high"] < 0)
        text = figure(gap, sign=True)
        name = _TITLES.get(row["figure"]) or f"average precision, {plain(row['figure'])}"
        rows.append((name, figure(row["model"]), figure(row["against"]), f"**{text}**" if clear else text))
    return table(("figure", one, other if other != one else f"{other} (against)", "difference"), rows)


# --- small things ----------------------------------------------------------------------------------------------------


def _image(figures: Figures, name: str, text: str) -> str:
    file = figures.get("drawings", {}).get(name)
    return f"![{text}]({file})" if file else ""
