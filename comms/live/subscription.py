"""A subscription: one socket's place in the feed, what it may be told and what waits for it."""

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Final
from uuid import UUID

from comms.kernel.database import Actor
from comms.outbox.envelope import SentEvent
from comms.outbox.queries import OF_CONVERSATIONS
from models.contract.errors import WriteCareError, unavailable

MOST_WAITING: Final = 512  # messages that a socket may be behind


class Subscription:
    """Made by `Feed.subscribe`; for `actor`, about one session alone where `session_id` names it."""

    def __init__(
        self, actor: Actor, types: Collection[str], session_id: UUID | None, most_waiting: int = MOST_WAITING
    ) -> None:
        self.actor = actor
        self.session_id = session_id
        self.start = 0  # the position from which on it is told of everything; what lies before is the past's
        self.types = frozenset(types)
        self._most_waiting = most_waiting
        self._waiting: deque[str] = deque()
        self._arrived = asyncio.Event()
        self.broken = asyncio.Event()
        self.failure: WriteCareError | None = None

    def sees(self, event: SentEvent) -> bool:
        """Whether the event is of a type that was asked for, about the session that was named, and for this person."""
        if event.type not in self.types or self.actor.user_id in event.withheld_from:
            return False
        if event.type in OF_CONVERSATIONS and self.actor.user_id not in event.heard_by:
            return False
        about = (str(event.aggregate_id), event.data.get("session_id"))
        return self.session_id is None or str(self.session_id) in about

    def say(self, text: str) -> None:
        """Lays a message before the socket; one that has fallen too far behind is cut off, to come back by cursor."""
        if self.failure is not None:
            return
        if len(self._waiting) >= self._most_waiting:
            self.cut_off(
                unavailable("socket-too-slow", "Events came faster than they were taken: come back with ?after=.")
            )
            return
        self._waiting.append(text)
        self._arrived.set()

    def cut_off(self, error: WriteCareError) -> None:
        """Ends the subscription with `error`; what waits is dropped."""
        self.failure = error
        self._waiting.clear()
        self.broken.set()
        self._arrived.set()

    async def next(self) -> str:
        """The next message, waiting for it; raises what the subscription was cut off with."""
        while not self._waiting:
            if self.failure is not None:
                raise self.failure
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()
