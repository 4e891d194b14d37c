"""Reads each sent event once in a process and puts it into the queue of every socket that may receive it.

One connection listens for the notification of the relay. Then the events of each tenant that has sockets are read once,
from the last read position. A lost notification or connection loses no event, because positions are stored in the
outbox.

The same connection is notified when a sign-in ended (`watch_revocations` then checks the sockets; it also polls) and
when presence changed (the presence tracker then reads). A conversation event is sent to those who were members at its
clock value: each event is read with their ids, so this process stores no memberships.
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

from comms.identity.sign_ins.queries import REVOKED_CHANNEL
from comms.kernel.access.system_actor import NIL_UUID
from comms.kernel.database import Actor, Connection, Database
from comms.kernel.processes.background_tasks import end
from comms.live.presence.leases import PRESENCE_CHANNEL, PresenceScope
from comms.live.presence.tracker import LEASE_SECONDS, PresenceTracker
from comms.live.revocation import find_revoked_subscriptions
from comms.live.subscription import MAX_QUEUED, Subscription
from comms.outbox.envelope import SentEvent, envelope
from comms.outbox.notifier import Notifier, parse_tenant_ids, running_notifier
from comms.outbox.queries import CONVERSATION_EVENTS, EVENTS_CHANNEL, read_events_for_actor, read_sent_events
from comms.web.context import AppContext
from models.contract.errors import WriteCareError, unavailable

_PAGE_SIZE: Final = 100  # far less than the queue of a socket, so that a socket can send one page before the next
_POLL_SECONDS: Final = 15.0
_REVOCATION_CHECK_SECONDS: Final = (
    0.5  # a socket is disconnected within a second after its sign-in ended, also without a notification
)
_BACK_OFF_SECONDS: Final = 1.0
_PARTICIPANT_LEFT: Final = "session.participant.left"
_MEMBER_LEFT: Final = "conversation.member.left"

_log = structlog.get_logger(__name__)


@dataclass
class _TenantSubscriptions:
    """The sockets of a tenant, and the position up to which they have received events."""

    position: int
    sockets: set[Subscription] = field(default_factory=set)
    by_user: defaultdict[UUID, set[Subscription]] = field(default_factory=lambda: defaultdict(set))

    def add(self, subscription: Subscription) -> None:
        self.sockets.add(subscription)
        self.by_user[subscription.actor.user_id].add(subscription)

    def discard(self, subscription: Subscription) -> None:
        self.sockets.discard(subscription)
        self.by_user[subscription.actor.user_id].discard(subscription)
        if not self.by_user[subscription.actor.user_id]:
            del self.by_user[subscription.actor.user_id]

    def recipients_of(self, event: SentEvent) -> list[Subscription]:
        """Returns the sockets that may receive the event. For a conversation event it checks only sockets of its
        recipients.
        """
        asked = self.sockets
        if event.type in CONVERSATION_EVENTS:
            asked = {socket for user_id in event.heard_by & self.by_user.keys() for socket in self.by_user[user_id]}
        return [subscription for subscription in asked if subscription.may_receive(event)]


class EventFanOut:
    """Distributes events to sockets; one for each process. `open_fan_out` creates it."""

    def __init__(
        self, database: Database, url: str, presence_tracker: PresenceTracker, max_queued: int = MAX_QUEUED
    ) -> None:
        self.presence_tracker = presence_tracker
        self._database = database
        self._url = url
        self._max_queued = max_queued
        self._tenants: dict[UUID, _TenantSubscriptions] = {}
        self._read_lock = asyncio.Lock()
        self._check_requested = asyncio.Event()

    @asynccontextmanager
    async def subscribe(
        self, actor: Actor, types: Collection[str], session_id: UUID | None = None
    ) -> AsyncIterator[Subscription]:
        """Subscribes to the events after `Subscription.start`, until the block ends; `session_id` limits it to one
        session.
        """
        subscription = Subscription(actor, types, session_id, self._max_queued)
        async with self._read_lock:
            if actor.tenant_id not in self._tenants:
                self._tenants[actor.tenant_id] = _TenantSubscriptions(await self._latest_position(actor.tenant_id))
            tenant = self._tenants[actor.tenant_id]
            tenant.add(subscription)
            subscription.start = tenant.position
        try:
            yield subscription
        finally:
            tenant.discard(subscription)
            if not tenant.sockets and self._tenants.get(actor.tenant_id) is tenant:
                del self._tenants[actor.tenant_id]

    async def replay(self, subscription: Subscription, after: int) -> AsyncIterator[str]:
        """Yields the events that the subscription may receive in (`after`, its start], in order, page by page.

        It reads as the actor of the subscription, so that row-level security applies, too.
        """
        until = subscription.start
        while after < until:
            async with self._database.acting_as(subscription.actor) as conn:
                page = await read_events_for_actor(conn, subscription.types, after=after, until=until, limit=_PAGE_SIZE)
            for event in page:
                if subscription.may_receive(event):
                    yield envelope(event).model_dump_json()
            after = page[-1].position if len(page) == _PAGE_SIZE else until

    async def listen(self) -> None:
        """Listens to the notifications, reads and distributes events until it is cancelled; reconnects after a lost
        connection.
        """
        while True:
            try:
                async with await Connection.connect(
                    self._url, autocommit=True, row_factory=dict_row, connect_timeout=10,
                    application_name="writecare-feed",
                ) as conn:  # fmt: skip
                    for channel in (EVENTS_CHANNEL, REVOKED_CHANNEL, PRESENCE_CHANNEL):
                        await conn.execute(f"listen {channel}".encode())
                    self.request_revocation_check()
                    await self._read_all(self._tenants)  # events that were sent while it did not listen
                    while True:
                        await self._wait_for_notifications(conn)
            except (OperationalError, InterfaceError, WriteCareError) as error:
                _log.warning("fan-out lost the database", error=type(error).__name__)
                await asyncio.sleep(_BACK_OFF_SECONDS)

    async def watch_revocations(self) -> None:
        """Disconnects sockets whose right has ended, until it is cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_REVOCATION_CHECK_SECONDS):
                    await self._check_requested.wait()
            self._check_requested.clear()
            try:
                await self._disconnect_revoked()
            except WriteCareError as error:
                _log.warning("revoked sockets cannot be read", problem=error.slug)

    def request_revocation_check(self) -> None:
        """Makes `watch_revocations` check the sockets now."""
        self._check_requested.set()

    def close(self) -> None:
        """Disconnects all sockets, because the process stops."""
        for tenant in self._tenants.values():
            for subscription in tenant.sockets:
                subscription.disconnect(
                    unavailable("going-away", "The server is restarting: reconnect with ?after=<position>.")
                )

    async def _wait_for_notifications(self, conn: Connection) -> None:
        """Waits for notifications, or until the poll interval is over, and reads the events."""
        notifications = [notice async for notice in conn.notifies(timeout=_POLL_SECONDS, stop_after=1)]
        to_read: set[UUID] = set() if notifications else set(self._tenants)
        for notice in notifications:
            if notice.channel == REVOKED_CHANNEL:
                self.request_revocation_check()
            elif notice.channel == PRESENCE_CHANNEL:
                self.presence_tracker.request_update(parse_tenant_ids(notice.payload))
            else:
                to_read |= parse_tenant_ids(notice.payload)
        await self._read_all(to_read & self._tenants.keys())

    async def _read_all(self, tenants: Collection[UUID]) -> None:
        for tenant_id in list(tenants):
            async with self._read_lock:
                tenant = self._tenants.get(tenant_id)
                while tenant is not None and (page := await self._read(tenant_id, tenant.position)):
                    for event in page:
                        self._distribute(event, tenant)
                    tenant.position = page[-1].position

    def _distribute(self, event: SentEvent, tenant: _TenantSubscriptions) -> None:
        if event.type == _PARTICIPANT_LEFT:
            self.request_revocation_check()
        if recipients_of := tenant.recipients_of(event):
            text = envelope(event).model_dump_json()  # serialised once for all sockets
            for subscription in recipients_of:
                subscription.enqueue(text)
        if event.type == _MEMBER_LEFT:
            conversation = PresenceScope("conversation", event.aggregate_id)
            self.presence_tracker.drop_leases(event.tenant_id, conversation, UUID(event.data["user_id"]))

    async def _disconnect_revoked(self) -> None:
        for tenant_id, tenant in list(self._tenants.items()):
            for subscription, error in (
                await find_revoked_subscriptions(self._database, tenant_id, tuple(tenant.sockets))
            ).items():
                subscription.disconnect(error)

    async def _read(self, tenant_id: UUID, after: int) -> list[SentEvent]:
        async with self._acting_for(tenant_id) as conn:
            return await read_sent_events(conn, after=after, limit=_PAGE_SIZE)

    async def _latest_position(self, tenant_id: UUID) -> int:
        async with self._acting_for(tenant_id) as conn:
            row = await (
                await conn.execute(
                    "select position from events where position is not null order by position desc limit 1"
                )
            ).fetchone()
        return 0 if row is None else int(row["position"])

    @asynccontextmanager
    async def _acting_for(self, tenant_id: UUID) -> AsyncIterator[Connection]:
        async with self._database.acting_as(Actor(tenant_id, NIL_UUID, "service")) as conn:
            yield conn


@asynccontextmanager
async def open_fan_out(
    ctx: AppContext, max_queued: int = MAX_QUEUED, lease_seconds: float = LEASE_SECONDS
) -> AsyncIterator[EventFanOut]:
    """Runs a fan-out until the block ends. It uses the database role of the process."""
    assert ctx.settings.role_database_url is not None
    presence_notifier = Notifier(PRESENCE_CHANNEL)
    presence_tracker = PresenceTracker(ctx.database, presence_notifier.notify, lease_seconds)
    fan_out = EventFanOut(ctx.database, ctx.settings.role_database_url.get_secret_value(), presence_tracker, max_queued)
    async with running_notifier(presence_notifier, ctx.database):
        tasks = [
            asyncio.create_task(fan_out.listen()),
            asyncio.create_task(fan_out.watch_revocations()),
            asyncio.create_task(presence_tracker.run()),
        ]
        try:
            yield fan_out
        finally:
            fan_out.close()
            await end(tasks)
