"""The door: as whom the house itself looks while it finds out who is knocking.

The role `system_actor` is in no table of roles, so no token can carry it; row-level security shows it what is needed to let
somebody in (hashes, sign-ins), and no care data that it asks a role for.
"""

from typing import Final
from uuid import UUID

from comms.kernel.database import Actor, RequestOrigin

NIL_UUID: Final = UUID(int=0)
_NO_ORIGIN: Final = RequestOrigin()


def system_actor(tenant_id: UUID = NIL_UUID, user_id: UUID = NIL_UUID, origin: RequestOrigin = _NO_ORIGIN) -> Actor:
    """The door of a tenant, or of nobody's where it is not yet known; `user_id` once it is known whose act it is."""
    return Actor(tenant_id, user_id, "door", origin=origin)
