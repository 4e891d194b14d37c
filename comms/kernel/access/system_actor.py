"""The door: as whom the house itself looks while it finds out who is knocking.

The role `door` is in no table of roles, so no token can carry it; row-level security shows it what is needed to let
somebody in (hashes, sign-ins), and no care data that it asks a role for.
"""

from typing import Final
from uuid import UUID

from comms.kernel.database import Actor, Origin

NOBODY: Final = UUID(int=0)
_INSIDE: Final = Origin()


def door(tenant_id: UUID = NOBODY, user_id: UUID = NOBODY, origin: Origin = _INSIDE) -> Actor:
    """The door of a tenant, or of nobody's where it is not yet known; `user_id` once it is known whose act it is."""
    return Actor(tenant_id, user_id, "door", origin=origin)
