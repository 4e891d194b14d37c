"""`./writecare database PROGRAM …`: runs one of PostgreSQL's own programs beside the database, for backup and restore.

The program finds the administrator's way in by its environment (`PGHOST`, `PGUSER` …). Where nothing runs in the data
folder, the embedded PostgreSQL is up for as long as the program runs, with roles and databases but no tables of its
own: what `docs/howto/backup-and-restore.md` restores into.
"""

import argparse
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from cli.options import command_parser, parse_options, settings_for
from comms.kernel.settings import Settings
from instance.embedded_postgres import EmbeddedPostgres, programs
from instance.provisioning import libpq_environment, prepare
from instance.run_file import administrator_url, lock_data_dir, read_instance_info


def main(argv: Sequence[str]) -> int:
    """Runs the program; the exit code is its own, 2 where none is named."""
    parser = command_parser("database", "Run psql, pg_dump, pg_restore … beside the database.")
    parser.add_argument("program", metavar="PROGRAM", help="one of PostgreSQL's programs, or any that uses libpq")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help="its own options, as they are")
    options = parse_options(parser, argv)
    if isinstance(options, int):
        return options
    with administrator_connection(settings_for(options)) as url:
        path = f"{programs()}{os.pathsep}{os.environ.get('PATH', '')}"
        return subprocess.run(
            [options.program, *options.arguments],
            env=os.environ | libpq_environment(url) | {"PATH": path}, check=False,
        ).returncode  # fmt: skip


@contextmanager
def administrator_connection(settings: Settings) -> Iterator[str]:
    """The administrator's connection string, PostgreSQL running until the block ends."""
    keys_dir = settings.data_dir / "keys"
    running = read_instance_info(settings.data_dir)
    if running is not None:
        yield administrator_url(settings, running)
    elif settings.database_url is not None:
        yield prepare(settings.database_url.get_secret_value(), keys_dir).administrator
    else:
        with lock_data_dir(settings.data_dir):
            server = EmbeddedPostgres(settings.data_dir)
            server.start()
            try:
                yield prepare(server.url(), keys_dir, maintenance_url=server.url("postgres")).administrator
            finally:
                server.stop()
