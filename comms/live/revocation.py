"""Finds sockets to disconnect: the sign-in ended, the account was closed, or the person left the session."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from comms.calls.sessions.attendance import sees_only_own_sessions, still_participating
from comms.identity.sign_ins.queries import find_ended
from comms.kernel.access.system_actor import system_actor
from comms.kernel.database import Database
from comms.live.subscription import Subscription
from models.contract.errors import Kind, WriteCareError, missing

_ENDED: Final = "This sign-in has ended: sign in again."


async def find_revoked_subscriptions(
    database: Database, tenant_id: UUID, sockets: Sequence[Subscription]
) -> dict[Subscription, WriteCareError]:
    """Returns those sockets of one tenant that must be disconnected, each with its error."""
    async with database.acting_as(system_actor(tenant_id)) as conn:
        sign_ins = {s.actor.sign_in_id for s in sockets if s.actor.sign_in_id is not None}
        ended = await find_ended(conn, sign_ins, {s.actor.user_id for s in sockets})
        participating = await still_participating(
            conn, {pair for s in sockets if (pair := _required_participation(s)) is not None}
        )
    found: dict[Subscription, WriteCareError] = {}
    for socket in sockets:
        if socket.actor.sign_in_id in ended or socket.actor.user_id in ended:
            found[socket] = WriteCareError(Kind.UNAUTHENTICATED, "sign-in-ended", _ENDED)
        elif (pair := _required_participation(socket)) is not None and pair not in participating:
            found[socket] = missing("session")
    return found


def _required_participation(socket: Subscription) -> tuple[UUID, UUID] | None:
    """The session and user whose participation the socket requires; None if the role may see every session."""
    if socket.session_id is None or not sees_only_own_sessions(socket.actor):
        return None
    return socket.session_id, socket.actor.user_id
