"""`./writecare enrol --tenant T --user U --role R`: a one-time code with which the person sets their password.

It is for the first users of a tenant, and for a tenant in which nobody is left who could approve a request. The audit
log records it, and the person and the data-protection officer can see the entry.
"""

import asyncio
from collections.abc import Sequence

from cli.options import command_parser, parse_options, settings_for
from cli.token import role_urls
from comms.identity.accounts.operator_enrolment import enrol
from comms.kernel.access.roles import ROLES
from comms.kernel.database import Database


def main(argv: Sequence[str]) -> int:
    """Creates the tenant and the user if they are missing, and prints only the code."""
    parser = command_parser("enrol", "Print a one-time code with which a person sets their password.")
    parser.add_argument("--tenant", required=True, metavar="T", help="the tenant's slug; created if missing")
    parser.add_argument("--user", required=True, metavar="U", help="the person's slug; created if missing")
    roles = [role for role in ROLES if role != "service"]
    parser.add_argument("--role", required=True, choices=roles, metavar="R", help="the role of a newly created user")
    options = parse_options(parser, argv)
    if isinstance(options, int):
        return options
    with role_urls(settings_for(options)) as databases:
        print(asyncio.run(make_enrolment_code(databases.app, options.tenant, options.user, options.role)))
    return 0


async def make_enrolment_code(app_url: str, tenant: str, user: str, role: str) -> str:
    """The code for that user. Raises as `enrol`."""
    database = Database(app_url, most=1)
    await database.open()
    try:
        return str(await enrol(database, tenant, user, role))
    finally:
        await database.close()
