"""How many requests a person, and a whole tenant, may make in a minute; and what every answer says of it.

Counted when a token has been checked (comms/http.py), so that nobody can use up another's; `/health`, and whoever holds
the operations token, are not counted. Headers as draft-ietf-httpapi-ratelimit-headers has them.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from comms.database import Actor
from comms.limits.tally import Tally, open_tally
from comms.settings import Settings
from models.errors import WriteCareError, unavailable

WINDOW_SECONDS: Final = 60
SLUG: Final = "too-many-requests"


@dataclass(frozen=True)
class RequestLimits:
    """One a process: the tally and the two quotas, requests a minute."""

    tally: Tally
    a_user: int
    a_tenant: int

    async def count(self, actor: Actor) -> tuple[dict[str, str], WriteCareError | None]:
        """Counts a request of the actor: headers for its answer, and what to raise where a quota is used up."""
        names = (f"u:{actor.tenant_id}:{actor.user_id}", f"t:{actor.tenant_id}")
        window, passed = divmod(int(time.time()), WINDOW_SECONDS)
        by_user, by_tenant = await self.tally.add(window, names)
        seconds = WINDOW_SECONDS - passed
        headers = {
            "RateLimit-Policy": f'"user";q={self.a_user};w={WINDOW_SECONDS}, '
            f'"tenant";q={self.a_tenant};w={WINDOW_SECONDS}',
            "RateLimit": f'"user";r={max(0, self.a_user - by_user)};t={seconds}, '
            f'"tenant";r={max(0, self.a_tenant - by_tenant)};t={seconds}',
        }
        if by_user <= self.a_user and by_tenant <= self.a_tenant:
            return headers, None
        whose, quota = ("You", self.a_user) if by_user > self.a_user else ("Your organisation", self.a_tenant)
        detail = f"{whose} may ask {quota} times a minute: go on in {seconds} seconds."
        return headers | {"Retry-After": str(seconds)}, unavailable(SLUG, detail)


@asynccontextmanager
async def open_limits(settings: Settings) -> AsyncIterator[RequestLimits]:
    """The limits that the settings name, until the block ends; Redis is reached for at the first count."""
    url = settings.limits_redis_url
    async with open_tally(url.get_secret_value() if url is not None else None) as tally:
        yield RequestLimits(tally, settings.requests_a_minute_user, settings.requests_a_minute_tenant)
