"""The roll: who is present at the places that this process's sockets are at, and telling them of each change.

Its messages are no events of the outbox: they have a `type` that begins with `presence`, no id and no position, and
are not told again to a client that was away, who is given the whole list instead.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import structlog
import uuid_utils.compat as uuid_utils

from comms.database import Actor, Database
from comms.identity.door import NOBODY
from comms.presence.queries import Place, enter, leave, present, renew
from models.errors import WriteCareError

LEASE_SECONDS: Final = 6.0

_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class _Member:
    """A socket at a place; `knows` is whom it was told of, None before it was told anything."""

    id: UUID
    place: Place
    say: Callable[[str], None]
    knows: frozenset[UUID] | None = field(default=None, repr=False)


class Roll:
    """One a process. `changed` is called when somebody of this process came or went, so that others look too."""

    def __init__(self, database: Database, changed: Callable[[], None], lease_seconds: float = LEASE_SECONDS) -> None:
        self._database = database
        self._changed = changed
        self._lease_seconds = lease_seconds
        self._members: defaultdict[UUID, set[_Member]] = defaultdict(set)
        self._calling = asyncio.Lock()
        self._renewed = 0.0

    @asynccontextmanager
    async def at(self, actor: Actor, place: Place, say: Callable[[str], None]) -> AsyncIterator[None]:
        """`actor` is present until the block ends; `say` is given the list of all, then each who comes and goes."""
        member = _Member(uuid_utils.uuid7(), place, say)
        async with self._database.acting_as(actor) as conn:
            await enter(conn, actor, member.id, place, self._lease_seconds)
        self._members[actor.tenant_id].add(member)
        try:
            await self._call(actor.tenant_id)
            self._changed()
            yield
        finally:
            self._members[actor.tenant_id].discard(member)
            await self._leave(actor, member)

    async def look(self) -> None:
        """Tells every socket of this process what has changed at its place, and renews its leases in time."""
        clock = asyncio.get_running_loop().time()
        tenants = [tenant_id for tenant_id, members in self._members.items() if members]
        if clock - self._renewed >= self._lease_seconds / 3:
            self._renewed = clock
            for tenant_id in tenants:
                async with self._database.acting_as(Actor(tenant_id, NOBODY, "service")) as conn:
                    await renew(conn, [member.id for member in self._members[tenant_id]], self._lease_seconds)
        for tenant_id in tenants:
            await self._call(tenant_id)

    async def _call(self, tenant_id: UUID) -> None:
        async with self._calling:  # one reading after the other, so that none is told of an older state
            members = tuple(self._members[tenant_id])
            async with self._database.acting_as(Actor(tenant_id, NOBODY, "service")) as conn:
                there = await present(conn, {member.place for member in members})
            for member in members:
                _tell(member, there[member.place])

    async def _leave(self, actor: Actor, member: _Member) -> None:
        try:
            async with self._database.acting_as(actor) as conn:
                await leave(conn, member.id)
            self._changed()
        except WriteCareError as error:
            _log.warning("a socket's lease is left to lapse", problem=error.slug)


def _tell(member: _Member, there: frozenset[UUID]) -> None:
    about = {f"{member.place.kind}_id": str(member.place.id)}
    if member.knows is None:
        member.say(json.dumps({"type": "presence", **about, "present": sorted(map(str, there))}))
    else:
        for user_id in sorted(there - member.knows):
            member.say(json.dumps({"type": "presence.joined", **about, "user_id": str(user_id)}))
        for user_id in sorted(member.knows - there):
            member.say(json.dumps({"type": "presence.left", **about, "user_id": str(user_id)}))
    member.knows = there
