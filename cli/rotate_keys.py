"""`./writecare rotate-keys`: adds a master key to the data folder. New data is encrypted with it."""

import sys
from collections.abc import Sequence

from cli.options import command_parser, parse_options, settings_for
from comms.kernel.storage.key_service import LocalKeyFile


def main(argv: Sequence[str]) -> int:
    """Prints the new key's id. A running instance uses it for the next object; older keys still decrypt their data."""
    parser = command_parser("rotate-keys", "Add a master key that encrypts new recordings, attachments and secrets.")
    options = parse_options(parser, argv)
    if isinstance(options, int):
        return options
    print(LocalKeyFile.open(settings_for(options).data_dir / "keys").rotate())
    print("The file of master keys has changed: back it up (keys/master.json).", file=sys.stderr)
    return 0
