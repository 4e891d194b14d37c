"""Limits the requests per minute of a person, of a whole tenant, and of an address without a token.

A person's request is counted after the token is checked (comms/web/dependencies.py), so that nobody can use up the
quota of another. Every answer says what is left (headers as in draft-ietf-httpapi-ratelimit-headers). Routes that take
no token count the address before they do any work. `/health`, and requests with the operations token, are not counted.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from comms.kernel.database import Actor
from comms.kernel.settings import Settings
from comms.web.rate_limits.client_addresses import network_of
from comms.web.rate_limits.counters import RequestCounter, open_request_counter
from models.contract.errors import Kind, WriteCareError, unavailable

WINDOW_SECONDS: Final = 60
SLUG: Final = "too-many-requests"


@dataclass(frozen=True)
class RequestLimits:
    """One per process: the counter, and the quotas in requests per minute."""

    counter: RequestCounter
    per_user: int
    per_tenant: int
    per_address: int

    async def count(self, actor: Actor) -> tuple[dict[str, str], WriteCareError | None]:
        """Counts a request of the actor. Returns headers for the answer, and the error if a quota is used up."""
        names = (f"u:{actor.tenant_id}:{actor.user_id}", f"t:{actor.tenant_id}")
        window, passed = divmod(int(time.time()), WINDOW_SECONDS)
        by_user, by_tenant = await self.counter.add(window, names)
        seconds = WINDOW_SECONDS - passed
        headers = {
            "RateLimit-Policy": f'"user";q={self.per_user};w={WINDOW_SECONDS}, '
            f'"tenant";q={self.per_tenant};w={WINDOW_SECONDS}',
            "RateLimit": f'"user";r={max(0, self.per_user - by_user)};t={seconds}, '
            f'"tenant";r={max(0, self.per_tenant - by_tenant)};t={seconds}',
        }
        if by_user <= self.per_user and by_tenant <= self.per_tenant:
            return headers, None
        whose, quota = ("You", self.per_user) if by_user > self.per_user else ("Your organisation", self.per_tenant)
        detail = f"{whose} may send {quota} requests per minute: try again in {seconds} seconds."
        return headers | {"Retry-After": str(seconds)}, unavailable(SLUG, detail)

    async def count_anonymous(self, address: str | None) -> None:
        """Counts a request without a token; raises 429 (`too-many-requests`) if its address has sent too many."""
        window, passed = divmod(int(time.time()), WINDOW_SECONDS)
        (count,) = await self.counter.add(window, (f"a:{network_of(address)}",))
        if count > self.per_address:
            seconds = WINDOW_SECONDS - passed
            detail = (
                f"One address may send {self.per_address} requests per minute without a token: "
                f"try again in {seconds} seconds."
            )
            raise WriteCareError(Kind.UNAVAILABLE, SLUG, detail, seconds)


@asynccontextmanager
async def open_limits(settings: Settings) -> AsyncIterator[RequestLimits]:
    """Opens the limits of the settings until the block ends; connects to Redis at the first count."""
    url = settings.limits_redis_url
    async with open_request_counter(url.get_secret_value() if url is not None else None) as counter:
        yield RequestLimits(
            counter, settings.requests_a_minute_user, settings.requests_a_minute_tenant,
            settings.requests_a_minute_address,
        )  # fmt: skip
