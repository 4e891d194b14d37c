"""Presence: who is connected at a place (a session, a conversation) now, whichever process holds their socket.

A row for each socket, good until its lease has passed: a process that is killed renews nothing, and its people are
gone a moment later. Somebody with several sockets is there once. That somebody types is a time in that row, which
passes by itself.
"""

from collections.abc import Collection
from typing import Final, Literal, NamedTuple
from uuid import UUID

from comms.kernel.database import Actor, Connection

PRESENCE_CHANNEL: Final = (
    "presence"  # the channel on which a process says that somebody came or went, and of which tenants
)


class PresenceScope(NamedTuple):
    """Where people can be present."""

    kind: Literal["session", "conversation"]
    id: UUID


class PresenceState(NamedTuple):
    """Who is at a place, and which of them type."""

    people: frozenset[UUID] = frozenset()
    typing: frozenset[UUID] = frozenset()


async def insert_lease(conn: Connection, actor: Actor, id: UUID, scope: PresenceScope, lease_seconds: float) -> None:
    """The actor's socket `id` is at the place until its lease passes."""
    await conn.execute(
        "insert into presences (tenant_id, id, place_type, place_id, user_id, leased_until) "
        "values (%s, %s, %s, %s, %s, now() + make_interval(secs => %s))",
        (actor.tenant_id, id, scope.kind, scope.id, actor.user_id, lease_seconds),
    )


async def delete_lease(conn: Connection, id: UUID) -> None:
    """The socket is gone."""
    await conn.execute("delete from presences where id = %s", (id,))


async def set_typing(conn: Connection, id: UUID, seconds: float) -> None:
    """At the socket `id` somebody types, for so long."""
    await conn.execute(
        "update presences set typing_until = now() + make_interval(secs => %s) where id = %s", (seconds, id)
    )


async def renew_leases(conn: Connection, ids: Collection[UUID], lease_seconds: float) -> None:
    """Renews the leases of these sockets and sweeps what has lapsed of the tenant."""
    await conn.execute(
        "update presences set leased_until = now() + make_interval(secs => %s) where id = any(%s)",
        (lease_seconds, list(ids)),
    )
    await conn.execute("delete from presences where leased_until < now()")


async def present(conn: Connection, scopes: Collection[PresenceScope]) -> dict[PresenceScope, PresenceState]:
    """Who is at each of these places now, everybody once, and who types there."""
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
