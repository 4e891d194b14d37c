"""The sender: takes sent events to other systems, signed webhooks and, where the settings name one, Redis streams.

    python -m comms.delivery.sender

A process of its own, so that no receiver, however slow, holds up the relay or the API. Its role sees sent events,
webhooks and their secrets, and no care data.
"""

import asyncio
import sys

from comms.delivery.redis_streams import fill_streams
from comms.delivery.webhooks.destinations import SystemResolver
from comms.delivery.webhooks.dispatcher import RetryPolicy, WebhookSender
from comms.delivery.webhooks.transport import WebhookClient
from comms.kernel.database import Database
from comms.kernel.processes.runner import run_until_signalled
from comms.kernel.settings import Settings
from comms.kernel.storage.key_service import LocalKeyFile

_TIMEOUT_SECONDS = 15.0  # a receiver that takes longer should answer first and work then


async def run(settings: Settings, url: str, stopping: asyncio.Event) -> None:
    """The process's work."""
    client = WebhookClient(SystemResolver(), settings.webhook_networks, _TIMEOUT_SECONDS)
    keys = LocalKeyFile.open(settings.data_dir / "keys")
    database = Database(url)
    await database.open()
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                WebhookSender(database, keys, client, RetryPolicy(settings.webhook_attempts)).run(url, stopping)
            )
            if settings.streams_redis_url is not None:
                redis_url = settings.streams_redis_url.get_secret_value()
                tasks.create_task(fill_streams(url, redis_url, settings.streams_length, stopping))
    finally:
        await database.close()


if __name__ == "__main__":
    sys.exit(run_until_signalled(run))
