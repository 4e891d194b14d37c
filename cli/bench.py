"""`./writecare bench [NAME]`: runs a benchmark of `benchmarks/`, or all of them."""

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cli.options import command_parser, parse_options

_BENCHMARKS: Final = Path(__file__).resolve().parents[1] / "benchmarks"


def main(argv: Sequence[str]) -> int:
    """Exit code 0 when all benchmarks have run, 2 for an unknown name."""
    known = sorted(file.stem for file in _BENCHMARKS.glob("*.py") if '__name__ == "__main__"' in file.read_text())
    parser = command_parser("bench", f"Run benchmarks: {', '.join(known)}.")
    parser.add_argument(
        "name", nargs="?", choices=known, metavar="NAME", help="one benchmark; without a name, all of them"
    )
    options = parse_options(parser, argv)
    if isinstance(options, int):
        return options
    for name in [options.name] if options.name else known:
        print(f"{name}:", file=sys.stderr)
        try:
            runpy.run_module(f"benchmarks.{name}", run_name="__main__")
        except SystemExit as end:
            if end.code:
                return 1
    return 0
