"""`./writecare demo`: processes the bundled call, or your own, from an empty data folder to an alert.

Starts the whole system, sends each recording through its public API (`cli/api_walkthrough.py`), prints the results and
stops everything that it started. The data stays in the data folder, in the tenant `demo`.
"""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from cli.api_walkthrough import TENANT, CallSource, Tokens, walk
from cli.call_report import ProcessedCall, print_call
from comms.identity.bootstrap import ensure_tenant, ensure_user
from comms.kernel.access.tokens import Issuer
from comms.kernel.database import Database
from comms.kernel.settings import Settings
from instance.launcher import Instance, free_port, running_instance
from models.contract.errors import WriteCareError

SAMPLE: Final = Path(__file__).resolve().parents[1] / "samples" / "tr-a-0053.flac"
_TOKEN_SECONDS: Final = 12 * 3600.0


def main(argv: Sequence[str]) -> int:
    """Exit code 0 if every recording was processed, 1 if one was not, 2 for wrong usage."""
    try:
        options = _parser().parse_args(argv)
    except SystemExit as end:
        return 0 if not end.code else 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all started processes are stopped, as after Ctrl-C
    progress = Console(stderr=True, highlight=False)
    sources = options.audio or [str(SAMPLE)]
    if missing := [source for source in sources if not _exists(source)]:
        print(f"There is no such file: {missing[0]}", file=sys.stderr)
        return 2
    settings = Settings(port=free_port(), **({"data_dir": options.data} if options.data else {}))
    with (
        progress.status("starting PostgreSQL, models, API, relay and worker …") as status,
        running_instance(settings, lambda step: progress.print(f"  {step}")) as instance,
    ):
        processed, failures = asyncio.run(_process_all(instance, sources, status.update))
        status.stop()
        out = Console(soft_wrap=False)
        for call in processed:
            print_call(out, call)
        system = {"ready_seconds": instance.ready_seconds, "peak_memory_bytes": instance.peak_memory_bytes()}
    out.print(
        f"\nReady after {system['ready_seconds']:.1f} s; peak memory of the whole system "
        f"{system['peak_memory_bytes'] / 1024**3:.2f} GiB. Nothing is left running."
    )
    if options.json is not None:
        options.json.write_text(json.dumps(_document(processed, system), ensure_ascii=False, indent=2) + "\n")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


async def _process_all(
    instance: Instance, sources: Sequence[str], tell: Callable[[str], None]
) -> tuple[list[ProcessedCall], list[str]]:
    tokens = await make_tokens(instance.settings, instance.databases.app)
    processed, failures = [], []
    for source in sources:
        tell(f"{source} …")
        try:
            processed.append(await walk(instance.address, tokens, CallSource.of(source), tell))
        except (WriteCareError, OSError) as error:
            failures.append(f"{source}: {error}")
    return processed, failures


async def make_tokens(settings: Settings, app_database_url: str) -> Tokens:
    """Creates the demo's tenant, manager and safeguarding lead if they are missing. Returns a token for each user."""
    database = Database(app_database_url, most=2)
    await database.open()
    try:
        tenant_id = await ensure_tenant(database, TENANT)
        manager = await ensure_user(database, tenant_id, "manager", "care_manager")
        lead = await ensure_user(database, tenant_id, "lead", "safeguarding_lead")
    finally:
        await database.close()
    issuer = Issuer.open(settings.data_dir / "keys", settings.issuer)
    return Tokens(manager=issuer.sign(manager, _TOKEN_SECONDS), lead=issuer.sign(lead, _TOKEN_SECONDS))


def _exists(source: str) -> bool:
    return Path(source).exists() or all(Path(part).exists() for part in source.split("+"))


def _document(processed: Sequence[ProcessedCall], system: dict[str, Any]) -> Any:
    """One call as an object, several as a list of objects."""
    calls = [{**call.as_json(), "system": system} for call in processed]
    return calls[0] if len(calls) == 1 else calls


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="writecare demo", description="The main job: a recording in, an alert out.")
    parser.add_argument("audio", nargs="*", metavar="AUDIO", help="your own recordings; tracks of one as a.flac+b.flac")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to this file, as JSON")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the data folder (default var/)")
    return parser
