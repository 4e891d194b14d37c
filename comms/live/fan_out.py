"""The feed: sent events, read once a process and handed to the sockets that may see them.

One connection listens for the relay's notification; each tenant that has sockets is then read once from where it
was last read. A lost notification or connection loses no event: places are positions in the outbox, not memory.
The same connection hears that somebody's sign-in has ended, and `watch` then looks who may no longer listen (it looks
unasked too), or that people came or went, which the roll is told. What belongs to a conversation is handed to those who
were in it at its moment: each event is read with their ids, so that nothing here remembers who is in what.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import structlog
from psycopg import InterfaceError, OperationalError
from psycopg.rows import dict_row

from comms.identity.sign_ins.queries import REVOKED
from comms.kernel.access.system_actor import NOBODY
from comms.kernel.database import Actor, Connection, Database
from comms.kernel.processes.background_tasks import end
from comms.live.presence.leases import PRESENCE, Place
from comms.live.presence.tracker import LEASE_SECONDS, Roll
from comms.live.revocation import no_longer_stand
from comms.live.subscription import MOST_WAITING, Subscription
from comms.outbox.envelope import SentEvent, envelope
from comms.outbox.notifier import Waker, named_in, waking
from comms.outbox.queries import CHANNEL, OF_CONVERSATIONS, read_heard, read_sent
from comms.web.context import House
from models.contract.errors import WriteCareError, unavailable

_PAGE: Final = 100  # far fewer than a socket may be behind: between two pages those that take what comes have it
_LOOK_ANYWAY_SECONDS: Final = 15.0
_WATCH_SECONDS: Final = 0.5  # a sign-in that ended is cut off within a second, also where nobody could say so
_BACK_OFF_SECONDS: Final = 1.0
_LEAVING: Final = "session.participant.left"
_LEAVING_CONVERSATION: Final = "conversation.member.left"

_log = structlog.get_logger(__name__)


@dataclass
class _Tenant:
    """A tenant that has sockets, and the position up to which they were told."""

    position: int
    sockets: set[Subscription] = field(default_factory=set)
    of: defaultdict[UUID, set[Subscription]] = field(default_factory=lambda: defaultdict(set))  # by their person

    def add(self, subscription: Subscription) -> None:
        self.sockets.add(subscription)
        self.of[subscription.actor.user_id].add(subscription)

    def discard(self, subscription: Subscription) -> None:
        self.sockets.discard(subscription)
        self.of[subscription.actor.user_id].discard(subscription)
        if not self.of[subscription.actor.user_id]:
            del self.of[subscription.actor.user_id]

    def seeing(self, event: SentEvent) -> list[Subscription]:
        """Those that the event is for; of what belongs to a conversation only its hearers' sockets are asked."""
        asked = self.sockets
        if event.type in OF_CONVERSATIONS:
            asked = {socket for user_id in event.heard_by & self.of.keys() for socket in self.of[user_id]}
        return [subscription for subscription in asked if subscription.sees(event)]


class Feed:
    """One a process; made by `open_feed`."""

    def __init__(self, database: Database, url: str, roll: Roll, most_waiting: int = MOST_WAITING) -> None:
        self.roll = roll
        self._database = database
        self._url = url
        self._most_waiting = most_waiting
        self._tenants: dict[UUID, _Tenant] = {}
        self._reading = asyncio.Lock()
        self._look = asyncio.Event()

    @asynccontextmanager
    async def subscribe(
        self, actor: Actor, types: Collection[str], session_id: UUID | None = None
    ) -> AsyncIterator[Subscription]:
        """A place in the feed, from `Subscription.start` on, until the block ends; `session_id`: one session alone."""
        subscription = Subscription(actor, types, session_id, self._most_waiting)
        async with self._reading:
            if actor.tenant_id not in self._tenants:
                self._tenants[actor.tenant_id] = _Tenant(await self._newest(actor.tenant_id))
            tenant = self._tenants[actor.tenant_id]
            tenant.add(subscription)
            subscription.start = tenant.position
        try:
            yield subscription
        finally:
            tenant.discard(subscription)
            if not tenant.sockets and self._tenants.get(actor.tenant_id) is tenant:
                del self._tenants[actor.tenant_id]

    async def past(self, subscription: Subscription, after: int) -> AsyncIterator[str]:
        """What the subscription may see of the positions in (`after`, its start], in order, page by page.

        Read in the name of its person, so that row-level security decides too.
        """
        until = subscription.start
        while after < until:
            async with self._database.acting_as(subscription.actor) as conn:
                page = await read_heard(conn, subscription.types, after=after, until=until, limit=_PAGE)
            for event in page:
                if subscription.sees(event):
                    yield envelope(event).model_dump_json()
            after = page[-1].position if len(page) == _PAGE else until

    async def listen(self) -> None:
        """Until cancelled: hears the relay, reads, hands on; a lost connection is made anew."""
        while True:
            try:
                async with await Connection.connect(
                    self._url, autocommit=True, row_factory=dict_row, connect_timeout=10,
                    application_name="writecare-feed",
                ) as conn:  # fmt: skip
                    for channel in (CHANNEL, REVOKED, PRESENCE):
                        await conn.execute(f"listen {channel}".encode())
                    self.look()
                    await self._read_all(self._tenants)  # first of all, what was sent while nobody listened
                    while True:
                        await self._hear(conn)
            except (OperationalError, InterfaceError, WriteCareError) as error:
                _log.warning("feed lost the database", error=type(error).__name__)
                await asyncio.sleep(_BACK_OFF_SECONDS)

    async def watch(self) -> None:
        """Until cancelled: cuts off who may no longer listen."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_SECONDS):
                    await self._look.wait()
            self._look.clear()
            try:
                await self._cut_off_the_gone()
            except WriteCareError as error:
                _log.warning("feed cannot look who may listen", problem=error.slug)

    def look(self) -> None:
        """Has `watch` look now who may no longer listen."""
        self._look.set()

    def close(self) -> None:
        """Cuts every socket off: the process is going."""
        for tenant in self._tenants.values():
            for subscription in tenant.sockets:
                subscription.cut_off(unavailable("going-away", "The server is restarting: come back with ?after=."))

    async def _hear(self, conn: Connection) -> None:
        """Waits for notifications, or long enough to look unasked."""
        heard = [notice async for notice in conn.notifies(timeout=_LOOK_ANYWAY_SECONDS, stop_after=1)]
        to_read: set[UUID] = set() if heard else set(self._tenants)
        for notice in heard:
            if notice.channel == REVOKED:
                self.look()
            elif notice.channel == PRESENCE:
                self.roll.call(named_in(notice.payload))
            else:
                to_read |= named_in(notice.payload)
        await self._read_all(to_read & self._tenants.keys())

    async def _read_all(self, tenants: Collection[UUID]) -> None:
        for tenant_id in list(tenants):
            async with self._reading:
                tenant = self._tenants.get(tenant_id)
                while tenant is not None and (page := await self._read(tenant_id, tenant.position)):
                    for event in page:
                        self._hand_on(event, tenant)
                    tenant.position = page[-1].position

    def _hand_on(self, event: SentEvent, tenant: _Tenant) -> None:
        if event.type == _LEAVING:
            self.look()
        if seeing := tenant.seeing(event):
            text = envelope(event).model_dump_json()  # once for all
            for subscription in seeing:
                subscription.say(text)
        if event.type == _LEAVING_CONVERSATION:
            conversation = Place("conversation", event.aggregate_id)
            self.roll.shut_out(event.tenant_id, conversation, UUID(event.data["user_id"]))

    async def _cut_off_the_gone(self) -> None:
        for tenant_id, tenant in list(self._tenants.items()):
            for subscription, error in (
                await no_longer_stand(self._database, tenant_id, tuple(tenant.sockets))
            ).items():
                subscription.cut_off(error)

    async def _read(self, tenant_id: UUID, after: int) -> list[SentEvent]:
        async with self._acting_for(tenant_id) as conn:
            return await read_sent(conn, after=after, limit=_PAGE)

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
        async with self._database.acting_as(Actor(tenant_id, NOBODY, "service")) as conn:
            yield conn


@asynccontextmanager
async def open_feed(
    house: House, most_waiting: int = MOST_WAITING, lease_seconds: float = LEASE_SECONDS
) -> AsyncIterator[Feed]:
    """A feed that listens and watches until the block ends, logged in as the house is."""
    assert house.settings.role_database_url is not None
    changes = Waker(PRESENCE)
    roll = Roll(house.database, changes.wake, lease_seconds)
    feed = Feed(house.database, house.settings.role_database_url.get_secret_value(), roll, most_waiting)
    async with waking(changes, house.database):
        tasks = [asyncio.create_task(feed.listen()), asyncio.create_task(feed.watch()), asyncio.create_task(roll.run())]
        try:
            yield feed
        finally:
            feed.close()
            await end(tasks)
