"""Presence leases: which users are connected to a session or conversation now, over all processes.

Each socket has a row, which is valid until its lease expires. A killed process renews no lease, so its users disappear
after a few seconds. A user with several sockets is present once. The row also has the time until which the user types.
"""

from collections.abc import Collection
from typing import Final, Literal, NamedTuple
from uuid import UUID

from comms.kernel.database import Actor, Connection

PRESENCE_CHANNEL: Final = "presence"  # NOTIFY channel: a lease was added or deleted; the payload has the tenant ids


class PresenceScope(NamedTuple):
    """A session or a conversation, in which users can be present."""

    kind: Literal["session", "conversation"]
    id: UUID


class PresenceState(NamedTuple):
    """Who is present in a scope, and which of them type."""

    people: frozenset[UUID] = frozenset()
    typing: frozenset[UUID] = frozenset()


async def insert_lease(conn: Connection, actor: Actor, id: UUID, scope: PresenceScope, lease_seconds: float) -> None:
    """Adds a lease: the socket `id` of the actor is present in the scope until the lease expires."""
    await conn.execute(
        "insert into presences (tenant_id, id, place_type, place_id, user_id, leased_until) "
        "values (%s, %s, %s, %s, %s, now() + make_interval(secs => %s))",
        (actor.tenant_id, id, scope.kind, scope.id, actor.user_id, lease_seconds),
    )


async def delete_lease(conn: Connection, id: UUID) -> None:
    """Deletes the lease of a socket."""
    await conn.execute("delete from presences where id = %s", (id,))


async def set_typing(conn: Connection, id: UUID, seconds: float) -> None:
    """Stores that the user of the socket `id` types, for this time."""
    await conn.execute(
        "update presences set typing_until = now() + make_interval(secs => %s) where id = %s", (seconds, id)
    )


async def renew_leases(conn: Connection, ids: Collection[UUID], lease_seconds: float) -> None:
    """Renews the leases of these sockets and deletes the expired leases of the tenant."""
    await conn.execute(
        "update presences set leased_until = now() + make_interval(secs => %s) where id = any(%s)",
        (lease_seconds, list(ids)),
    )
    await conn.execute("delete from presences where leased_until < now()")


async def present(conn: Connection, scopes: Collection[PresenceScope]) -> dict[PresenceScope, PresenceState]:
    """Returns who is present in each scope now (each user once), and who types there."""
    found = await conn.execute(
        "select p.place_type, p.place_id, array_agg(distinct p.user_id) as people, coalesce(array_agg(distinct "
        "p.user_id) filter (where p.typing_until >= now()), '{}') as typing from presences p "
        "join unnest(%s::text[], %s::uuid[]) as asked (place_type, place_id) using (place_type, place_id) "
        "where p.leased_until >= now() group by p.place_type, p.place_id",
        ([scope.kind for scope in scopes], [scope.id for scope in scopes]),
    )
    there = {
        PresenceScope(row["place_type"], row["place_id"]): PresenceState(
            frozenset(row["people"]), frozenset(row["typing"])
        )
        async for row in found
    }
    return {scope: there.get(scope, PresenceState()) for scope in scopes}
