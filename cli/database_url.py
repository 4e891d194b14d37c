"""`./writecare database-url`: prints only the administrator's connection string of the running system."""

from collections.abc import Sequence

from cli.options import command_parser, parse_options, settings_for
from instance.run_file import administrator_url, read_instance_info
from models.contract.errors import unavailable


def main(argv: Sequence[str]) -> int:
    """Prints it. Fails if no instance runs in the data folder. It bypasses row-level security: for operators only."""
    options = parse_options(command_parser("database-url", "Print the administrator's connection string."), argv)
    if isinstance(options, int):
        return options
    settings = settings_for(options)
    running = read_instance_info(settings.data_dir)
    if running is None:
        raise unavailable("not-running", f"No instance runs in {settings.data_dir}: start it with ./writecare up.")
    print(administrator_url(settings, running))
    return 0
