"""The sender: takes sent events to other systems, signed webhooks and, where the settings name one, Redis streams.

    python -m comms.sender

A process of its own, so that no receiver, however slow, holds up the relay or the API. Its role sees sent events,
webhooks and their secrets, and no care data.
"""

import asyncio
import signal
import sys

import structlog

from comms.database import Database
from comms.events.streams import fill_streams
from comms.logs import write_json_logs
from comms.settings import Settings
from comms.storage.keys import LocalKeyFile
from comms.webhooks.addresses import SystemResolver
from comms.webhooks.post import Post
from comms.webhooks.sender import Patience, Sender

_TIMEOUT_SECONDS = 15.0  # a receiver that takes longer should answer first and work then
_log = structlog.get_logger(__name__)


async def run(settings: Settings, url: str) -> None:
    """The process: until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    post = Post(SystemResolver(), settings.webhook_networks, _TIMEOUT_SECONDS)
    keys = LocalKeyFile.open(settings.data_dir / "keys")
    database = Database(url)
    await database.open()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(Sender(database, keys, post, Patience(settings.webhook_attempts)).run(url, stopping))
            if settings.streams_redis_url is not None:
                redis_url = settings.streams_redis_url.get_secret_value()
                tasks.create_task(fill_streams(url, redis_url, settings.streams_length, stopping))
    finally:
        await database.close()


def main() -> int:
    """Exit 0 when told to stop, 2 where it was not told which database."""
    write_json_logs()
    settings = Settings()
    if settings.role_database_url is None:
        _log.error("WRITECARE_ROLE_DATABASE_URL is not set: where to log in is unknown")
        return 2
    asyncio.run(run(settings, settings.role_database_url.get_secret_value()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
