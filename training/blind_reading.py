"""Blind reading of summaries: people choose the better of two texts, our summary or the two longest turns.

It measures what ROUGE cannot. Pairs are of held-out conversations, summarised by models that were not trained on them.
The side of our text is drawn at random, and written into a key that readers do not get. Both sides quote under the
speaker's name; only the … of a shortened quotation may reveal our summary to a reader who knows them.

    python -m training.blind_reading lay --out DIR --key FILE [--pairs 40] [--seed 1]
    python -m training.blind_reading score --key FILE SHEET …

`write_sheets` writes `DIR/pairs.md` to read and `DIR/sheet.csv` to fill in: A, B, or = if neither is better. `score`
takes one sheet per reader.
"""

import argparse
import csv
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scipy.stats import binomtest

from models.artefacts.files import load_manifest
from models.registry.champions import SHIPPED
from models.text.summarisation import speaker_name
from training.dataset import LabelledConversation
from training.report.material import held_out, load_corpus
from training.summary_fitting import held_out_summaries, quoted_longest_turns

SIDES: Final = ("A", "B")
NEITHER: Final = "="
_ASKED: Final = (
    "You are about to read the transcript of a conversation. Which of the two texts under it would you rather be given "
    "beforehand? Write A or B beside its number in sheet.csv, or = where neither is better."
)


@dataclass(frozen=True)
class Pair:
    """One conversation with two texts about it. `ours` is the side of the summary."""

    number: int
    item: LabelledConversation
    texts: Mapping[str, str]
    ours: str


@dataclass(frozen=True)
class Preference:
    """How often the summary was preferred among the pairs with a preference, with the exact 95 % binomial interval.

    `neither`: pairs without a preference. `share`, `low`, `high` are nan if no pair had a preference.
    """

    preferred: int
    other: int
    neither: int
    share: float
    low: float
    high: float


def draw_pairs(items: Sequence[LabelledConversation], summaries: Sequence[str], pairs: int, seed: int) -> list[Pair]:
    """Draws `pairs` conversations, and the side of our summary in each. The same seed gives the same pairs."""
    rng = random.Random(seed)  # noqa: S311 - a reproducible draw, not a secret
    chosen = rng.sample(range(len(items)), min(pairs, len(items)))
    found = []
    for number, at in enumerate(chosen, start=1):
        ours, other = rng.sample(SIDES, 2)
        texts = {ours: summaries[at], other: quoted_longest_turns(items[at])}
        found.append(Pair(number, items[at], texts, ours))
    return found


def sheet_text(pairs: Iterable[Pair]) -> str:
    """The text for readers: each conversation, and under it the two texts."""
    parts = [f"# Which tells it better?\n\n{_ASKED}\n"]
    for pair in pairs:
        talk = pair.item.conversation
        said = [f"> **{speaker_name(talk, turn.speaker)}:** {turn.text}" for turn in talk.turns]
        told = [f"**{side}.** {pair.texts[side]}" for side in SIDES]
        parts.append(f"## {pair.number}\n\n" + "\n>\n".join(said) + "\n\n" + "\n\n".join(told) + "\n")
    return "\n".join(parts)


def preference(key: Mapping[str, str], verdicts: Mapping[str, str]) -> Preference:
    """The preferences of one reader. Raises ValueError for a verdict other than A, B, =, or a pair not in the key."""
    counted: Counter[bool | None] = Counter()
    for number, verdict in verdicts.items():
        if verdict not in (*SIDES, NEITHER) or number not in key:
            raise ValueError(f"pair {number!r}: write A, B or = beside the number of a pair of this key")
        counted[None if verdict == NEITHER else verdict == key[number]] += 1
    judged = counted[True] + counted[False]
    if not judged:
        return Preference(0, 0, counted[None], float("nan"), float("nan"), float("nan"))
    found = binomtest(counted[True], judged).proportion_ci()
    return Preference(
        counted[True], counted[False], counted[None], counted[True] / judged, float(found.low), float(found.high)
    )


def majority(sheets: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """One verdict per pair: the side that more readers chose; `=` if as many chose the other.

    Readers of the same pair do not count as independent pairs.
    """
    numbers = dict.fromkeys(number for sheet in sheets for number in sheet)
    verdicts = {}
    for number in numbers:
        counted = Counter(sheet[number] for sheet in sheets if number in sheet)
        a, b = (counted[side] for side in SIDES)
        verdicts[number] = NEITHER if a == b else SIDES[b > a]
    return verdicts


def read_sheet(file: Path) -> dict[str, str]:
    """The filled rows of a sheet: number of a pair -> A, B or =."""
    with file.open(encoding="utf-8", newline="") as opened:
        rows = [(row["pair"].strip(), row["preferred"].strip().upper()) for row in csv.DictReader(opened)]
    return {number: verdict for number, verdict in rows if verdict}


def write_sheets(out: Path, key: Path, pairs: int, seed: int) -> None:
    """Writes the sheets for readers to `out`, and the side of our summary in each pair to `key`."""
    material, _ = load_corpus()
    answers = held_out(material)
    summaries = held_out_summaries(answers, material.items, load_manifest(SHIPPED / "safeguarding").thresholds)
    found = draw_pairs([material.items[at] for at in summaries.owner], summaries.texts, pairs, seed)
    out.mkdir(parents=True, exist_ok=True)
    (out / "pairs.md").write_text(sheet_text(found), encoding="utf-8")
    blank = "pair,preferred\n" + "".join(f"{pair.number},\n" for pair in found)
    (out / "sheet.csv").write_text(blank, encoding="utf-8")
    key.parent.mkdir(parents=True, exist_ok=True)
    key.write_text(json.dumps({str(pair.number): pair.ours for pair in found}, indent=1), encoding="utf-8")


def score_table(key: Mapping[str, str], sheets: Mapping[str, Mapping[str, str]]) -> str:
    """A Markdown table with one row per reader, and with several readers one row for the majority."""
    rows = dict(sheets) | ({"most of them": majority(list(sheets.values()))} if len(sheets) > 1 else {})
    lines = ["| reader | summary preferred | longest turns | neither | share (95 %) |", "|---|---|---|---|---|"]
    for name, verdicts in rows.items():
        found = preference(key, verdicts)
        share = f"{found.share:.2f} ({found.low:.2f} to {found.high:.2f})"
        lines.append(f"| {name} | {found.preferred} | {found.other} | {found.neither} | {share} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    laying = steps.add_parser("lay")
    laying.add_argument("--out", type=Path, required=True, metavar="DIR")
    laying.add_argument("--pairs", type=int, default=40)
    laying.add_argument("--seed", type=int, default=1)
    scoring = steps.add_parser("score")
    scoring.add_argument("sheets", type=Path, nargs="+", metavar="SHEET")
    for step in (laying, scoring):
        step.add_argument("--key", type=Path, required=True, metavar="FILE", help="which side is ours: not for readers")
    options = parser.parse_args()
    if options.step == "lay":
        write_sheets(options.out, options.key, options.pairs, options.seed)
    else:
        key = json.loads(options.key.read_text(encoding="utf-8"))
        print(score_table(key, {sheet.stem: read_sheet(sheet) for sheet in options.sheets}))


if __name__ == "__main__":
    main()
