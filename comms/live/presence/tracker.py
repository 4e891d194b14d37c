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

from comms.kernel.access.system_actor import NOBODY
from comms.kernel.database import Actor, Connection, Database
from comms.live.presence.leases import Place, Present, enter, leave, present, renew, type_for
from comms.live.presence.receipts import FreshReceipt, fresh_receipts
from models.contract.errors import WriteCareError

LEASE_SECONDS: Final = 6.0
_LOOK_SECONDS: Final = 0.5
_TYPING_SECONDS: Final = 5.0
_TYPING_AGAIN_SECONDS: Final = 2.0  # said more often than this, it is not written again

_log = structlog.get_logger(__name__)


async def _anybody(_conn: Connection) -> None:
    """Lets everybody in who has come this far."""


@dataclass(eq=False)
class Seat:
    """A socket at a place; `knows` is what it was told of, None before it was told anything."""

    id: UUID
    place: Place
    actor: Actor
    say: Callable[[str], None]
    knows: Present | None = field(default=None, repr=False)
    receipts: set[FreshReceipt] = field(default_factory=set, repr=False)
    typed_at: float = 0.0


class Roll:
    """One a process. `changed` is called when somebody of this process came or went, so that others look too."""

    def __init__(
        self, database: Database, changed: Callable[[UUID], None], lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self._database = database
        self._changed = changed
        self._lease_seconds = lease_seconds
        self._seats: defaultdict[UUID, set[Seat]] = defaultdict(set)
        self._telling = asyncio.Lock()
        self._renewed = 0.0
        self._called: set[UUID] = set()
        self._call = asyncio.Event()

    @asynccontextmanager
    async def at(
        self,
        actor: Actor,
        place: Place,
        say: Callable[[str], None],
        refuse: Callable[[Connection], Awaitable[None]] = _anybody,
    ) -> AsyncIterator[Seat]:
        """`actor` is present until the block ends; `say` is given the list of all, then each who comes and goes.

        Raises what `refuse` raises, which is asked in the transaction that lets them in.
        """
        seat = Seat(uuid_utils.uuid7(), place, actor, say)
        async with self._database.acting_as(actor) as conn:
            await refuse(conn)
            await enter(conn, actor, seat.id, place, self._lease_seconds)
        self._seats[actor.tenant_id].add(seat)
        try:
            await self._tell(actor.tenant_id, lambda other: other.place == place)
            self._changed(actor.tenant_id)
            yield seat
        finally:
            self._seats[actor.tenant_id].discard(seat)
            await self._leave(seat)

    async def typing(self, seat: Seat) -> None:
        """Somebody types at the seat; the others at the place are told, and when it has passed."""
        now = asyncio.get_running_loop().time()
        if now - seat.typed_at >= _TYPING_AGAIN_SECONDS:
            seat.typed_at = now
            async with self._database.acting_as(seat.actor) as conn:
                await type_for(conn, seat.id, _TYPING_SECONDS)

    def shut_out(self, tenant_id: UUID, place: Place, user_id: UUID) -> None:
        """The person's seats at the place are told nothing more."""
        seats = self._seats[tenant_id]
        seats -= {seat for seat in seats if seat.place == place and seat.actor.user_id == user_id}

    def call(self, tenants: Collection[UUID]) -> None:
        """Has `run` look now at these tenants' places; at all, where none is named."""
        self._called |= (set(tenants) or self._seats.keys()) & self._seats.keys()
        self._call.set()

    async def run(self) -> None:
        """Until cancelled: tells every socket of this process what has changed at its place, and renews the leases."""
        clock = asyncio.get_running_loop().time
        looked_at = clock()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(looked_at + _LOOK_SECONDS):
                    await self._call.wait()
            self._call.clear()
            called, self._called = self._called, set()
            if clock() >= looked_at + _LOOK_SECONDS:
                called, looked_at = set(self._seats), clock()
            try:
                await self._renew()
                for tenant_id in called:
                    if self._seats.get(tenant_id):
                        await self._tell(tenant_id, lambda _: True)
            except WriteCareError as error:
                _log.warning("roll cannot look who is there", problem=error.slug)

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._renewed >= self._lease_seconds / 3:
            self._renewed = now
            for tenant_id, seats in list(self._seats.items()):
                if seats:
                    async with self._database.acting_as(Actor(tenant_id, NOBODY, "service")) as conn:
                        await renew(conn, [seat.id for seat in seats], self._lease_seconds)

    async def _tell(self, tenant_id: UUID, chosen: Callable[[Seat], bool]) -> None:
        async with self._telling:  # one reading after the other, so that none is told of an older state
            seats = [seat for seat in self._seats[tenant_id] if chosen(seat)]
            places = {seat.place for seat in seats}
            async with self._database.acting_as(Actor(tenant_id, NOBODY, "service")) as conn:
                there = await present(conn, places)
                receipts = await fresh_receipts(conn, [place.id for place in places if place.kind == "conversation"])
            for seat in seats:
                if seat in self._seats[tenant_id]:  # who was shut out meanwhile is told nothing
                    _say_changes(seat, there[seat.place])
                    _say_receipts(seat, receipts.get(seat.place.id, set()))

    async def _leave(self, seat: Seat) -> None:
        try:
            async with self._database.acting_as(seat.actor) as conn:
                await leave(conn, seat.id)
            self._changed(seat.actor.tenant_id)
        except WriteCareError as error:
            _log.warning("a socket's lease is left to lapse", problem=error.slug)


def _say_changes(seat: Seat, there: Present) -> None:
    known = seat.knows
    seat.knows = there
    if known is None:
        _say(seat, "presence", present=sorted(map(str, there.people)))
        known = Present(there.people)
    _say_each(seat, "presence.joined", there.people - known.people)
    _say_each(seat, "presence.left", known.people - there.people)
    _say_each(seat, "typing.started", there.typing - known.typing - {seat.actor.user_id})
    _say_each(seat, "typing.stopped", known.typing - there.typing - {seat.actor.user_id})


def _say_receipts(seat: Seat, fresh: set[FreshReceipt]) -> None:
    for receipt in sorted(fresh - seat.receipts):
        if receipt.user_id != seat.actor.user_id:
            _say(seat, f"receipt.{receipt.kind}", user_id=str(receipt.user_id), up_to=str(receipt.up_to))
    seat.receipts = fresh


def _say_each(seat: Seat, type: str, people: Iterable[UUID]) -> None:
    for user_id in sorted(people):
        _say(seat, type, user_id=str(user_id))


def _say(seat: Seat, type: str, **what: Any) -> None:
    seat.say(json.dumps({"type": type, f"{seat.place.kind}_id": str(seat.place.id), **what}))
