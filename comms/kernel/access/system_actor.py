"""The actor with which the platform itself reads the database before it knows who sends the request.

Its role `door` is in no table of roles, so no token can have it. Row-level security shows it only what sign-in needs
(hashes, sign-ins), and no care data that requires a role.
"""

from typing import Final
from uuid import UUID

from comms.kernel.database import Actor, RequestOrigin

NIL_UUID: Final = UUID(int=0)
_NO_ORIGIN: Final = RequestOrigin()


def system_actor(tenant_id: UUID = NIL_UUID, user_id: UUID = NIL_UUID, origin: RequestOrigin = _NO_ORIGIN) -> Actor:
    """The system actor of a tenant, or of none without `tenant_id`. Pass `user_id` when you know for whom it acts."""
    return Actor(tenant_id, user_id, "door", origin=origin)
