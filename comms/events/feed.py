"""The feed: sent events, read once a process and handed to the sockets that may see them.

One connection listens for the relay's notification; each tenant that has sockets is then read once from where it
was last read. A lost notification or connection loses no event: places are positions in the outbox, not memory.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import structlog
from psycopg import AsyncConnection, InterfaceError, OperationalError

from comms.database import Actor, Connection, Database
from comms.events.envelope import SentEvent
from comms.events.queries import CHANNEL
from comms.house import House
from models.errors import WriteCareError, unavailable

_MOST_WAITING: Final = 256  # events that a socket may be behind
_PAGE: Final = 500
_LOOK_ANYWAY_SECONDS: Final = 15.0
_BACK_OFF_SECONDS: Final = 1.0
_NOBODY: Final = UUID(int=0)

_log = structlog.get_logger(__name__)


class Subscription:
    """One socket's place in the feed: what it may see, and what waits for it."""

    def __init__(self, actor: Actor, types: Collection[str], subject: UUID | None, most_waiting: int) -> None:
        self.tenant_id = actor.tenant_id
        self._user_id = actor.user_id
        self.start = 0  # the position from which on it is told of everything; what lies before is the past's
        self._types = frozenset(types)
        self._subject = subject
        self._most_waiting = most_waiting
        self._waiting: deque[SentEvent] = deque()
        self._arrived = asyncio.Event()
        self.broken = asyncio.Event()
        self.failure: WriteCareError | None = None

    def sees(self, event: SentEvent) -> bool:
        """Whether the event is of a type that was asked for, about the session that was named, and for this person."""
        if event.type not in self._types or self._user_id in event.withheld_from:
            return False
        return self._subject is None or str(self._subject) in (str(event.aggregate_id), event.data.get("session_id"))

    def offer(self, event: SentEvent) -> None:
        """Lays an event before the socket; one that has fallen too far behind is cut off, to come back by cursor."""
        if self.failure is not None or not self.sees(event):
            return
        if len(self._waiting) >= self._most_waiting:
            self.cut_off(
                unavailable("socket-too-slow", "Events came faster than they were taken: come back with ?after=.")
            )
            return
        self._waiting.append(event)
        self._arrived.set()

    def cut_off(self, error: WriteCareError) -> None:
        """Ends the subscription with `error`; what waits is dropped."""
        self.failure = error
        self._waiting.clear()
        self.broken.set()
        self._arrived.set()

    async def next(self) -> SentEvent:
        """The next event, waiting for it; raises what the subscription was cut off with."""
        while not self._waiting:
            if self.failure is not None:
                raise self.failure
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()


@dataclass
class _Tenant:
    """A tenant that has sockets, and the position up to which they were told."""

    position: int
    sockets: set[Subscription] = field(default_factory=set)


class Feed:
    """One a process; made by `open_feed`."""

    def __init__(self, database: Database, url: str, most_waiting: int = _MOST_WAITING) -> None:
        self._database = database
        self._url = url
        self._most_waiting = most_waiting
        self._tenants: dict[UUID, _Tenant] = {}
        self._reading = asyncio.Lock()

    @asynccontextmanager
    async def subscribe(
        self, actor: Actor, types: Collection[str], subject: UUID | None = None
    ) -> AsyncIterator[Subscription]:
        """A place in the feed, from `Subscription.start` on, until the block ends; `subject`: one session alone."""
        tenant_id = actor.tenant_id
        subscription = Subscription(actor, types, subject, self._most_waiting)
        async with self._reading:
            if tenant_id not in self._tenants:
                self._tenants[tenant_id] = _Tenant(await self._newest(tenant_id))
            tenant = self._tenants[tenant_id]
            tenant.sockets.add(subscription)
            subscription.start = tenant.position
        try:
            yield subscription
        finally:
            tenant.sockets.discard(subscription)
            if not tenant.sockets and self._tenants.get(tenant_id) is tenant:
                del self._tenants[tenant_id]

    async def past(self, subscription: Subscription, after: int) -> AsyncIterator[SentEvent]:
        """What the subscription may see of the positions in (`after`, its start], in order, page by page."""
        while after < subscription.start:
            page = await self._read(subscription.tenant_id, after, subscription.start)
            for event in page:
                if subscription.sees(event):
                    yield event
            after = page[-1].position if page else subscription.start

    async def listen(self) -> None:
        """Until cancelled: hears the relay, reads, hands on; a lost connection is made anew."""
        while True:
            try:
                async with await AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=10, application_name="writecare-feed"
                ) as conn:
                    await conn.execute(f"listen {CHANNEL}".encode())
                    while True:
                        await self._read_all()  # first of all, what was sent while nobody listened
                        async for _ in conn.notifies(timeout=_LOOK_ANYWAY_SECONDS, stop_after=1):
                            pass
            except (OperationalError, InterfaceError, WriteCareError) as error:
                _log.warning("feed lost the database", error=type(error).__name__)
                await asyncio.sleep(_BACK_OFF_SECONDS)

    def close(self) -> None:
        """Cuts every socket off: the process is going."""
        for tenant in self._tenants.values():
            for subscription in tenant.sockets:
                subscription.cut_off(unavailable("going-away", "The server is restarting: come back with ?after=."))

    async def _read_all(self) -> None:
        for tenant_id in list(self._tenants):
            async with self._reading:
                tenant = self._tenants.get(tenant_id)
                while tenant is not None and (page := await self._read(tenant_id, tenant.position)):
                    for event in page:
                        for subscription in tenant.sockets:
                            subscription.offer(event)
                    tenant.position = page[-1].position

    async def _read(self, tenant_id: UUID, after: int, until: int | None = None) -> list[SentEvent]:
        async with self._acting_for(tenant_id) as conn:
            rows = await conn.execute(
                "select tenant_id, id, type, aggregate_type, aggregate_id, aggregate_version, data, occurred_at, "
                "position, app.withheld_from(data) as withheld_from from events "
                "where position > %(after)s and (%(until)s::bigint is null "
                "or position <= %(until)s) order by position limit %(page)s",
                {"after": after, "until": until, "page": _PAGE},
            )
            return [SentEvent(**row) async for row in rows]

    async def _newest(self, tenant_id: UUID) -> int:
        async with self._acting_for(tenant_id) as conn:
            row = await (
                await conn.execute(
                    "select position from events where position is not null order by position desc limit 1"
                )
            ).fetchone()
        return 0 if row is None else int(row["position"])

    @asynccontextmanager
    async def _acting_for(self, tenant_id: UUID) -> AsyncIterator[Connection]:
        async with self._database.acting_as(Actor(tenant_id, _NOBODY, "service")) as conn:
            yield conn


@asynccontextmanager
async def open_feed(house: House, most_waiting: int = _MOST_WAITING) -> AsyncIterator[Feed]:
    """A feed that listens until the block ends, logged in as the house is."""
    assert house.settings.role_database_url is not None
    feed = Feed(house.database, house.settings.role_database_url.get_secret_value(), most_waiting)
    listening = asyncio.create_task(feed.listen())
    try:
        yield feed
    finally:
        feed.close()
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
