"""A subscription: one socket's place in the feed, what it may be told and what waits for it."""

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Final
from uuid import UUID

from comms.kernel.database import Actor
from comms.outbox.envelope import SentEvent
from comms.outbox.queries import CONVERSATION_EVENTS
from models.contract.errors import WriteCareError, unavailable

MAX_QUEUED: Final = 512  # messages that a socket may be behind


class Subscription:
    """Made by `EventFanOut.subscribe`; for `actor`, about one session alone where `session_id` names it."""

    def __init__(
        self, actor: Actor, types: Collection[str], session_id: UUID | None, max_queued: int = MAX_QUEUED
    ) -> None:
        self.actor = actor
        self.session_id = session_id
        self.start = 0  # the position from which on it is told of everything; what lies before is the past's
        self.types = frozenset(types)
        self._max_queued = max_queued
        self._queue: deque[str] = deque()
        self._queued = asyncio.Event()
        self.broken = asyncio.Event()
        self.failure: WriteCareError | None = None

    def may_receive(self, event: SentEvent) -> bool:
        """Whether the event is of a type that was asked for, about the session that was named, and for this person."""
        if event.type not in self.types or self.actor.user_id in event.withheld_from:
            return False
        if event.type in CONVERSATION_EVENTS and self.actor.user_id not in event.heard_by:
            return False
        about = (str(event.aggregate_id), event.data.get("session_id"))
        return self.session_id is None or str(self.session_id) in about

    def enqueue(self, text: str) -> None:
        """Lays a message before the socket; one that has fallen too far behind is cut off, to come back by cursor."""
        if self.failure is not None:
            return
        if len(self._queue) >= self._max_queued:
            self.disconnect(
                unavailable("socket-too-slow", "Events came faster than they were taken: come back with ?after=.")
            )
            return
        self._queue.append(text)
        self._queued.set()

    def disconnect(self, error: WriteCareError) -> None:
        """Ends the subscription with `error`; what waits is dropped."""
        self.failure = error
        self._queue.clear()
        self.broken.set()
        self._queued.set()

    async def next(self) -> str:
        """The next message, waiting for it; raises what the subscription was cut off with."""
        while not self._queue:
            if self.failure is not None:
                raise self.failure
            self._queued.clear()
            await self._queued.wait()
        return self._queue.popleft()
