"""`./writecare evaluate`: a report on the models, or a comparison of two versions.

    ./writecare evaluate                                  the version that ships, on held-out conversations
    ./writecare evaluate --probe --calls DIR              with swaps and evidence, and with speech
    ./writecare evaluate --model A [--against B] [--on DIR]    versions on disk, on labelled conversations

Needs no training: the held-out answers are stored beside this file. Writes report.md, report.json and drawings into a
new folder, stores everything as an MLflow run, and prints the figures. Progress goes to standard error.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from models.contract.errors import WriteCareError
from models.registry.champions import SHIPPED
from training.report.steps import ProgressSteps

_NO_STORE: Final = "none"


def _summary(figures: dict[str, Any]) -> str:
    """The printed text: an overview of the figures, one per line."""
    lines = {name: row for name, row in figures["outside"]["plain_lines"].items() if isinstance(row, dict)}
    talk = {f"{row['set']}_turns_flagged": row["turns_flagged"] for row in figures["outside"]["real_talk"]}
    unseen = {
        f"unseen styles, {name}": row
        for name, row in (figures["outside"]["left_out"] or [{}])[0].items()
        if isinstance(row, dict)
    }
    rows = {**lines, **talk, **unseen, **figures["safeguarding"], **figures["others"]}
    return "\n".join(
        f"{name.replace('_', ' '):48} {row['value']:.3f}  ({row['low']:.3f} to {row['high']:.3f})"
        for name, row in rows.items()
        if row["value"] is not None and row["low"] is not None
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./writecare evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, default=Path("var"), metavar="DIR", help="the data folder")
    add("--out", type=Path, metavar="DIR", help="the output folder (default: <data>/reports/<UTC time>-<version>)")
    add("--shipped", type=Path, default=SHIPPED, metavar="DIR", help="the version whose held-out answers these are")
    add("--model", metavar="A", help="run a version, or a folder laid out as models/shipped")
    add("--against", metavar="B", help="compare with this version on the same conversations")
    add("--on", type=Path, metavar="DIR", help="labelled conversations in the corpus's format (default: held out)")
    add("--probe", action="store_true", help="also swap names, gender and descriptions, and delete evidence (minutes)")
    add("--public", type=Path, metavar="DIR", help="also count false alarms in the public sets' real talk (minutes)")
    add("--calls", type=Path, metavar="DIR", help="also measure speech on these calls (slow)")
    add("--mlflow", metavar="URI", help="store of the run (default: the running system or <data>/mlflow), or none")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 when the report is written, 1 with one line if it cannot be written, 2 for wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    options = parser.parse_args(words)
    if options.against and not options.model:
        parser.error("--against needs --model")
    command = " ".join(["./writecare evaluate", *_measured_arguments(words)])
    try:
        with ProgressSteps() as steps:
            with steps.step("starting"):  # what follows takes seconds to import
                from training.report import builder, page, tracking  # noqa: PLC0415
            store = options.mlflow or tracking.default_store(options.data)
            if store != _NO_STORE:
                tracking.require_local_store(store)
            figures, directory = (builder.compare if options.against else builder.evaluate)(options, command, steps)
            if store != _NO_STORE:
                with steps.step("storing the MLflow run"):
                    tracking.log_run(store, options.data, directory.name, figures, directory)
        print(page.comparison_table(figures) if options.against else _summary(figures))
        print(f"\n{directory / 'report.md'}")
    except (WriteCareError, ValueError, RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _measured_arguments(words: Sequence[str]) -> list[str]:
    """The arguments that decide what is measured, without the data folder and other paths."""
    kept, skip = [], False
    for word in words:
        if skip or word in ("--data", "--out", "--mlflow"):
            skip = not skip
        elif not word.startswith(("--data=", "--out=", "--mlflow=")):
            kept.append(word)
    return kept


if __name__ == "__main__":
    raise SystemExit(main())
