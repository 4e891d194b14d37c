"""Runs the processes beside the API: settings from the environment, JSON logs, stop on SIGTERM and SIGINT."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import structlog

from comms.kernel.json_logging import write_json_logs
from comms.kernel.settings import Settings

_log = structlog.get_logger(__name__)

Work = Callable[[Settings, str, asyncio.Event], Awaitable[None]]


def run_until_signalled(work: Work) -> int:
    """Runs `work(settings, database url, stopping)`; SIGTERM or SIGINT sets the event.

    Exit code 0 after a stop, 2 if the settings name no database.
    """
    write_json_logs()
    settings = Settings()
    if settings.role_database_url is None:
        _log.error("WRITECARE_ROLE_DATABASE_URL is not set: set it to the connection string of this process")
        return 2
    asyncio.run(_run_with_signals(work, settings, settings.role_database_url.get_secret_value()))
    return 0


async def _run_with_signals(work: Work, settings: Settings, url: str) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await work(settings, url, stopping)
