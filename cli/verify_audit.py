"""`./writecare verify-audit [--tenant T]`: checks that the audit log of every tenant is unchanged.

Uses the running instance's PostgreSQL; if none runs, it starts the embedded one for the check.
"""

import asyncio
import sys
from collections.abc import Sequence

from cli.options import command_parser, parse_options, settings_for
from cli.token import role_urls
from comms.governance.audit.anchors import AnchorKey, AnchorStore
from comms.governance.audit.verification import Verification, verify_chains
from comms.kernel.settings import Settings
from comms.kernel.storage.object_store import Objects
from instance.run_file import read_instance_info
from models.contract.errors import conflict


def main(argv: Sequence[str]) -> int:
    """Prints one line per tenant. Exit code 0 if all chains are intact, else 1; the last line names the first fault."""
    parser = command_parser("verify-audit", "Verify the audit log: its chain, its seals, its anchors.")
    parser.add_argument("--tenant", metavar="T", help="one tenant's slug; without it, all tenants")
    options = parse_options(parser, argv)
    if isinstance(options, int):
        return options
    settings = settings_for(options)
    sealer_runs = read_instance_info(settings.data_dir) is not None
    with role_urls(settings) as databases:
        broken = asyncio.run(_verify(settings, databases.sealer, options.tenant, sealer_runs))
    if broken:
        raise conflict("audit-broken", broken[0])
    return 0


async def _verify(settings: Settings, url: str, tenant: str | None, sealer_runs: bool) -> list[str]:
    """Prints the result of each tenant and returns the faults."""
    anchor_store = AnchorStore(Objects.open(settings), AnchorKey.open(settings.data_dir / "keys"))
    broken = []
    async for slug, found in verify_chains(url, anchor_store, tenant):
        wrong = _fault_sentence(found, sealer_runs)
        print(f"{slug}\t{'whole' if wrong is None else 'broken'}\tsealed {found.sealed}\tanchored {found.anchored}"
              f"\twaiting {found.waiting}\tunanchored {found.unanchored}", flush=True)  # fmt: skip
        if found.unanchored > 0:
            print(f"{slug}: the last {found.unanchored} entries are not anchored yet: if they were cut off the end of "
                  "the log, this verification would not show it.", file=sys.stderr)  # fmt: skip
        if wrong is not None:
            broken.append(f"The audit log of tenant {slug} is broken: {wrong}.")
    return broken


def _fault_sentence(found: Verification, sealer_runs: bool) -> str | None:
    """The fault, if any. If no instance runs, entries may be unsealed: the next start seals them."""
    if found.fault is not None:
        return found.fault.sentence()
    if found.overdue and sealer_runs:
        return f"overdue: {found.waiting} entries wait to be sealed since {found.waiting_since}: check the sealer."
    return None
