"""Makes one attempt of a delivery: posts the signed event envelope to the checked address and returns the outcome."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from comms.delivery.webhooks.destinations import Network, Resolver, destination
from comms.delivery.webhooks.signatures import signed_headers
from comms.outbox.envelope import SentEvent, envelope
from models.contract.errors import WriteCareError

_GONE: Final = 410  # Standard Webhooks: the receiver asks for no more events


@dataclass(frozen=True)
class DeliveryOutcome:
    """`status` if there was a response, else `failure`, a code. Response bodies are never read."""

    status: int | None = None
    failure: str | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver accepted it (any 2xx). A redirect is not followed and counts as a failure."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """Whether the receiver asked for no more events."""
        return self.status == _GONE


class WebhookClient:
    """Sends events over HTTP; one for each process."""

    def __init__(self, resolver: Resolver, networks: Sequence[Network], timeout_seconds: float) -> None:
        self._resolver = resolver
        self._networks = networks
        self._timeout_seconds = timeout_seconds

    async def send(self, url: str, event: SentEvent, keys: Sequence[bytes]) -> DeliveryOutcome:
        """Makes one attempt, which ends within the time-out however slowly the receiver responds."""
        body = envelope(event).model_dump_json().encode()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._post(url, event, body, keys)
        except TimeoutError:
            return DeliveryOutcome(failure="timed-out")
        except WriteCareError as error:
            return DeliveryOutcome(failure=error.slug)
        except httpx.HTTPError as error:
            return DeliveryOutcome(failure="no-answer" if isinstance(error, httpx.TransportError) else "answer-invalid")
        except (OSError, UnicodeError, httpx.InvalidURL):
            return DeliveryOutcome(failure="name-unknown")

    async def _post(self, url: str, event: SentEvent, body: bytes, keys: Sequence[bytes]) -> DeliveryOutcome:
        to = await destination(url, self._resolver, self._networks)
        headers = {
            "host": to.host, "content-type": "application/cloudevents+json", "user-agent": "WriteCareConnect",
            **signed_headers(event.id, int(time.time()), body, keys),
        }  # fmt: skip
        # A new client, and so a new connection, for each attempt: a connection that was opened for another host name at
        # the same address must not be reused.
        async with (
            httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=self._timeout_seconds) as client,
            client.stream(
                "POST", to.url, content=body, headers=headers, extensions={"sni_hostname": to.server_name}
            ) as answer,
        ):
            return DeliveryOutcome(status=answer.status_code)
