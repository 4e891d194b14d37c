"""Counts requests: in this process, or in Redis if several processes must count together.

Windows are fixed and begin at the same time for all clients, so a count needs no separate clock: in memory it is one
addition, in Redis one round trip for all counts of a request.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

_KEPT_SECONDS: Final = 120  # longer than any window
_PATIENCE_SECONDS: Final = 0.25
_PREFIX: Final = "writecare:requests"

_log = structlog.get_logger(__name__)


class RequestCounter(Protocol):
    """Counts requests per window."""

    async def add(self, window: int, names: Sequence[str]) -> list[int]:
        """Adds one to each count of the window (given by its number) and returns the counts."""


class MemoryRequestCounter:
    """Counts only in this process; when a window ends, all its counts are deleted."""

    def __init__(self) -> None:
        self._window = 0
        self._counts: Counter[str] = Counter()

    async def add(self, window: int, names: Sequence[str]) -> list[int]:
        if window != self._window:
            self._window, self._counts = window, Counter()
        for name in names:
            self._counts[name] += 1
        return [self._counts[name] for name in names]


class RedisRequestCounter:
    """Counts of all processes together. While Redis does not answer, this process counts only its own requests."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._alone = MemoryRequestCounter()

    async def add(self, window: int, names: Sequence[str]) -> list[int]:
        keys = [f"{_PREFIX}:{window}:{name}" for name in names]
        try:
            async with self._redis.pipeline(transaction=False) as line:
                for key in keys:
                    line.incr(key)
                    line.expire(key, _KEPT_SECONDS)
                return [int(count) for count in (await line.execute())[::2]]
        except (RedisError, OSError) as error:
            # the limit protects the service, so its failure must not stop the service
            _log.warning("requests are counted without Redis", error=type(error).__name__)
            return await self._alone.add(window, names)


@asynccontextmanager
async def open_request_counter(redis_url: str | None) -> AsyncIterator[RequestCounter]:
    """Opens the counter until the block ends: in Redis if it is named, else in memory. Connects at the first count."""
    if redis_url is None:
        yield MemoryRequestCounter()
        return
    redis: Redis = Redis.from_url(redis_url, socket_timeout=_PATIENCE_SECONDS, socket_connect_timeout=_PATIENCE_SECONDS)
    try:
        yield RedisRequestCounter(redis)
    finally:
        await redis.aclose()
