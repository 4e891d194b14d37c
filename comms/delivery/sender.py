"""The sender process: delivers sent events to webhooks and, if the settings name a Redis server, to Redis streams.

    python -m comms.delivery.sender

It is a separate process, so that a slow receiver does not delay the relay or the API. Its database role can read sent
events, webhooks and their secrets, but no care data.
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

_TIMEOUT_SECONDS = 15.0  # a receiver that needs longer should respond first and do its work afterwards


async def run(settings: Settings, url: str, stopping: asyncio.Event) -> None:
    """Runs the sender until `stopping` is set."""
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
