"""`./writecare up [--port P] [--demo]`: runs the whole system until Ctrl-C or SIGTERM."""

import asyncio
import signal
import threading
from collections.abc import Sequence
from types import FrameType

from rich.console import Console

from cli.options import command_parser, parse_options, port_number, settings_for
from instance.launcher import Instance, running_instance


class StoppedWhileStarting(Exception):
    """A stop signal arrived while the system was still starting."""


def main(argv: Sequence[str]) -> int:
    """Runs until a stop signal. Exit code 0 after a clean stop."""
    parser = command_parser("up", "Start the whole system and keep it running.")
    parser.add_argument("--port", type=port_number, metavar="P", help="the port to listen on (default 8080)")
    parser.add_argument("--demo", action="store_true", help="process the bundled sample call")
    options = parse_options(parser, argv)
    if isinstance(options, int):
        return options
    stopping = threading.Event()
    ready = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        first = not stopping.is_set()
        stopping.set()
        if first and not ready.is_set():
            raise StoppedWhileStarting  # nothing waits for the event yet

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with running_instance(settings_for(options, port=options.port), lambda step: console.print(f"  {step}")) as up:
            ready.set()
            _print_addresses(console, up)
            if options.demo:
                _process_sample(up, console)
            up.wait(stopping)
            console.print("Ending …")
    except StoppedWhileStarting:
        pass
    console.print("Ended.")
    return 0


def _print_addresses(console: Console, instance: Instance) -> None:
    peak = instance.peak_memory_bytes() / 2**30
    data = instance.settings.data_dir
    console.print(f"Ready in {instance.ready_seconds:.1f} s, {peak:.1f} GB at most so far. Ctrl-C ends it.")
    console.print(f"  address   {instance.address}  (API described at {instance.address}/docs)")
    console.print(f"  models    {instance.serve_url}/api/ai/*")
    console.print(f"  sign in   ./writecare token --tenant home --user lead --role safeguarding_lead --data {data}")
    console.print("            and send it as: Authorization: Bearer <token>")
    console.print(f"  browser   ./writecare enrol --tenant home --user lead --role safeguarding_lead --data {data}")
    console.print(f"            prints a code for {instance.address}/set-password; then {instance.address}/sign-in")


def _process_sample(instance: Instance, console: Console) -> None:
    """Processes the bundled call in the running system, so that there is an alert to look at."""
    from cli import api_walkthrough, demo  # noqa: PLC0415 - only needed here
    from cli.call_report import print_call  # noqa: PLC0415

    async def walked() -> None:
        tokens = await demo.make_tokens(instance.settings, instance.databases.app)
        call = api_walkthrough.CallSource.of(str(demo.SAMPLE))
        print_call(
            console, await api_walkthrough.walk(instance.address, tokens, call, lambda step: console.print(f"  {step}"))
        )

    asyncio.run(walked())
