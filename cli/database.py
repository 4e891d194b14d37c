"""`./writecare database PROGRAM …`: runs a PostgreSQL program on the database, for backup and restore.

The program gets the administrator's connection in its environment (`PGHOST`, `PGUSER` …). If no instance runs in the
data folder, the embedded PostgreSQL runs as long as the program does, with roles and databases but without tables, so
that `docs/howto/backup-and-restore.md` can restore into it.
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
    """Runs the program and returns its exit code, or 2 if no program is named."""
    parser = command_parser("database", "Run psql, pg_dump, pg_restore … on the database.")
    parser.add_argument("program", metavar="PROGRAM", help="one of PostgreSQL's programs, or any that uses libpq")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="…", help="its own options, passed on unchanged")
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
    """The administrator's connection string. PostgreSQL runs until the block ends."""
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
