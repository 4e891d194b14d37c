"""The first section of a report: figures outside the corpora. Figures in, Markdown out."""

from collections.abc import Iterator
from typing import Any

from training.report.tables import figure, plain, share, table

Figures = dict[str, Any]


def outside_blocks(figures: Figures) -> Iterator[str]:
    """Plain lines, real conversations and unseen styles; each only if it was measured."""
    yield "## Outside the corpora"
    yield (
        "The figures that tell most of what a home may expect: the held-out conversations below are by the writers of "
        "what the models learnt from."
    )
    yield from _plain_lines(figures["plain_lines"])
    yield from _real_talk(figures["real_talk"])
    yield from _left_out(figures["left_out"])


def _plain_lines(found: Figures) -> Iterator[str]:
    yield "### Plain lines"
    yield (
        f"{found['disclosures']} plain disclosures and {found['harmless_lines']} plain harmless lines of "
        "`training/data/plain_table`, one turn each, never learnt from."
    )
    yield table(
        ("", "share"),
        [
            ("disclosures flagged", figure(found["disclosures_flagged"])),
            ("disclosures flagged in their category", figure(found["disclosures_in_their_category"])),
            ("harmless lines flagged", figure(found["harmless_lines_flagged"])),
        ],
    )
    yield table(
        ("", "lines", "flagged", "in their category"),
        [
            (plain(part["name"]), part["lines"], f"{part['flagged']:.2f}", f"{part['in_their_category']:.2f}")
            for part in found["parts"]
        ],
    )


def _real_talk(sets: list[Figures]) -> Iterator[str]:
    yield "### Real talk"
    if not sets:
        yield "Not measured: no folder of public sets was named (`--public DIR`)."
        return
    yield (
        "Held-out talk of public sets, in which hardly anybody is harmed: what is flagged is nearly all false alarms. "
        "Turns with a word of real harm ('I fell last week') count too."
    )
    yield table(
        ("set", "documents", "turns", "turns flagged", "documents flagged", "documents with an alert"),
        [
            (
                f"{one['set']} ({one['kind']})", one["documents"], one["turns"], figure(one["turns_flagged"]),
                figure(one["documents_flagged"]), figure(one["documents_with_an_alert"]),
            )
            for one in sets
        ],
    )  # fmt: skip


def _left_out(rows: list[Figures]) -> Iterator[str]:
    yield "### Styles that were never seen"
    if not rows:
        yield "Not measured for this state of the data (`python -m training.train --measure-styles`)."
        return
    yield (
        "By a model of the same recipe that learnt nothing from these briefs, calibrated and given its thresholds on "
        "other styles. *Unsure*: marked 'look at this, I am not sure', down to the edge that the other styles taught."
    )
    names = (
        ("average_precision_any", "average precision, any concern"),
        ("recall_at_1_percent", "recall at 1 % false alarms"),
        ("recall_at_5_percent", "recall at 5 % false alarms"),
        ("mean_average_precision", "mean average precision, 15 categories"),
        ("concern_turns_flagged", "concern turns flagged"),
        ("ordinary_turns_flagged", "ordinary turns flagged"),
        ("critical_turns_flagged", "critical turns flagged"),
        ("concern_turns_flagged_or_unsure", "concern turns flagged or unsure"),
        ("critical_turns_flagged_or_unsure", "critical turns flagged or unsure"),
        ("ordinary_turns_flagged_or_unsure", "ordinary turns flagged or unsure"),
    )
    shares = (
        ("conversations_with_a_concern_alerted", "conversations with a concern that raise an alert"),
        ("conversations_without_alerted", "conversations without that raise one"),
        ("all_turns_flagged_or_unsure", "of all turns, shown (the reader's load)"),
        ("calibration_error", "expected calibration error"),
        ("sentiment_macro_f1", "sentiment, macro-F1"),
    )
    yield table(
        ("", *(row["style"] for row in rows)),
        [
            ("conversations, turns", *(f"{row['conversations']}, {row['turns']}" for row in rows)),
            ("with a concern, critical", *(f"{row['turns_with_a_concern']}, {row['critical_turns']}" for row in rows)),
            *((title, *(figure(row[name]) for row in rows)) for name, title in names),
            *(
                (title, *(share(round(row[name], 3)) if "alert" in name else f"{row[name]:.3f}" for row in rows))
                for name, title in shares
            ),
        ],
    )
