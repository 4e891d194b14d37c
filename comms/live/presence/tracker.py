"""Keeps the presence leases of the sockets of this process, and sends every change to the sockets in the same scope.

In a conversation it also sends who types, and up to where others have recently received and read. It reads these twice
a second, however many there are; presence changes are sent at once. These messages are not events of the outbox:
they have no id and no position. They are not replayed to a client that was away; it receives the whole list again.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import structlog
import uuid_utils.compat as uuid_utils

from comms.kernel.access.system_actor import NIL_UUID
from comms.kernel.database import Actor, Connection, Database
from comms.live.presence.leases import (
    PresenceScope,
    PresenceState,
    delete_lease,
    insert_lease,
    present,
    renew_leases,
    set_typing,
)
from comms.live.presence.receipts import FreshReceipt, fresh_receipts
from models.contract.errors import WriteCareError

LEASE_SECONDS: Final = 6.0
_UPDATE_SECONDS: Final = 0.5
_TYPING_SECONDS: Final = 5.0
_TYPING_WRITE_SECONDS: Final = 2.0  # at most one write in this time

_log = structlog.get_logger(__name__)


async def _allow_all(_conn: Connection) -> None:
    """The default check: it refuses nobody."""


@dataclass(eq=False)
class PresenceLease:
    """The lease of a socket in a scope; `last_sent` is the state that was last sent to it, None before the first."""

    id: UUID
    scope: PresenceScope
    actor: Actor
    enqueue: Callable[[str], None]
    last_sent: PresenceState | None = field(default=None, repr=False)
    receipts: set[FreshReceipt] = field(default_factory=set, repr=False)
    typing_noted_at: float = 0.0


class PresenceTracker:
    """Tracks presence; one for each process.

    It calls `on_change` when a lease of this process is added or deleted, so that other processes read again.
    """

    def __init__(
        self, database: Database, on_change: Callable[[UUID], None], lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self._database = database
        self._on_change = on_change
        self._lease_seconds = lease_seconds
        self._leases: defaultdict[UUID, set[PresenceLease]] = defaultdict(set)
        self._update_lock = asyncio.Lock()
        self._renewed = 0.0
        self._tenants_to_update: set[UUID] = set()
        self._update_requested = asyncio.Event()

    @asynccontextmanager
    async def open_lease(
        self,
        actor: Actor,
        scope: PresenceScope,
        enqueue: Callable[[str], None],
        refuse: Callable[[Connection], Awaitable[None]] = _allow_all,
    ) -> AsyncIterator[PresenceLease]:
        """Keeps `actor` present until the block ends; `enqueue` gets the list of all, then each who joins or leaves.

        Runs `refuse` in the transaction that inserts the lease, and raises what it raises.
        """
        lease = PresenceLease(uuid_utils.uuid7(), scope, actor, enqueue)
        async with self._database.acting_as(actor) as conn:
            await refuse(conn)
            await insert_lease(conn, actor, lease.id, scope, self._lease_seconds)
        self._leases[actor.tenant_id].add(lease)
        try:
            await self._send_updates(actor.tenant_id, lambda other: other.scope == scope)
            self._on_change(actor.tenant_id)
            yield lease
        finally:
            self._leases[actor.tenant_id].discard(lease)
            await self._release(lease)

    async def typing(self, lease: PresenceLease) -> None:
        """Stores that the user of the lease types. The others in the scope are notified when it starts and when it
        expires.
        """
        now = asyncio.get_running_loop().time()
        if now - lease.typing_noted_at >= _TYPING_WRITE_SECONDS:
            lease.typing_noted_at = now
            async with self._database.acting_as(lease.actor) as conn:
                await set_typing(conn, lease.id, _TYPING_SECONDS)

    def drop_leases(self, tenant_id: UUID, scope: PresenceScope, user_id: UUID) -> None:
        """Stops sending to the leases of the user in the scope."""
        leases = self._leases[tenant_id]
        leases -= {lease for lease in leases if lease.scope == scope and lease.actor.user_id == user_id}

    def request_update(self, tenants: Collection[UUID]) -> None:
        """Makes `run` read the scopes of these tenants now; of all tenants, if none is given."""
        self._tenants_to_update |= (set(tenants) or self._leases.keys()) & self._leases.keys()
        self._update_requested.set()

    async def run(self) -> None:
        """Renews the leases and sends each change to the sockets of this process, until it is cancelled."""
        clock = asyncio.get_running_loop().time
        updated_at = clock()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(updated_at + _UPDATE_SECONDS):
                    await self._update_requested.wait()
            self._update_requested.clear()
            tenants_to_update, self._tenants_to_update = self._tenants_to_update, set()
            if clock() >= updated_at + _UPDATE_SECONDS:
                tenants_to_update, updated_at = set(self._leases), clock()
            try:
                await self._renew_leases()
                for tenant_id in tenants_to_update:
                    if self._leases.get(tenant_id):
                        await self._send_updates(tenant_id, lambda _: True)
            except WriteCareError as error:
                _log.warning("presence cannot be read", problem=error.slug)

    async def _renew_leases(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._renewed >= self._lease_seconds / 3:
            self._renewed = now
            for tenant_id, leases in list(self._leases.items()):
                if leases:
                    async with self._database.acting_as(Actor(tenant_id, NIL_UUID, "service")) as conn:
                        await renew_leases(conn, [lease.id for lease in leases], self._lease_seconds)

    async def _send_updates(self, tenant_id: UUID, selects: Callable[[PresenceLease], bool]) -> None:
        async with self._update_lock:  # one read after the other, so that no socket gets an older state
            leases = [lease for lease in self._leases[tenant_id] if selects(lease)]
            scopes = {lease.scope for lease in leases}
            async with self._database.acting_as(Actor(tenant_id, NIL_UUID, "service")) as conn:
                state = await present(conn, scopes)
                receipts = await fresh_receipts(conn, [scope.id for scope in scopes if scope.kind == "conversation"])
            for lease in leases:
                if lease in self._leases[tenant_id]:  # it may have been dropped meanwhile
                    _send_changes(lease, state[lease.scope])
                    _send_receipts(lease, receipts.get(lease.scope.id, set()))

    async def _release(self, lease: PresenceLease) -> None:
        try:
            async with self._database.acting_as(lease.actor) as conn:
                await delete_lease(conn, lease.id)
            self._on_change(lease.actor.tenant_id)
        except WriteCareError as error:
            _log.warning("presence lease not deleted: it will expire", problem=error.slug)


def _send_changes(lease: PresenceLease, state: PresenceState) -> None:
    known = lease.last_sent
    lease.last_sent = state
    if known is None:
        _send(lease, "presence", present=sorted(map(str, state.people)))
        known = PresenceState(state.people)
    _send_each(lease, "presence.joined", state.people - known.people)
    _send_each(lease, "presence.left", known.people - state.people)
    _send_each(lease, "typing.started", state.typing - known.typing - {lease.actor.user_id})
    _send_each(lease, "typing.stopped", known.typing - state.typing - {lease.actor.user_id})


def _send_receipts(lease: PresenceLease, fresh: set[FreshReceipt]) -> None:
    for receipt in sorted(fresh - lease.receipts):
        if receipt.user_id != lease.actor.user_id:
            _send(lease, f"receipt.{receipt.kind}", user_id=str(receipt.user_id), up_to=str(receipt.up_to))
    lease.receipts = fresh


def _send_each(lease: PresenceLease, type: str, people: Iterable[UUID]) -> None:
    for user_id in sorted(people):
        _send(lease, type, user_id=str(user_id))


def _send(lease: PresenceLease, type: str, **what: Any) -> None:
    lease.enqueue(json.dumps({"type": type, f"{lease.scope.kind}_id": str(lease.scope.id), **what}))
