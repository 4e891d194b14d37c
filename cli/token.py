"""`./writecare token --tenant T --user U --role R`: prints only a signed token for scripts.

Uses the running instance's PostgreSQL; if none runs, it starts the embedded one for this command.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from cli.options import command_parser, parse_options, settings_for
from comms.identity.bootstrap import ensure_tenant, ensure_user
from comms.kernel.access.roles import ROLES
from comms.kernel.access.tokens import Issuer
from comms.kernel.database import Database
from comms.kernel.settings import Settings
from instance.embedded_postgres import EmbeddedPostgres
from instance.provisioning import Databases, connections, provision
from instance.run_file import administrator_url, lock_data_dir, read_instance_info

_LOCK_TIMEOUT_SECONDS: Final = 60.0  # another `token` command may run PostgreSQL for a short time


def main(argv: Sequence[str]) -> int:
    """Creates the tenant and the user if they are missing, and prints the token."""
    parser = command_parser("token", "Print a signed token of the built-in issuer.")
    parser.add_argument("--tenant", required=True, metavar="T", help="the tenant's slug; created if missing")
    parser.add_argument("--user", required=True, metavar="U", help="the person's slug; created if missing")
    parser.add_argument("--role", required=True, choices=ROLES, metavar="R", help="the role in the token")
    options = parse_options(parser, argv)
    if isinstance(options, int):
        return options
    settings = settings_for(options)
    with role_urls(settings) as databases:
        token = asyncio.run(make_token(settings, databases.app, options.tenant, options.user, options.role))
    print(token)
    return 0


async def make_token(settings: Settings, app_url: str, tenant: str, user: str, role: str) -> str:
    """A token for that user. Creates tenant and user if missing. Raises `invalid` for a bad slug or role."""
    database = Database(app_url, most=1)
    await database.open()
    try:
        actor = await ensure_user(database, await ensure_tenant(database, tenant), user, role)
    finally:
        await database.close()
    return Issuer.open(settings.data_dir / "keys", settings.issuer).sign(actor, settings.token_lifetime_seconds)


@contextmanager
def role_urls(settings: Settings) -> Iterator[Databases]:
    """The connection string of each role. PostgreSQL runs until the block ends."""
    keys_dir = settings.data_dir / "keys"
    running = read_instance_info(settings.data_dir)
    if running is not None:
        yield connections(administrator_url(settings, running), keys_dir)
    elif settings.database_url is not None:
        yield provision(settings.database_url.get_secret_value(), keys_dir, operator_tenant=settings.operator_tenant)
    else:
        with lock_data_dir(settings.data_dir, timeout_seconds=_LOCK_TIMEOUT_SECONDS):
            server = EmbeddedPostgres(settings.data_dir)
            server.start()
            try:
                yield provision(
                    server.url(), keys_dir, operator_tenant=settings.operator_tenant,
                    maintenance_url=server.url("postgres"),
                )  # fmt: skip
            finally:
                server.stop()
