"""The roll: who is present at the places that this process's sockets are at, and telling them of each change.

At a conversation it also tells who types and who has of late received and read up to where. All of that is looked for
twice a second, however much of it there is; coming and going at once. Its messages are no events of the outbox: they
have no id and no position, and are not told again to a client that was away, who is given the whole list instead.
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
_TYPING_WRITE_SECONDS: Final = 2.0  # said more often than this, it is not written again

_log = structlog.get_logger(__name__)


async def _allow_all(_conn: Connection) -> None:
    """Lets everybody in who has come this far."""


@dataclass(eq=False)
class PresenceLease:
    """A socket at a place; `last_sent` is what it was told of, None before it was told anything."""

    id: UUID
    scope: PresenceScope
    actor: Actor
    enqueue: Callable[[str], None]
    last_sent: PresenceState | None = field(default=None, repr=False)
    receipts: set[FreshReceipt] = field(default_factory=set, repr=False)
    typing_noted_at: float = 0.0


class PresenceTracker:
    """One a process. `on_change` is called when somebody of this process came or went, so that others look too."""

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
        """`actor` is present until the block ends; `enqueue` is given the list of all, then each who comes and goes.

        Raises what `refuse` raises, which is asked in the transaction that lets them in.
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
        """Somebody types at the seat; the others at the place are told, and when it has passed."""
        now = asyncio.get_running_loop().time()
        if now - lease.typing_noted_at >= _TYPING_WRITE_SECONDS:
            lease.typing_noted_at = now
            async with self._database.acting_as(lease.actor) as conn:
                await set_typing(conn, lease.id, _TYPING_SECONDS)

    def drop_leases(self, tenant_id: UUID, scope: PresenceScope, user_id: UUID) -> None:
        """The person's seats at the place are told nothing more."""
        leases = self._leases[tenant_id]
        leases -= {lease for lease in leases if lease.scope == scope and lease.actor.user_id == user_id}

    def request_update(self, tenants: Collection[UUID]) -> None:
        """Has `run` look now at these tenants' places; at all, where none is named."""
        self._tenants_to_update |= (set(tenants) or self._leases.keys()) & self._leases.keys()
        self._update_requested.set()

    async def run(self) -> None:
        """Until cancelled: tells every socket of this process what has changed at its place, and renews the leases."""
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
                _log.warning("roll cannot look who is there", problem=error.slug)

    async def _renew_leases(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._renewed >= self._lease_seconds / 3:
            self._renewed = now
            for tenant_id, leases in list(self._leases.items()):
                if leases:
                    async with self._database.acting_as(Actor(tenant_id, NIL_UUID, "service")) as conn:
                        await renew_leases(conn, [lease.id for lease in leases], self._lease_seconds)

    async def _send_updates(self, tenant_id: UUID, selects: Callable[[PresenceLease], bool]) -> None:
        async with self._update_lock:  # one reading after the other, so that none is told of an older state
            leases = [lease for lease in self._leases[tenant_id] if selects(lease)]
            scopes = {lease.scope for lease in leases}
            async with self._database.acting_as(Actor(tenant_id, NIL_UUID, "service")) as conn:
                state = await present(conn, scopes)
                receipts = await fresh_receipts(conn, [scope.id for scope in scopes if scope.kind == "conversation"])
            for lease in leases:
                if lease in self._leases[tenant_id]:  # who was shut out meanwhile is told nothing
                    _send_changes(lease, state[lease.scope])
                    _send_receipts(lease, receipts.get(lease.scope.id, set()))

    async def _release(self, lease: PresenceLease) -> None:
        try:
            async with self._database.acting_as(lease.actor) as conn:
                await delete_lease(conn, lease.id)
            self._on_change(lease.actor.tenant_id)
        except WriteCareError as error:
            _log.warning("a socket's lease is left to lapse", problem=error.slug)


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
