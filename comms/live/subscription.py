"""A subscription of one socket to the fan-out: the events that it may receive, and its queue."""

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Final
from uuid import UUID

from comms.kernel.database import Actor
from comms.outbox.envelope import SentEvent
from comms.outbox.queries import CONVERSATION_EVENTS
from models.contract.errors import WriteCareError, unavailable

MAX_QUEUED: Final = 512  # messages in the queue of one socket


class Subscription:
    """The events for `actor`; `session_id` limits it to one session. `EventFanOut.subscribe` creates it."""

    def __init__(
        self, actor: Actor, types: Collection[str], session_id: UUID | None, max_queued: int = MAX_QUEUED
    ) -> None:
        self.actor = actor
        self.session_id = session_id
        self.start = 0  # it receives all events after this position; earlier ones come from `replay`
        self.types = frozenset(types)
        self._max_queued = max_queued
        self._queue: deque[str] = deque()
        self._queued = asyncio.Event()
        self.broken = asyncio.Event()
        self.failure: WriteCareError | None = None

    def may_receive(self, event: SentEvent) -> bool:
        """Whether the event is of a requested type, belongs to the named session, and is permitted for the actor."""
        if event.type not in self.types or self.actor.user_id in event.withheld_from:
            return False
        if event.type in CONVERSATION_EVENTS and self.actor.user_id not in event.heard_by:
            return False
        about = (str(event.aggregate_id), event.data.get("session_id"))
        return self.session_id is None or str(self.session_id) in about

    def enqueue(self, text: str) -> None:
        """Adds a message to the queue. If the queue is full, it disconnects the socket; the client reconnects with its
        cursor.
        """
        if self.failure is not None:
            return
        if len(self._queue) >= self._max_queued:
            self.disconnect(
                unavailable("socket-too-slow", "The client reads events too slowly: reconnect with ?after=<position>.")
            )
            return
        self._queue.append(text)
        self._queued.set()

    def disconnect(self, error: WriteCareError) -> None:
        """Ends the subscription with `error` and discards its queue."""
        self.failure = error
        self._queue.clear()
        self.broken.set()
        self._queued.set()

    async def next(self) -> str:
        """Waits for the next message and returns it; raises the error with which the subscription was ended."""
        while not self._queue:
            if self.failure is not None:
                raise self.failure
            self._queued.clear()
            await self._queued.wait()
        return self._queue.popleft()
