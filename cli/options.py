"""Options that all commands share: `--data`, and exit code 2 for wrong usage."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comms.kernel.settings import Settings


def command_parser(name: str, description: str) -> argparse.ArgumentParser:
    """A parser with the option `--data`."""
    parser = argparse.ArgumentParser(prog=f"writecare {name}", description=description)
    parser.add_argument("--data", type=Path, metavar="DIR", help="the folder that holds all state (default var/)")
    return parser


def parse_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace | int:
    """The options, or an exit code: 0 after `--help`, 2 after wrong usage."""
    try:
        return parser.parse_args(argv)
    except SystemExit as end:
        return 0 if not end.code else 2


def settings_for(options: argparse.Namespace, **overriding: Any) -> Settings:
    """The settings of the environment; `overriding` replaces values from the command line."""
    overrides = {name: value for name, value in {"data_dir": options.data, **overriding}.items() if value is not None}
    settings = Settings()
    return settings.model_copy(
        update={**overrides, "data_dir": Path(overrides.get("data_dir", settings.data_dir)).resolve()}
    )


def port_number(text: str) -> int:
    """Parses a TCP port. Anything else is wrong usage."""
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError("must be from 1 to 65535")
    return number
